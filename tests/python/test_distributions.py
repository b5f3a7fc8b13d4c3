"""The packages grant: made-up distributions in a temporary directory, and real ones."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from belljar.errors import PolicyError
from belljar.python.distributions import PackageSet, resolve_packages
from belljar.python.interpreter import Interpreter, describe_interpreter

Install = Callable[..., Path]


def _at(*sites: Path) -> Interpreter:
    return describe_interpreter().replace(site_dirs=tuple(map(str, sites)))


def _resolve(*names: str, at: Path) -> PackageSet:
    return resolve_packages(frozenset(names), _at(at))


def _paths(found: PackageSet) -> list[str]:
    return [path for path, _ in found.entries]


def _names(found: PackageSet) -> list[str]:
    return [name for name, _ in found.distributions]


def _refusal(*names: str, at: Path) -> str:
    with pytest.raises(PolicyError) as caught:
        _resolve(*names, at=at)
    assert caught.value.key == "grants.packages"
    return caught.value.message


def test_no_names_bring_nothing(tmp_path: Path) -> None:
    assert _resolve(at=tmp_path) == PackageSet()


def test_a_package_is_its_directory_its_libraries_and_its_metadata(install: Install) -> None:
    site = install("Foo-Bar", ["foo/__init__.py", "foo/sub/m.py", "foo_bar.libs/libx-1.so.1"])
    install("other", ["other.py"])
    found = _resolve("foo.bar", at=site)
    assert found.distributions == (("Foo-Bar", "1.0"),)
    assert found.entries == tuple(
        (name, f"{site}/{name}") for name in ("Foo_Bar-1.0.dist-info", "foo", "foo_bar.libs")
    )


def test_requirements_are_followed_through_a_circle(install: Install) -> None:
    install("a", ["a.py"], requires=["b>=1"])
    install("b", ["b.py"], requires=["c (>=0.1)", "a"])
    site = install("c", ["c.py"])
    install("d", ["d.py"])
    assert _names(_resolve("a", at=site)) == ["a", "b", "c"]


def test_markers_are_judged_for_the_guests_interpreter(install: Install) -> None:
    site = install(
        "a",
        ["a.py"],
        requires=[
            "new; python_version >= '3.11'",
            "old; python_version < '3.11'",
            "future; python_full_version == '3.99.7'",
            "windows; sys_platform == 'win32'",
            "mac; platform_system == 'Darwin'",
            "speed; platform_python_implementation == 'CPython'",
        ],
    )
    for name in ("new", "speed", "future"):
        install(name, [f"{name}.py"])
    assert _names(_resolve("a", at=site)) == ["a", "new", "speed"]
    later = _at(site).replace(version=(3, 99, 7))
    assert _names(resolve_packages(frozenset({"a"}), later)) == ["a", "future", "new", "speed"]


def test_extras_count_where_they_are_asked_for(install: Install) -> None:
    site = install(
        "a", ["a.py"], requires=["b[Fast]; extra == 'all'", "c; extra == 'c'"], extras=["all", "c"]
    )
    install("b", ["b.py"], requires=["d; extra == 'fast'"], extras=["fast"])
    install("d", ["d.py"])
    assert _names(_resolve("a", at=site)) == ["a"]
    assert _names(_resolve("a[all]", at=site)) == ["a", "b", "d"]
    assert "c', which 'a' requires, is not installed" in _refusal("a[c]", at=site)
    assert "no extra 'nope'" in _refusal("a[nope]", at=site)


def test_an_extra_asked_for_later_is_still_followed(install: Install) -> None:
    site = install("a", ["a.py"], requires=["x; extra == 'x'"], extras=["x"])
    install("x", ["x.py"])
    install("b", ["b.py"], requires=["a[x]"])
    assert _names(_resolve("a", "b", at=site)) == ["a", "b", "x"]


def test_a_missing_distribution_is_named_with_who_requires_it_and_how_to_get_it(
    install: Install,
) -> None:
    site = install("a", ["a.py"], requires=["B_b>=2"])
    text = _refusal("a", at=site)
    assert "'B_b', which 'a' requires, is not installed" in text
    assert f"{describe_interpreter().command} -m pip install B_b" in text
    assert "'zzz' is not installed" in _refusal("zzz", at=site)


def test_the_name_of_a_module_leads_to_its_distribution(install: Install) -> None:
    site = install("PyYAML", ["yaml/__init__.py"])
    install("beautifulsoup4", ["bs4.py"])
    assert "belongs to the distribution 'PyYAML'" in _refusal("yaml", at=site)
    assert "belongs to the distribution 'beautifulsoup4'" in _refusal("bs4", at=site)


def test_a_range_is_checked_against_what_is_installed(install: Install) -> None:
    site = install("a", ["a.py"], version="2.1rc1")
    assert _resolve("a>=2", at=site).distributions == (("a", "2.1rc1"),)
    assert "2.1rc1 is installed" in _refusal("a>=3", at=site)


@pytest.mark.parametrize("name", ["", "a b", "../a", "a @ file:///x", "a; python_version > '3'"])
def test_what_is_no_name_is_refused(name: str, install: Install) -> None:
    assert repr(name) in _refusal(name, at=install("a", ["a.py"]))


def test_damaged_metadata_is_an_error_that_names_it(install: Install) -> None:
    site = install("a", ["a.py"], requires=["=nonsense="])
    assert "metadata of 'a' is damaged" in _refusal("a", at=site)


def test_a_directory_shared_with_others_is_taken_apart(install: Install) -> None:
    site = install("ns-one", ["ns/one/__init__.py", "ns/deep/x/a.py", "ns/file.py"])
    install("ns-two", ["ns/two/__init__.py", "ns/deep/y/b.py", "ns/other, with comma.py"])
    install("unrelated", ["unrelated/ns/c.py"])
    found = _resolve("ns-one", at=site)
    assert _paths(found) == ["ns/deep/x", "ns/file.py", "ns/one", "ns_one-1.0.dist-info"]
    both = _resolve("ns-one", "ns-two", at=site)
    assert _paths(both) == ["ns", "ns_one-1.0.dist-info", "ns_two-1.0.dist-info"]


def test_nothing_of_another_distribution_is_ever_inside(install: Install) -> None:
    granted = ["ns/a/b/mine.py", "ns/__init__.py", "tool/x.py", "m.py"]
    foreign = ["ns/a/b/theirs.py", "ns/a/c/theirs.py", "tool/sub/theirs.py", "theirs.py"]
    site = install("mine", granted)
    install("theirs", foreign)
    seen: set[str] = set()
    for path, host in _resolve("mine", at=site).entries:
        assert host == f"{site}/{path}"
        if os.path.isdir(host):
            seen |= {
                os.path.relpath(os.path.join(above, name), site)
                for above, _, names in os.walk(host)
                for name in names
            }
        else:
            seen.add(path)
    assert {path for path in seen if ".dist-info/" not in path} == set(granted)


def test_two_site_directories_are_merged_and_the_first_wins(install: Install) -> None:
    first = install("one", ["ns/one.py", "ns/both.py"], site="first")
    second = install("two", ["ns/two/x.py", "ns/both.py"], site="second")
    install("one", ["shadowed.py"], site="second", version="9.0")
    found = resolve_packages(frozenset({"one", "two"}), _at(first, second))
    assert found.distributions == (("one", "1.0"), ("two", "1.0"))
    assert found.entries == (
        ("ns/both.py", f"{first}/ns/both.py"),
        ("ns/one.py", f"{first}/ns/one.py"),
        ("ns/two", f"{second}/ns/two"),
        ("one-1.0.dist-info", f"{first}/one-1.0.dist-info"),
        ("two-1.0.dist-info", f"{second}/two-1.0.dist-info"),
    )


def test_scripts_bytecode_and_path_files_stay_outside(install: Install) -> None:
    tag = sys.implementation.cache_tag
    site = install(
        "a",
        [
            "a.py",
            f"__pycache__/a.{tag}.pyc",
            "__pycache__/a.cpython-20.pyc",
            "a-nspkg.pth",
            "../bin/a",
            "../../etc/passwd",
        ],
    )
    assert _paths(_resolve("a", at=site)) == [f"__pycache__/a.{tag}.pyc", "a-1.0.dist-info", "a.py"]


def test_files_listed_in_the_other_site_directory_belong_there(install: Install) -> None:
    pure = install("a", ["a.py", "../plat/_a.py"], site="pure")
    plat = install("b", ["b.py"], site="plat")
    found = resolve_packages(frozenset({"a"}), _at(pure, plat))
    assert dict(found.entries)["_a.py"] == f"{plat}/_a.py"


def test_a_file_that_is_listed_but_gone_is_passed_over(install: Install) -> None:
    site = install("a", ["a.py", "gone.py"])
    (site / "gone.py").unlink()
    assert _paths(_resolve("a", at=site)) == ["a-1.0.dist-info", "a.py"]


def test_an_editable_installation_is_refused(install: Install) -> None:
    site = install(
        "a", ["__editable__.a.pth"], info={"direct_url.json": '{"dir_info": {"editable": true}}'}
    )
    assert "editable mode" in _refusal("a", at=site)
    (site / "old-tool.egg-link").write_text("/src/old\n")
    assert "editable mode" in _refusal("old.tool", at=site)


def test_a_normal_installation_from_a_directory_is_not_editable(install: Install) -> None:
    site = install("a", ["a.py"], info={"direct_url.json": '{"url": "file:///a", "dir_info": {}}'})
    assert "a.py" in _paths(_resolve("a", at=site))


def test_packages_of_a_linux_distribution_have_module_lists_only(install: Install) -> None:
    site = install("pip-made", ["shared/mine.py"])
    info = site / "Apt_Made-2.0.egg-info"
    info.mkdir()
    (info / "PKG-INFO").write_text("Metadata-Version: 1.1\nName: Apt-Made\nVersion: 2.0\n")
    (info / "top_level.txt").write_text("apt_pkg\napt_one\n")
    (site / "apt_pkg").mkdir()
    (site / "apt_one.py").write_text("")
    found = _resolve("apt-made", at=site)
    assert [path for path in _paths(found) if "egg-info" not in path] == ["apt_one.py", "apt_pkg"]
    (info / "top_level.txt").write_text("shared\n")
    assert "several distributions" in _refusal("apt-made", at=site)
    assert "shared/mine.py" in _paths(_resolve("pip-made", at=site))
    (info / "top_level.txt").unlink()
    assert "no list of its files" in _refusal("apt-made", at=site)


def test_metadata_of_an_interrupted_removal_is_not_an_installation(install: Install) -> None:
    site = install("a", ["a.py"])
    (site / "a-1.0.dist-info").rename(site / "~-1.0.dist-info")
    (site / "a-0.9.dist-info").mkdir()
    assert "is not installed" in _refusal("a", at=site)


def test_system_libraries_of_extension_modules(
    install: Install, make_elf: Callable[..., bytes], tmp_path: Path
) -> None:
    machine = {"x86_64": 62, "aarch64": 183}[describe_interpreter().machine]
    system = tmp_path / "system"
    system.mkdir()
    (system / "libextra.so.1").write_bytes(make_elf([], machine=machine))
    site = install(
        "a",
        {
            "a/m.so": make_elf(
                ["libmine-1.so", "libtheirs.so", "libc.so.6", f"{system}/libextra.so.1"],
                runpath="$ORIGIN/../a.libs:$ORIGIN/../b",
                machine=machine,
            ),
            "a.libs/libmine-1.so": make_elf(["libgone.so"], machine=machine),
        },
    )
    install("b", {"b/libtheirs.so": make_elf([], machine=machine)})
    found = _resolve("a", at=site)
    extra = f"{system}/libextra.so.1"
    assert found.libraries == ((extra, extra),)
    assert dict(found.missing) == {
        "libtheirs.so": f"{site}/a/m.so",
        "libgone.so": f"{site}/a.libs/libmine-1.so",
    }
    assert _resolve("a", "b", at=site).missing == (("libgone.so", f"{site}/a.libs/libmine-1.so"),)


def test_the_closure_of_an_installed_distribution() -> None:
    own = describe_interpreter()
    found = resolve_packages(frozenset({"pytest"}), own)
    names = _names(found)
    assert {"pytest", "pluggy", "iniconfig", "packaging"} <= set(names)
    assert "hypothesis" not in names
    paths = _paths(found)
    assert {"pytest", "_pytest", "pluggy", "iniconfig"} <= set(paths)
    assert not any("hypothesis" in path or path.endswith(".pth") for path in paths)
    for path, host in found.entries:
        assert os.path.exists(host)
        assert any(host == f"{site}/{path}" for site in own.site_dirs)


def test_the_list_of_files_that_old_pip_left_counts_too(tmp_path: Path) -> None:
    site = tmp_path / "site"
    for name in ("old", "older"):
        info = site / f"{name}-1.0-py3.11.egg-info"
        info.mkdir(parents=True)
        (info / "PKG-INFO").write_text(f"Metadata-Version: 1.1\nName: {name}\nVersion: 1.0\n")
        (info / "installed-files.txt").write_text(f"../ns/{name}.py\nPKG-INFO\n")
        (site / "ns").mkdir(exist_ok=True)
        (site / f"ns/{name}.py").write_text("")
    assert _paths(_resolve("old", at=site)) == ["ns/old.py", "old-1.0-py3.11.egg-info"]


def test_a_site_directory_that_is_gone_holds_nothing(install: Install, tmp_path: Path) -> None:
    site = install("a", ["a.py"])
    found = resolve_packages(frozenset({"a"}), _at(tmp_path / "gone", site))
    assert found.distributions == (("a", "1.0"),)
