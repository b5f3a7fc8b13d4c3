"""Text to HTML, with tables and code."""

import markdown

text = "# Title\n\nSome *words*.\n\n| a | b |\n|---|---|\n| 1 | 2 |\n\n```\nx < 1\n```\n"
page = markdown.markdown(text, extensions=["tables", "fenced_code", "toc"])
all(
    (
        '<h1 id="title">Title</h1>' in page,
        "<em>words</em>" in page,
        "<td>2</td>" in page,
        "x &lt; 1" in page,
    )
)
