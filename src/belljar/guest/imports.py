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

from .refusals import ModuleRefused, refused_function, refused_module

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from types import ModuleType
    from typing import Any

BLOCK, EVERY = 0, "*"  # as in policy.rules, which is not here
_MAX_MODULE = 200  # characters of a name in a note; the module says itself what it is called
# What is on the stack between an import and what answers it.
_MACHINERY = frozenset(
    [
        __name__,
        "_frozen_importlib",
        "_frozen_importlib_external",
        "importlib",
        "importlib._bootstrap",
    ]
)
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
AT_START: set[str] = set()
"""Names in ``sys.modules`` at the start of a guest."""
_lifted = False
_replaced: list[tuple[Any, str, Any]] = []  # (holder, name, what it was)


def lift() -> None:
    """Give the agent back what it needs to report on a run that is over."""
    global _lifted
    _lifted = True
    while _replaced:
        try:
            setattr(*_replaced.pop())
        except BaseException as exception:
            # The guest has changed the class of its own module: its own business.
            del exception


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
        self._after.setdefault(name, []).append(act)
        module = sys.modules.get(name)
        if module is not None:
            act(module)

    def find_spec(self, name: str, path: Any = None, target: Any = None) -> Any:
        """Part of the import protocol (``importlib.abc.MetaPathFinder``)."""
        if _lifted:
            return None
        file = self._stand_ins.get(name)
        if file is not None:
            return external.spec_from_file_location(name, file)
        if self._note is not None and self._is_refused(name):
            why, grant = self._explain(name)
            self._note("import", name, grant)
            raise refused_module(name, why, grant, _importing_module(name))
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
        pattern = self._pattern(name)  # of which ``*`` speaks of C modules only
        return pattern != EVERY and self._rules.get(pattern) == BLOCK

    def _pattern(self, name: str) -> str:
        """The pattern that decides on a name, or nothing."""
        if name in self._rules:
            return name
        above = name
        while above:
            if above + ".*" in self._rules:
                return above + ".*"
            above = above.rpartition(".")[0]
        return EVERY if EVERY in self._rules else ""

    def _explain(self, name: str) -> tuple[str, str]:
        """Why a name is refused, and what would allow it."""
        pattern = self._pattern(name)
        if name not in self._refused:
            # Pure Python: no grant speaks of it.
            return "the policy blocks it", f'a policy without block(modules=["{pattern}"])'
        blocked = self._rules.get(pattern) == BLOCK
        why = "the policy blocks it" if blocked else "it is not on the default list of C modules"
        return why, f'allow(modules=["{name}"])'


def _importing_module(name: str) -> str:
    """The name of the module, other than the program, that is importing ``name``."""
    frame = sys._getframe(1)  # pyright: ignore[reportPrivateUsage]
    while frame is not None:
        module = frame.f_globals.get("__name__")
        if type(module) is not str or module == "__main__":
            return ""
        if module not in _MACHINERY:
            return "" if module == name else module[:_MAX_MODULE]
        frame = frame.f_back  # type: ignore[assignment]
    return ""


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
    AT_START.update(fresh | ORDINARY)
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


def block_functions(
    imports: Imports, functions: Iterable[str], note: Callable[[str, str, str], None]
) -> None:
    """Replace ``module:name`` by what raises, now or when the module is loaded (C7)."""
    begun = False

    def tell(action: str, target: str, grant: str) -> None:
        if begun:  # what is refused now, the code has not asked for
            note(action, target, grant)

    for reference in functions:
        module, _, path = reference.partition(":")
        if module == "posix":
            # Imports ask the file system through it, and go on.
            external._os = _copy(external._os)  # type: ignore[attr-defined]
        try:
            imports.after(module, _replace(reference, path, tell))
        except ModuleRefused as refusal:
            del refusal  # it is raised again when the code imports the module
    begun = True


def _copy(module: ModuleType) -> ModuleType:
    made = type(module)(module.__name__)
    made.__dict__.update(module.__dict__)
    return made


def _replace(
    reference: str, path: str, note: Callable[[str, str, str], None]
) -> Callable[[Any], None]:
    *outer, name = path.split(".")
    grant = f'allow(functions=["{reference}"])'

    def refused(*args: Any, **kwargs: Any) -> Any:
        note("call", reference, grant)
        raise refused_function(reference, grant)

    refused.__name__, refused.__qualname__ = name, path
    refused.__module__ = reference.partition(":")[0]
    refused.__doc__ = "The policy blocks this function."

    def act(module: Any) -> None:
        holder: Any = module
        for part in outer:
            holder = getattr(holder, part, None)
        if holder is None or not hasattr(holder, name):
            return  # this version has no such function
        old = vars(holder).get(name) if isinstance(holder, type) else getattr(holder, name)
        if not isinstance(holder, type) and not callable(old):
            return  # data: what takes the place of a function would break what reads it
        try:
            setattr(
                holder, name, _refusing_class(old, refused) if isinstance(old, type) else refused
            )
        except (TypeError, AttributeError):
            # A class of the interpreter's own cannot be changed; a block that does nothing
            # would be a lie, so its module is not there.
            sys.modules.pop(module.__name__, None)
            note("import", module.__name__, grant)
            raise refused_module(
                module.__name__, f"{reference} cannot be replaced", grant
            ) from None
        if old is not None:
            _replaced.append((holder, name, old))

    return act


def _refusing_class(real: type, refused: Callable[..., Any]) -> Any:
    """A class that makes no instances: code that derives from it, or asks of it, goes on."""
    members = {"__new__": refused, "__module__": real.__module__, "__doc__": real.__doc__}
    try:
        return type(real)(real.__name__, (real,), members)
    except TypeError:
        return refused  # nothing can be derived from it


def chosen_builtins(builtins: ModuleType, rules: dict[str, int]) -> Any:
    """``__builtins__`` for the code: the module, or a dict of the names that are left (C10)."""
    if not rules:
        return builtins
    return {name: value for name, value in vars(builtins).items() if not left_out(rules, name)}


def left_out(rules: dict[str, int], name: str) -> bool:
    """Whether the code does not have this built-in name."""
    return name != "__sandboxed__" and rules.get(name, rules.get(EVERY)) == BLOCK


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
