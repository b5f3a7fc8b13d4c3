"""What the code shows: ``display``, and the value that a program ends with.

What: an object is asked for its representations as IPython would ask it, and they go to the host
as one artifact.  Because: libraries know that protocol, and data is all that may cross.  Then:
number and size are counted here as the host counts them, and what is more is left out, with a
word about it at the end of the run.

A convenience; the host bounds what it takes, and believes none of it.
"""

from __future__ import annotations

import sys

from ..wire.errors import LocalError
from ..wire.events import Artifact
from ..wire.limits import (
    ARTIFACT_ROOM,
    ARTIFACTS_PER_RUN,
    LABEL_CHARS,
    MEDIA_TYPE_CHARS,
    MESSAGE,
    METADATA,
    METADATA_CHARS,
    REPRESENTATIONS,
)
from ..wire.schema import Mismatch, media_type, scalar
from . import imports

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping
    from typing import Any, TypeGuard

    from ..wire.events import Event

    Shown = tuple[dict[str, Any], Mapping[str, Any], str]  # representations, metadata, name

MOST_BYTES = MESSAGE.frame_bytes - ARTIFACT_ROOM  # of one artifact
_MAX_PLAIN = 64 * 1024  # characters of a repr: what is longer is data
_PLAIN = "text/plain"
# https://ipython.readthedocs.io/en/stable/config/integrating.html
_METHODS = {
    "_repr_html_": "text/html",
    "_repr_markdown_": "text/markdown",
    "_repr_svg_": "image/svg+xml",
    "_repr_png_": "image/png",
    "_repr_jpeg_": "image/jpeg",
    "_repr_latex_": "text/latex",
    "_repr_json_": "application/json",
    "_repr_pdf_": "application/pdf",
}
_BUNDLE, _BY_ITSELF = "_repr_mimebundle_", "_ipython_display_"
_ALL_METHODS = (_BY_ITSELF, _BUNDLE, *_METHODS)
_ORDINARY = frozenset(
    [type(None), bool, int, float, complex, str, bytes, list, tuple, dict, set, frozenset]
)
# How to show what does not say it, by the module and name of a class; see ``_represent``.
special: dict[tuple[str, str], Callable[[Any, bool], Shown | None]] = {}

_modules: dict[str, Any] = {}  # that were needed
forget_refused: Callable[[], object] = object  # takes out of sys.modules what the code may not have

_type: Any = type  # so that the checkers leave what it is compared with alone
_check_type = media_type(MEDIA_TYPE_CHARS)
_check_scalar = scalar(METADATA_CHARS)
_speak: Callable[[Event], None] | None = None
_run_id = 0
_left = 0
_left_bytes = 0
_cut = False


def begin(speak: Callable[[Event], None], run_id: int, most_bytes: int) -> None:
    """A run begins."""
    global _speak, _run_id, _left, _left_bytes, _cut
    _speak, _run_id = speak, run_id
    _left, _left_bytes, _cut = ARTIFACTS_PER_RUN, most_bytes, False


def end() -> bool:
    """The run is over: nobody listens any more.  Whether something was left out."""
    global _speak
    _speak = None
    return _cut


def display(
    *objects: Any,
    include: Iterable[str] | None = None,
    exclude: Iterable[str] | None = None,
    metadata: Mapping[str, Any] | None = None,
    raw: bool = False,
    name: str = "",
) -> None:
    """Show objects to whoever runs this program, each as one artifact.

    An object says by IPython's protocol (``_repr_html_`` and its kin) what it looks like; one
    that says nothing is printed.

    Args:
        include: media types to be shown and no others.
        exclude: media types not to be shown.
        metadata: numbers and short texts that go with it, such as ``width``.
        raw: the objects are dicts from media type to text, bytes or, for JSON, plain data.
        name: what to call it.
    """
    for one in objects:
        if raw:
            forms, more, called = dict(one), metadata or {}, ""
        else:
            shown = _represent(one, include, exclude)
            if shown is None:
                continue  # it has shown itself
            forms, more, called = shown
            more = {**more, **(metadata or {})}
        wanted = set(forms) if include is None else set(include)
        wanted -= set(exclude or ())
        forms = {kind: form for kind, form in forms.items() if kind in wanted}
        if not raw and not set(forms) - {_PLAIN}:
            print(_plain(one))
        else:
            show(forms, more, name or called)


def show_value(value: object) -> None:
    """The value that a program ends with is shown if it has more to it than a ``repr``."""
    if type(value) in _ORDINARY:
        return
    try:
        rich = _special(value) or any(_has(value, name) for name in _ALL_METHODS)
    except Exception as exception:
        del exception  # a class of the code's that answers no questions
        return
    if rich:
        shown = _represent(value, None, None, again=False)
        if shown is not None and set(shown[0]) - {_PLAIN}:
            show(*shown)


def show(forms: Mapping[str, Any], metadata: Mapping[str, Any], name: str) -> None:
    """Send one artifact, or note that it is left out; a form that makes no sense is left out."""
    global _left, _left_bytes, _cut
    made: dict[str, bytes] = {}
    for kind, form in list(forms.items())[:REPRESENTATIONS]:
        try:
            known = _known(kind)
            data = _octets(known, form)
        except (ImportError, TypeError, ValueError, RecursionError) as exception:
            complain(f"display of {str(kind)[:MEDIA_TYPE_CHARS]}", exception)
            continue
        if data is not None:
            made[known] = data
    speak, size = _speak, sum(map(len, made.values()))
    if not made or speak is None:
        return
    if not _left or size > min(_left_bytes, MOST_BYTES):
        _cut = True
        return
    try:
        speak(Artifact(_run_id, _text(name, LABEL_CHARS), made, _small(metadata)))
    except LocalError:
        return  # a thread that came too late: the run is over
    _left -= 1
    _left_bytes -= size


def complain(what: str, exception: Exception) -> None:
    """Something could not be shown: a line for the author, and the program goes on."""
    try:
        line = f"{what}: {type(exception).__name__}: {exception}"[:_MAX_PLAIN]
        print(line, file=sys.stderr)
    except Exception as trouble:
        del trouble


# --- what an object looks like ---------------------------------------------------------------


def _represent(
    one: Any, include: Iterable[str] | None, exclude: Iterable[str] | None, again: bool = True
) -> Shown | None:
    """Its representations, metadata and name; None if it has shown itself.

    ``again``: also if it looks as it did when it was last shown.
    """
    make = _special(one)
    if make is not None:
        return make(one, again)
    if _has(one, _BY_ITSELF):
        try:
            getattr(one, _BY_ITSELF)()
        except NotImplementedError:
            pass
        else:
            return None
    forms: dict[str, Any] = {}
    more: dict[str, Any] = {}
    if _has(one, _BUNDLE):
        found = _ask(one, _BUNDLE, include=include, exclude=exclude)
        bundle, about = _with_metadata(found)
        if is_dict(bundle):
            forms.update(bundle)
            more.update(_flat(about))
    for name, kind in _METHODS.items():
        # Who has made a PNG need not make a JPEG of the same picture.
        again = name == "_repr_jpeg_" and "image/png" in forms
        if kind in forms or again or not _has(one, name):
            continue
        found, about = _with_metadata(_ask(one, name))
        more.update(_flat(about))
        if found is not None:
            forms[kind] = found
    if forms:
        forms.setdefault(_PLAIN, _plain(one))
    return forms, more, type(one).__name__.lower()


def _with_metadata(found: Any) -> tuple[Any, Any]:
    """What a method gave, and what it said about it, if anything."""
    return (found[0], found[1]) if _type(found) is tuple and len(found) == 2 else (found, None)


def _special(one: object) -> Callable[[Any, bool], Shown | None] | None:
    if special:
        for kind in type(one).__mro__:
            make = special.get((kind.__module__, kind.__name__))
            if make is not None:
                return make
    return None


def _has(one: object, name: str) -> bool:
    # Of the class: an object that has every attribute one asks for is none that shows itself.
    return getattr(type(one), name, None) is not None


def _ask(one: Any, name: str, **how: Any) -> Any:
    try:
        return getattr(one, name)(**how)
    except MemoryError:
        raise
    except Exception as exception:
        complain(f"{type(one).__name__}.{name}", exception)
        return None


def _plain(one: object) -> str:
    try:
        return repr(one)[:_MAX_PLAIN]
    except MemoryError:
        raise
    except Exception as exception:
        return f"<{type(one).__name__}: repr raised {type(exception).__name__}>"


# --- what of it crosses ----------------------------------------------------------------------


def _known(kind: Any) -> str:
    """A media type as it crosses: small letters, no parameters."""
    try:
        checked: str = _check_type(str(kind).partition(";")[0].strip().lower())
    except Mismatch:
        raise ValueError(f"{str(kind)[:200]!r} is not a media type") from None
    return checked


def _octets(kind: str, form: Any) -> bytes | None:
    """A representation as bytes: text in UTF-8, JSON from data, the rest perhaps from base64."""
    if form is None:
        return None
    if issubclass(type(form), (bytes, bytearray, memoryview)):
        return bytes(form)
    if not isinstance(form, str):
        if kind.endswith("json"):
            text: str = _module("json").dumps(form)
            return text.encode()
        form = str(form)
    top = kind.partition("/")[0]
    if kind == "application/pdf" or (top in ("image", "audio", "video") and kind[-4:] != "+xml"):
        return _module("binascii").a2b_base64(form)  # type: ignore[no-any-return]
    return str(form).encode("utf-8", "replace")


def is_dict(value: Any) -> TypeGuard[dict[Any, Any]]:
    """Whether it is a dict."""
    return isinstance(value, dict)


def _module(name: str) -> Any:
    """A module of the standard library's, which the policy may block for the code."""
    if name not in _modules:
        imports.lift()
        try:
            _modules[name] = __import__(name)
        finally:
            imports.restrict()
            forget_refused()
    return _modules[name]


def _flat(metadata: Any) -> dict[str, Any]:
    """IPython's metadata, with that of a media type beside that of the whole."""
    flat: dict[str, Any] = {}
    if is_dict(metadata):
        for key, value in metadata.items():
            flat.update(value if is_dict(value) else {key: value})
    return flat


def _small(metadata: Mapping[str, Any]) -> dict[str, Any]:
    """What of it is a number or a short text."""
    small: dict[str, Any] = {}
    for key, value in metadata.items():
        try:
            if type(key) is str and len(key) <= LABEL_CHARS and len(small) < METADATA:
                small[key] = _check_scalar(value)
        except Mismatch as mismatch:
            del mismatch
    return small


def _text(name: Any, chars: int) -> str:
    return str(name)[:chars]


display.__module__ = "belljar"
