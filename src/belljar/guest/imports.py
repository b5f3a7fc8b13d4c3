"""Imports inside: what is refused by name, what stands in, what is done after a module loads.

What: one finder before all others.  Because: the kernel keeps the files of refused C modules away, but not those that are
part of the binary, and a plain "no such file" tells nobody what to grant.  Then: imports of
refused names raise ``ModuleRefused``; modules that the runtime loaded for itself are out of
``sys.modules``; everything else goes its usual way.

Shape, not wall, except where the file is not there.
"""

from __future__ import annotations

import _frozen_importlib_external as external
import sys

from . import shape
from .refusals import refused_module
from .shape import BLOCK, EVERY

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from types import ModuleType
    from typing import Any

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


def lift() -> None:
    """Give the agent back what it needs to report on a run that is over."""
    global _lifted
    _lifted = True
    shape.give_back()


def restrict() -> None:
    """Undo ``lift``, before the program goes on."""
    global _lifted
    _lifted = False
    shape.take_back()


class Imports:
    """The first finder of ``sys.meta_path``."""

    def __init__(self, stand_ins: dict[str, str]) -> None:
        self._stand_ins = stand_ins
        self._refused: frozenset[str] = frozenset()
        self._rules: dict[str, int] = {}
        self._after: dict[str, list[Callable[[Any], None]]] = {}
        self._otherwise: dict[str, Callable[[Any], None]] = {}
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

    def drop_refused(self) -> None:
        """Take out of ``sys.modules`` what the agent imported for a report."""
        for name in list(sys.modules):
            if self._note is not None and self._is_refused(name):
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

    def otherwise(self, name: str, fill: Callable[[Any], None]) -> None:
        """What to give where there is no module of this name: an empty one, filled."""
        self._otherwise[name] = fill

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
        acts, fill = self._after.get(name), self._otherwise.get(name)
        if not acts and fill is None:
            return None
        for finder in sys.meta_path:
            if finder is not self and hasattr(finder, "find_spec"):
                spec = finder.find_spec(name, path, target)
                if spec is not None:
                    if not acts:
                        return spec
                    then: Any = _Then(spec.loader, acts)
                    spec.loader = then if spec.loader is not None else None
                    return spec
        if fill is None:
            return None
        return external._bootstrap.ModuleSpec(name, _Filled(fill))  # type: ignore[attr-defined]

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


class _Filled:
    """A loader of a module that is made here."""

    def __init__(self, fill: Callable[[Any], None]) -> None:
        self._fill = fill

    def create_module(self, spec: Any) -> ModuleType | None:
        return None

    def exec_module(self, module: Any) -> None:
        self._fill(module)


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
