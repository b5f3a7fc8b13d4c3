"""How a host function looks inside: a definition as source, which the guest's agent executes.

What: name, parameters, defaults, annotations as text, docstring; the body asks the host.  Because:
what is made by ``def`` has a signature, a help text and Python's own errors for wrong arguments,
with nothing asked of the host for them.  Then: the text is the host's, from the host's function.
"""

from __future__ import annotations

import inspect
import keyword
from typing import Any

from ..errors import PolicyError
from ..wire.limits import LABEL_CHARS

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

ASK, ASK_AWAITED, LEFT_OUT = "_belljar_ask", "_belljar_ask_awaited", "_belljar_left_out"
_DOC_CHARS = 16 * 2**10  # longer than any help text that a person or a model reads
_TEXT_CHARS = 200  # of an annotation or a default
_PLAIN = (type(None), bool, int, float, str, bytes)
_type: Any = type  # so that the checkers leave what it is compared with alone
_Kind = inspect.Parameter
_STARS: dict[object, str] = {_Kind.VAR_POSITIONAL: "*", _Kind.VAR_KEYWORD: "**"}


def check_name(name: object) -> str:
    """A name that the code can use; raises ``PolicyError``."""
    if not isinstance(name, str) or not name.isidentifier() or keyword.iskeyword(name):
        raise PolicyError("functions", f"{name!r} is not a Python name")
    if name.startswith("__"):
        raise PolicyError("functions", f"{name!r}: such names belong to Python")
    if name.startswith("_belljar"):
        raise PolicyError("functions", f"{name!r}: such names belong to belljar")
    if not _as_compiled(name):
        raise PolicyError("functions", f"{name!r}: Python would take it for another name (NFKC)")
    if len(name) > LABEL_CHARS:
        raise PolicyError("functions", f"{name[:20]}...: longer than {LABEL_CHARS} characters")
    return name


def _as_compiled(name: str) -> bool:
    """Whether the compiler leaves the name as it is."""
    if name.isascii():
        return True
    import unicodedata

    return unicodedata.normalize("NFKC", name) == name


def is_awaited(function: Callable[..., Any]) -> bool:
    """Whether calling it makes something to be awaited."""
    call: Any = getattr(type(function), "__call__", None)  # noqa: B004 - of an instance
    return inspect.iscoroutinefunction(function) or inspect.iscoroutinefunction(call)


def definition(name: str, function: Callable[..., Any]) -> str:
    """The source of the stand-in."""
    try:
        signature = inspect.signature(function)
    except (TypeError, ValueError):
        signature = None
    parameters = _any() if signature is None else list(signature.parameters.values())
    if not _callable_as_written(parameters):
        parameters = _any()
    awaited = is_awaited(function)
    returns = "" if signature is None else _annotation(signature.return_annotation, " -> ")
    doc = (inspect.getdoc(function) or "") if inspect.isroutine(function) else ""
    positional, named = _forwarded(parameters)
    ask = f"await {ASK_AWAITED}" if awaited else ASK
    return (
        f"{'async ' if awaited else ''}def {name}({_parameters(parameters)}){returns}:\n"
        f"    {doc[:_DOC_CHARS]!r}\n"
        f"    return {ask}({name!r}, {positional}, {named})\n"
    )


def _any() -> list[inspect.Parameter]:
    return [
        _Kind("args", _Kind.VAR_POSITIONAL),
        _Kind("kwargs", _Kind.VAR_KEYWORD),
    ]


def _callable_as_written(parameters: list[inspect.Parameter]) -> bool:
    """Whether the stand-in can tell what was given from what was left out."""
    names = {parameter.name for parameter in parameters}
    if names & {ASK, ASK_AWAITED, LEFT_OUT} or not all(_is_writable(name) for name in names):
        return False
    unclear = False
    for parameter in parameters:
        if parameter.kind in (_Kind.POSITIONAL_ONLY, _Kind.VAR_POSITIONAL) and unclear:
            return False
        if parameter.kind is _Kind.POSITIONAL_ONLY and not _is_plain(parameter.default):
            return False
        if parameter.kind is _Kind.POSITIONAL_OR_KEYWORD:
            unclear = unclear or not _is_plain(parameter.default)
    return True


def _is_writable(name: str) -> bool:
    return name.isidentifier() and not keyword.iskeyword(name) and _as_compiled(name)


def _is_plain(default: object) -> bool:
    """Whether it can be written as source, or there is none."""
    if default is _Kind.empty:
        return True
    if _type(default) is tuple:
        parts: Any = default
        return all(_is_plain(part) for part in parts) and len(repr(parts)) <= _TEXT_CHARS
    if type(default) is float and (default != default or default in (float("inf"), -float("inf"))):
        return False
    if type(default) is int and default.bit_length() > _TEXT_CHARS:
        return False  # a long one cannot even be printed
    return type(default) in _PLAIN and len(repr(default)) <= _TEXT_CHARS


def _parameters(parameters: list[inspect.Parameter]) -> str:
    written: list[str] = []
    star = any(each.kind is _Kind.VAR_POSITIONAL for each in parameters)
    for index, each in enumerate(parameters):
        before = parameters[index - 1].kind if index else None
        if before is _Kind.POSITIONAL_ONLY and each.kind is not _Kind.POSITIONAL_ONLY:
            written.append("/")
        if each.kind is _Kind.KEYWORD_ONLY and not star:
            written.append("*")
            star = True
        text = _STARS.get(each.kind, "")
        text += each.name + _annotation(each.annotation, ": ")
        if each.default is not _Kind.empty:
            text += f" = {each.default!r}" if _is_plain(each.default) else f" = {LEFT_OUT}"
        written.append(text)
    if parameters and parameters[-1].kind is _Kind.POSITIONAL_ONLY:
        written.append("/")
    return ", ".join(written)


def _annotation(annotation: object, before: str) -> str:
    if annotation is _Kind.empty:
        return ""
    text = annotation if isinstance(annotation, str) else inspect.formatannotation(annotation)
    return f"{before}{text[:_TEXT_CHARS]!r}"


def _forwarded(parameters: list[inspect.Parameter]) -> tuple[str, str]:
    """The expressions for what is given by position and by name."""
    positional: list[str] = []
    named: list[str] = []
    unclear = False  # from here on by name, because something before may have been left out
    for each in parameters:
        unclear = unclear or not _is_plain(each.default)
        if each.kind is _Kind.VAR_POSITIONAL:
            positional.append(f"*{each.name}")
        elif each.kind is _Kind.VAR_KEYWORD:
            named.append(f"**{each.name}")
        elif each.kind is _Kind.KEYWORD_ONLY or unclear:
            if _is_plain(each.default):
                named.append(f"{each.name!r}: {each.name}")
            else:
                named.append(
                    f"**({{}} if {each.name} is {LEFT_OUT} else {{{each.name!r}: {each.name}}})"
                )
        else:
            positional.append(each.name)
    return f"[{', '.join(positional)}]", f"{{{', '.join(named)}}}"
