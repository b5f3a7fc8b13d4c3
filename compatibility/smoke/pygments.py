"""Source text, coloured for HTML and for a terminal."""

from pygments import highlight, lex
from pygments.formatters import HtmlFormatter, TerminalFormatter
from pygments.lexers import get_lexer_by_name
from pygments.token import Keyword

source = "def f(x):\n    return x + 1\n"
lexer = get_lexer_by_name("python")
all(
    (
        '<span class="k">return</span>' in highlight(source, lexer, HtmlFormatter()),
        "\x1b[" in highlight(source, lexer, TerminalFormatter()),
        [text for kind, text in lex(source, lexer) if kind is Keyword] == ["def", "return"],
    )
)
