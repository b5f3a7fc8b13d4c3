"""Bytecode is loaded from the places that the operator chose, and from nowhere else (C2).

What: the import system's loaders and path hook, told which directories to trust.  Because: a
guest can write ``.pyc`` files, and a program that imports from ``/work`` means the source that
lies there.  Then: elsewhere the source is compiled, and bytecode without source is not found.

Shape, not wall: code objects can be made by hand, and at worst crash the guest.
"""

from __future__ import annotations

import _frozen_importlib_external as external
import _imp
import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any


def read_bytecode_only_from(trusted: list[str]) -> None:
    """No ``.pyc`` file is loaded from any place but these (C2).

    The loaders themselves refuse it, because a specification made for a file by its path
    (``importlib.util.spec_from_file_location``) asks no path hook.  The hook is for files
    without source: elsewhere they are not found, so that a search goes on.
    """
    import zipimport

    usual = sys.path_hooks[-1]
    roots = tuple(root + "/" for root in trusted)

    def trusts(place: str) -> bool:
        return place.startswith(roots) and "/../" not in place

    def hook(path: str) -> Any:
        return usual(path) if trusts(path + "/") else source_only(path)

    source_only = external.FileFinder.path_hook(
        (external.SourceFileLoader, external.SOURCE_SUFFIXES),
        (external.ExtensionFileLoader, _imp.extension_suffixes()),
    )
    sys.path_hooks[-1] = hook

    code_of_source = external.SourceFileLoader.get_code
    code_of_bytecode = external.SourcelessFileLoader.get_code

    def from_source(self: Any, fullname: str) -> Any:
        path = self.get_filename(fullname)
        if trusts(path):
            return code_of_source(self, fullname)
        return self.source_to_code(self.get_data(path), path)

    def from_bytecode(self: Any, fullname: str) -> Any:
        path = self.get_filename(fullname)
        if trusts(path):
            return code_of_bytecode(self, fullname)
        raise ImportError("bytecode here is not trusted", name=fullname, path=path)

    for loader, get_code in (
        (external.SourceFileLoader, from_source),
        (external.SourcelessFileLoader, from_bytecode),
    ):
        # Under this name tracebacks leave the frame out, as all of the import system's.
        file = code_of_bytecode.__code__.co_filename
        get_code.__code__ = get_code.__code__.replace(co_filename=file, co_name="get_code")
        get_code.__name__ = get_code.__qualname__ = "get_code"
        setattr(loader, "get_code", get_code)  # noqa: B010
    # Rows are (suffix, is bytecode, is a package).
    zipimport._zip_searchorder = tuple(  # type: ignore[attr-defined]
        row
        for row in zipimport._zip_searchorder  # type: ignore[attr-defined]
        if not row[1]
    )
