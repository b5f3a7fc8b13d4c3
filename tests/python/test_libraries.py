"""The search for shared libraries: the loader's rules on made-up trees, and ldd's word."""

from __future__ import annotations

import glob
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from belljar.python.elf import ElfError
from belljar.python.interpreter import describe_interpreter
from belljar.python.libraries import Closure, SearchRules, read_elf, resolve, search_rules

LOADER = "/lib64/ld-linux-x86-64.so.2"

Tree = Callable[..., str]


@pytest.fixture
def tree(tmp_path: Path, make_elf: Callable[..., bytes]) -> Tree:
    """``tree("a/libx.so", [needed], …)`` writes an ELF file and returns its path."""

    def write(path: str, needed: list[str] | None = None, **fields: object) -> str:
        target = tmp_path / path
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(make_elf(needed or [], **fields))
        return str(target)

    return write


@pytest.fixture
def rules(tmp_path: Path) -> SearchRules:
    return SearchRules("x86_64", (str(tmp_path / "lib"), str(tmp_path / "usr/lib")))


def test_default_directories_are_searched_in_order(tree: Tree, rules: SearchRules) -> None:
    program = tree("bin/python", ["liba.so", "libb.so"], interpreter=LOADER)
    first, second = tree("lib/liba.so"), tree("usr/lib/libb.so")
    tree("usr/lib/liba.so")
    assert resolve(program, [], rules) == Closure((("liba.so", first), ("libb.so", second)))


def test_the_cache_comes_before_default_directories(tree: Tree, rules: SearchRules) -> None:
    program = tree("bin/python", ["liba.so", "libb.so"])
    tree("lib/liba.so")
    fallback = tree("lib/libb.so")
    cached = tree("opt/liba.so")
    rules = rules.replace(cached={"liba.so": cached, "libb.so": cached + ".gone"})
    assert resolve(program, [], rules).libraries == (("liba.so", cached), ("libb.so", fallback))


def test_libraries_of_libraries_are_followed_even_in_a_circle(
    tree: Tree, rules: SearchRules
) -> None:
    program = tree("bin/python", ["liba.so"])
    tree("lib/liba.so", ["libb.so"])
    tree("lib/libb.so", ["libc.so", "liba.so"])
    tree("lib/libc.so", ["libb.so"])
    names = [name for name, _ in resolve(program, [], rules).libraries]
    assert names == ["liba.so", "libb.so", "libc.so"]


def test_the_loader_itself_is_neither_listed_nor_missing(tree: Tree, rules: SearchRules) -> None:
    program = tree("bin/python", ["libc.so.6"], interpreter=LOADER)
    library = tree("lib/libc.so.6", ["ld-linux-x86-64.so.2"])
    assert resolve(program, [], rules) == Closure((("libc.so.6", library),))


def test_what_is_missing_names_who_asked(tree: Tree, rules: SearchRules) -> None:
    program = tree("bin/python")
    tree("lib/liba.so", ["libgone.so"])
    module = tree("dynload/m.so", ["liba.so", "libno.so"])
    closure = resolve(program, [module], rules)
    assert [name for name, _ in closure.libraries] == ["liba.so"]
    assert closure.missing == (
        ("libno.so", module),
        ("libgone.so", str(Path(program).parents[1] / "lib/liba.so")),
    )


def test_runpath_serves_its_own_file_only(tree: Tree, rules: SearchRules) -> None:
    program = tree("bin/python")
    module = tree("pkg/m.so", ["liba.so"], runpath="$ORIGIN/../pkg.libs")
    inner = tree("pkg.libs/liba.so", ["libb.so"])
    tree("pkg.libs/libb.so")
    closure = resolve(program, [module], rules)
    assert closure.libraries == (("liba.so", inner),)
    assert closure.missing == (("libb.so", inner),)


def test_rpath_serves_the_libraries_of_its_libraries(tree: Tree, rules: SearchRules) -> None:
    program = tree("bin/python")
    module = tree("pkg/m.so", ["liba.so"], rpath="/nowhere:${ORIGIN}/../pkg.libs")
    first = tree("pkg.libs/liba.so", ["libb.so"])
    second = tree("pkg.libs/libb.so")
    assert resolve(program, [module], rules) == Closure((("liba.so", first), ("libb.so", second)))


def test_lib_and_platform_are_filled_in(tree: Tree, rules: SearchRules) -> None:
    program = tree("bin/python", ["liba.so", "libb.so"], runpath="$ORIGIN/../$LIB/$PLATFORM")
    first = tree("lib64/x86_64/liba.so")
    second = tree("lib/x86_64-linux-gnu/x86_64/libb.so")
    assert resolve(program, [], rules).libraries == (("liba.so", first), ("libb.so", second))


def test_runpath_silences_rpath(tree: Tree, rules: SearchRules) -> None:
    program = tree("bin/python", rpath="$ORIGIN/../other")
    module = tree("pkg/m.so", ["liba.so"], rpath="$ORIGIN/../other", runpath="$ORIGIN")
    tree("other/liba.so")
    assert resolve(program, [module], rules).missing == (("liba.so", module),)
    plain = tree("pkg/n.so", ["liba.so"])
    assert resolve(program, [plain], rules).missing == ()


def test_musl_passes_runpath_on_and_carries_its_own_libraries(
    tree: Tree, rules: SearchRules
) -> None:
    program = tree("bin/python", ["libc.musl-x86_64.so.1", "libm.so"])
    module = tree("pkg/m.so", ["liba.so"], runpath="$ORIGIN/libs")
    tree("pkg/libs/liba.so", ["libb.so"])
    tree("pkg/libs/libb.so", ["libc.so"])
    closure = resolve(program, [module], rules.replace(musl=True))
    assert [name for name, _ in closure.libraries] == ["liba.so", "libb.so"]
    assert closure.missing == ()


def test_origin_is_where_a_library_was_found_not_where_its_link_leads(
    tree: Tree, rules: SearchRules, tmp_path: Path
) -> None:
    program = tree("bin/python", ["liba.so"])
    real = tree("store/liba.so.1", ["libb.so"], runpath="$ORIGIN/private")
    (tmp_path / "lib").mkdir()
    (tmp_path / "lib/liba.so").symlink_to(real)
    private = tree("lib/private/libb.so")
    assert resolve(program, [], rules).libraries == (("liba.so", real), ("libb.so", private))


def test_where_belljar_is_started_does_not_matter(
    tree: Tree, rules: SearchRules, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    here = tree("here/liba.so")
    monkeypatch.chdir(tmp_path / "here")
    monkeypatch.setenv("LD_LIBRARY_PATH", os.path.dirname(here))
    program = tree("bin/python", ["liba.so", "./liba.so"], runpath=":.:here::")
    assert resolve(program, [], rules) == Closure(
        (), (("liba.so", program), ("./liba.so", program))
    )


def test_a_name_with_a_slash_is_a_path(tree: Tree, rules: SearchRules) -> None:
    library = tree("opt/liba.so")
    program = tree("bin/python", [library])
    assert resolve(program, [], rules).libraries == ((library, library),)


def test_what_this_machine_cannot_load_is_passed_over(
    tree: Tree, rules: SearchRules, tmp_path: Path
) -> None:
    program = tree("bin/python", ["liba.so", "libb.so", "libc.so"])
    tree("lib/liba.so", machine=183)
    (tmp_path / "lib/libb.so").write_text("/* GNU ld script */")
    os.mkfifo(tmp_path / "lib/libc.so")
    right = [tree(f"usr/lib/lib{letter}.so") for letter in "abc"]
    assert [path for _, path in resolve(program, [], rules).libraries] == right


def test_a_module_for_another_machine_asks_for_nothing(tree: Tree, rules: SearchRules) -> None:
    program = tree("bin/python")
    foreign = tree("m.so", ["libgone.so"], machine=183)
    assert resolve(program, [foreign, foreign + ".gone"], rules) == Closure()


def test_a_library_in_the_list_under_its_soname_is_not_missing(
    tree: Tree, rules: SearchRules
) -> None:
    program = tree("bin/python", ["liba.so"])
    library = tree("lib/liba.so", soname="liba.so.1")
    module = tree("m.so", ["liba.so.1"])
    assert resolve(program, [module], rules) == Closure(
        (("liba.so", library), ("liba.so.1", library))
    )


def test_libraries_that_only_the_c_library_names_are_optional(
    tree: Tree, rules: SearchRules
) -> None:
    program = tree("bin/python")
    library = tree("lib/libgcc_s.so.1", ["libgone.so"])
    closure = resolve(program, [], rules, extra=["libgcc_s.so.1", "libnss_files.so.2"])
    assert closure.libraries == (("libgcc_s.so.1", library),)
    assert closure.missing == (("libgone.so", library),)


def test_bundled_libraries_are_followed_and_withheld_ones_are_not_used(
    tree: Tree, rules: SearchRules, tmp_path: Path
) -> None:
    program = tree("bin/python")
    module = tree("site/pkg/m.so", ["liba.so", "libother.so"], runpath="$ORIGIN:$ORIGIN/../other")
    tree("site/pkg/liba.so", ["libsystem.so"])
    tree("site/other/libother.so")
    system = tree("lib/libsystem.so")
    closure = resolve(
        program,
        [module],
        rules,
        bundled=[str(tmp_path / "site/pkg")],
        withheld=[str(tmp_path / "site")],
    )
    assert closure == Closure((("libsystem.so", system),), (("libother.so", module),))


def test_a_program_that_is_none_is_an_error(rules: SearchRules, tmp_path: Path) -> None:
    with pytest.raises(OSError, match="gone"):
        resolve(str(tmp_path / "gone"), [], rules)
    (tmp_path / "text").write_text("text")
    with pytest.raises(ElfError):
        resolve(str(tmp_path / "text"), [], rules)


def test_the_rules_of_each_loader() -> None:
    glibc = search_rules("aarch64", "/lib/ld-linux-aarch64.so.1")
    assert "/usr/lib/aarch64-linux-gnu" in glibc.directories
    assert not glibc.musl
    musl = search_rules("x86_64", "/lib/ld-musl-x86_64.so.1")
    assert musl.musl
    assert "/usr/lib" in musl.directories
    assert musl.cached == {}


def _ldd(path: str) -> dict[str, str]:
    """What ldd prints: names and the real paths that they lead to."""
    environment = {key: value for key, value in os.environ.items() if key != "LD_LIBRARY_PATH"}
    listing = subprocess.run(["ldd", path], capture_output=True, check=True, env=environment)
    found = re.findall(r"^\t(\S+) => (/\S+) \(", listing.stdout.decode(), re.MULTILINE)
    return {name: os.path.realpath(place) for name, place in found}


def _modules() -> list[str]:
    """Extension modules of the standard library that link to something."""
    names = ("_ssl", "_sqlite3", "_ctypes", "_lzma")
    directories = describe_interpreter().dynload
    return [path for folder in directories for n in names for path in glob.glob(f"{folder}/{n}.*")]


@pytest.mark.skipif(shutil.which("ldd") is None, reason="no ldd on this machine")
@pytest.mark.parametrize("path", [os.path.realpath(sys.executable), *_modules()])
def test_it_agrees_with_ldd(path: str) -> None:
    # ldd lists what one file pulls in, so the file itself is the program here.
    loader = describe_interpreter().loader
    assert loader is not None
    closure = resolve(path, [], search_rules(read_elf(path).machine, loader[0]))
    ours = {name: real for name, real in closure.libraries if not name.startswith("ld-")}
    assert ours == _ldd(path)
