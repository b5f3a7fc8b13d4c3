"""Imports inside: what is refused by name, what stands in, what is done after a module loads.

What: one finder before all others, and a path hook that reads no bytecode outside the trusted
places.  Because: the kernel keeps the files of refused C modules away, but not those that are
part of the binary, and a plain "no such file" tells nobody what to grant.  Then: imports of
refused names raise ``ModuleRefused``; modules that the runtime loaded for itself are out of
``sys.modules``; everything else goes its usual way.

Shape, not wall, except where the file is not there.
"""

from __future__ import annotations

import _frozen_importlib_external as external
import _imp
import sys

from .refusals import refused_function, refused_module

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from types import ModuleType
    from typing import Any

BLOCK = 0  # as in policy.rules, which is not here
# What ``site`` has loaded in every ordinary interpreter: code relies on finding it there.
ORDINARY = frozenset(
    [
        "_collections_abc",
        "_sitebuiltins",
        "_stat",
        "genericpath",
        "os",
        "os.path",
        "posixpath",
        "stat",
    ]
)


# os.wait4 imports it, in C, each time it is called.
OF_THE_ZYGOTE = frozenset(["resource"])
_lifted = False


def lift() -> None:
    """Let the agent import what it needs to report on a run that is over."""
    global _lifted
    _lifted = True


class Imports:
    """The first finder of ``sys.meta_path``."""

    def __init__(self, stand_ins: dict[str, str]) -> None:
        self._stand_ins = stand_ins
        self._refused: frozenset[str] = frozenset()
        self._rules: dict[str, int] = {}
        self._after: dict[str, list[Callable[[Any], None]]] = {}
        self._note: Callable[[str, str, str], None] | None = None

    def refuse(
        self,
        names: Iterable[str],
        rules: Iterable[tuple[str, int]],
        note: Callable[[str, str, str], None],
    ) -> None:
        """From now on refuse C modules by name and packages by pattern; ``note`` is told."""
        self._refused = frozenset(names)
        self._rules = dict(rules)
        self._note = note
        for name in list(sys.modules):
            if self._is_refused(name):
                del sys.modules[name]

    def refuse_nothing(self) -> None:
        """As it was before ``refuse``."""
        self._refused, self._rules, self._note = frozenset(), {}, None

    def after(self, name: str, act: Callable[[Any], None]) -> None:
        """Do something to a module once it is loaded, at once if it is."""
        module = sys.modules.get(name)
        if module is not None:
            act(module)
        self._after.setdefault(name, []).append(act)

    def find_spec(self, name: str, path: Any = None, target: Any = None) -> Any:
        """Part of the import protocol (``importlib.abc.MetaPathFinder``)."""
        file = self._stand_ins.get(name)
        if file is not None:
            return external.spec_from_file_location(name, file)
        if self._note is not None and not _lifted and self._is_refused(name):
            grant = f'allow(modules=["{name}"])'
            self._note("import", name, grant)
            raise refused_module(name, "the policy does not allow this module", grant)
        acts = self._after.get(name)
        if not acts:
            return None
        for finder in sys.meta_path:
            if finder is not self and hasattr(finder, "find_spec"):
                spec = finder.find_spec(name, path, target)
                if spec is not None:
                    then: Any = _Then(spec.loader, acts)
                    spec.loader = then if spec.loader is not None else None
                    return spec
        return None

    def _is_refused(self, name: str) -> bool:
        if name in self._stand_ins:
            return False
        if name in self._refused:
            return True
        if not self._rules:
            return False
        said = self._rules.get(name)
        above = name
        while said is None and above:
            said = self._rules.get(above + ".*")
            above = above.rpartition(".")[0]
        return said == BLOCK


class _Then:
    """A loader that hands on to the real one and then does more."""

    def __init__(self, loader: Any, acts: list[Callable[[Any], None]]) -> None:
        self._loader = loader
        self._acts = acts

    def create_module(self, spec: Any) -> ModuleType | None:
        made: ModuleType | None = self._loader.create_module(spec)
        return made

    def exec_module(self, module: Any) -> None:
        module.__spec__.loader = module.__loader__ = self._loader
        self._loader.exec_module(module)
        for act in self._acts:
            act(module)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._loader, name)


def hide_what_we_loaded(fresh: frozenset[str]) -> None:
    """Leave in ``sys.modules`` what an ordinary start has, so that all else is imported anew.

    And what the zygote needs; ``hide_the_zygotes`` takes it away in each guest.
    """
    kept = fresh | ORDINARY | OF_THE_ZYGOTE
    for name in list(sys.modules):
        if name not in kept:
            del sys.modules[name]


def hide_the_zygotes() -> None:
    """In a guest: the rest of what was loaded for us."""
    for name in OF_THE_ZYGOTE:
        sys.modules.pop(name, None)


# ---------------------------------------------------------------------- bytecode


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


# ---------------------------------------------------------------------- functions and built-ins


def block_functions(imports: Imports, functions: Iterable[str]) -> None:
    """Replace ``module:name`` by what raises, now or when the module is loaded (C7)."""
    for reference in functions:
        module, _, path = reference.partition(":")
        imports.after(module, _replace(reference, path))


def _replace(reference: str, path: str) -> Callable[[Any], None]:
    *outer, name = path.split(".")
    grant = f'allow(functions=["{reference}"])'

    def refused(*args: Any, **kwargs: Any) -> Any:
        raise refused_function(reference, grant)

    refused.__name__, refused.__qualname__ = name, path

    def act(module: Any) -> None:
        holder: Any = module
        for part in outer:
            holder = getattr(holder, part, None)
        if holder is None or not hasattr(holder, name):
            return  # this version has no such function
        try:
            setattr(holder, name, refused)
        except TypeError:
            # A class of the interpreter's own cannot be changed; a block that does nothing
            # would be a lie, so its module is not there.
            sys.modules.pop(module.__name__, None)
            raise refused_module(
                module.__name__, f"{reference} cannot be replaced", grant
            ) from None

    return act


def chosen_builtins(builtins: ModuleType, rules: dict[str, int]) -> Any:
    """``__builtins__`` for the code: the module, or a dict of the names that are left (C10)."""
    if not rules:
        return builtins
    everything = rules.get("*")
    return {
        name: value
        for name, value in vars(builtins).items()
        if name == "__sandboxed__" or rules.get(name, everything) != BLOCK
    }


def make_sandboxed_read_only(builtins: ModuleType) -> None:
    """``__sandboxed__`` is True, and setting or deleting it is an error (M7)."""
    builtins.__sandboxed__ = True  # type: ignore[attr-defined]

    module: Any = type(builtins)

    def set_attribute(self: object, name: str, value: object) -> None:
        if name == "__sandboxed__":
            raise AttributeError("__sandboxed__ is read-only")
        module.__setattr__(self, name, value)

    def delete_attribute(self: object, name: str) -> None:
        if name == "__sandboxed__":
            raise AttributeError("__sandboxed__ is read-only")
        module.__delattr__(self, name)

    members = {"__setattr__": set_attribute, "__delattr__": delete_attribute}
    builtins.__class__ = type("module", (module,), {"__module__": "builtins", **members})
