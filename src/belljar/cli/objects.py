"""What a result looks like to a program: one JSON object on one line.

What: every field of ``Result``, bytes as text, the value as JSON where JSON can hold it.
Because: whoever reads it must be able to tell ``float("nan")``, bytes or a set from what
JSON has words for.  Then: such a value is ``null``, and ``value_repr`` holds its ``repr``.
A tuple is an array.  ``status`` is ``failed`` where there was no run, with the reason in
``error``.
"""

from __future__ import annotations

import json

from ..policy.checks import is_bunch, is_dict

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from typing import Any

    from ..files import File, Saved
    from ..result import Result

MAX_INT_BITS = 14_000  # 4,214 digits: int() and str() refuse more than 4,300, here and elsewhere


def result_object(
    result: Result, shown: Sequence[dict[str, str]] = (), saved: Saved | None = None
) -> str:
    """A run that took place, as JSON and a newline.

    ``shown``: files of its artifacts, by type; ``saved``: where its own files are now.
    """
    fields = _empty(result.status)
    if fits_json(result.value):
        fields["value"] = result.value
    else:
        fields["value_repr"] = show(result.value)
    if result.value_error is not None:
        fields["value_error"] = result.value_error
    fields["stdout"] = result.stdout_bytes.decode("utf-8", "backslashreplace")
    fields["stderr"] = result.stderr_bytes.decode("utf-8", "backslashreplace")
    if result.error is not None:
        fields["error"] = _record(result.error)
    if result.limit is not None:
        fields["limit"] = _record(result.limit)
    fields["signal"] = result.signal
    fields["exit_code"] = result.exit_code
    fields["denials"] = [_record(denial) for denial in result.denials]
    if result.artifacts:
        from .artifacts import artifact_object

        files: Sequence[dict[str, str]] = shown or [{} for _ in result.artifacts]
        pairs = zip(result.artifacts, files, strict=True)
        fields["artifacts"] = [artifact_object(artifact, paths) for artifact, paths in pairs]
    fields["usage"] = _record(result.usage)
    if result.left is not None:
        where: Mapping[str, str] = {} if saved is None else saved.files
        fields["files"] = [_file(file, where.get(file.name)) for file in result.files.values()]
    fields["truncated"] = list(result.truncated)
    return _dumps(fields)


def failure_object(error: Exception) -> str:
    """The same object where nothing ran, or belljar itself failed."""
    fields = _empty("failed")
    fields["error"] = {
        "type": type(error).__name__,
        "message": str(error),
        "traceback": "",
        "notes": [],
    }
    return _dumps(fields)


def fits_json(value: object) -> bool:
    """Whether JSON can hold it and give it back (a tuple as an array)."""
    todo: list[Any] = [value]
    while todo:
        one = todo.pop()
        if isinstance(one, bool) or one is None or isinstance(one, str):
            continue
        if isinstance(one, int):
            if one.bit_length() > MAX_INT_BITS:
                return False
        elif isinstance(one, float):
            if one - one != 0:  # not finite
                return False
        elif is_bunch(one) and not isinstance(one, (set, frozenset)):
            todo.extend(one)
        elif is_dict(one):
            if not all(isinstance(key, str) for key in one):
                return False
            todo.extend(one.values())
        else:
            return False
    return True


def show(value: object) -> str:
    """The ``repr`` of a decoded value; a whole number too long for it in hexadecimal."""
    try:
        return repr(value)
    except ValueError:
        return hex(value) if isinstance(value, int) else f"<{type(value).__name__}: too long>"


def _empty(status: str) -> dict[str, Any]:
    return {
        "status": status,
        "value": None,
        "stdout": "",
        "stderr": "",
        "error": None,
        "limit": None,
        "signal": None,
        "exit_code": None,
        "denials": [],
        "artifacts": [],
        "files": [],
        "usage": None,
        "truncated": [],
    }


def _file(file: File, saved: str | None) -> dict[str, Any]:
    name = file.name.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")
    return {"name": name, "kind": file.kind, "size": file.size, "saved": saved}


def _record(record: Any) -> dict[str, Any]:
    return {name: getattr(record, name) for name in record._fields}


def _dumps(fields: dict[str, Any]) -> str:
    # DEL is the one control character that json does not escape.
    return json.dumps(fields, allow_nan=False).replace("\x7f", "\\u007f") + "\n"
