"""X9: what code shows, as artifacts: displays, values, figures; none of it runs on the host (K8)."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
import threading
from collections.abc import Iterator
from typing import Any

import pytest

import belljar
from belljar import Artifact, Policy, PolicyError, Sandbox

SHOW = 'display({"image/png": b"12345"}, raw=True)\n'
TABLE = "class Table:\n  def _repr_html_(self): return '<b>1</b>'\n"


def shown(code: str, policy: Policy | None = None, **more: Any) -> tuple[Artifact, ...]:
    result = belljar.run(code, policy, **more)
    assert result.status == "ok", result.error and result.error.traceback
    assert result.stderr == ""
    return result.artifacts


# -- display -----------------------------------------------------------------------------------


def test_X9_what_is_displayed_is_an_artifact() -> None:
    (one,) = shown(TABLE + "display(Table(), name='sales', metadata={'width': 3})")
    assert (one.name, one.media_type, one.data, one.text) == (
        *("sales", "text/html"),
        *(b"<b>1</b>", "<b>1</b>"),
    )
    assert list(one.representations) == ["text/html", "text/plain"]
    assert one.metadata == {"width": 3}


@pytest.mark.parametrize(
    ("method", "answer", "kind", "data"),
    [
        ("_repr_html_", "'<p>\\u00e4'", "text/html", "<p>ä".encode()),
        ("_repr_markdown_", "'# x'", "text/markdown", b"# x"),
        ("_repr_latex_", "'$x$'", "text/latex", b"$x$"),
        ("_repr_svg_", "'<svg/>'", "image/svg+xml", b"<svg/>"),
        ("_repr_png_", "b'\\x89PNG'", "image/png", b"\x89PNG"),
        ("_repr_png_", "'iVBORw=='", "image/png", b"\x89PNG"),
        ("_repr_png_", "(b'x', {'width': 1})", "image/png", b"x"),
        ("_repr_jpeg_", "bytearray(b'j')", "image/jpeg", b"j"),
        ("_repr_pdf_", "b'%PDF'", "application/pdf", b"%PDF"),
        ("_repr_json_", "{'a': [1, None]}", "application/json", b'{"a": [1, null]}'),
        ("_repr_mimebundle_", "{'image/gif': b'GIF8'}", "image/gif", b"GIF8"),
        (
            "_repr_mimebundle_",
            "({'application/vnd.vegalite.v5+json': {'mark': 'bar'}, 'text/html': 'x'}, {})",
            "application/vnd.vegalite.v5+json",
            b'{"mark": "bar"}',
        ),
        ("_repr_mimebundle_", "{'Text/HTML; charset=utf-8': 'x'}", "text/html", b"x"),
    ],
)
def test_X9_ipythons_protocol(method: str, answer: str, kind: str, data: bytes) -> None:
    code = f"class T:\n  def {method}(self, **k): return {answer}\n"
    for end in ("display(T())", "T()"):
        (one,) = shown(code + end)
        assert (one.name, one.media_type, one.data) == ("t", kind, data)


def test_X9_an_object_that_shows_itself() -> None:
    code = "class T:\n  def _ipython_display_(self): display({'text/html': 'h'}, raw=True)\nT()"
    assert [one.text for one in shown(code)] == ["h"]
    other = code.replace("display({'text/html': 'h'}, raw=True)", "raise NotImplementedError")
    assert shown(other + "\n") == ()


def test_X9_what_has_no_representation_is_printed() -> None:
    result = belljar.run("display(5, 'x')\nclass Any:\n  def __getattr__(s, n): return 1\nAny()")
    assert (result.artifacts, result.stdout) == ((), "5\n'x'\n")


def test_X9_include_and_exclude() -> None:
    both = "class T:\n  def _repr_html_(s): return 'h'\n  def _repr_latex_(s): return 'l'\n"
    (one,) = shown(both + "display(T(), include=['text/latex'])")
    assert list(one.representations) == ["text/latex"]
    (one,) = shown(both + "display(T(), exclude=['text/html'])")
    assert list(one.representations) == ["text/latex", "text/plain"]


def test_X9_a_method_that_fails_is_told_and_ends_nothing() -> None:
    code = "class T:\n  def _repr_html_(s): 1/0\n  def _repr_latex_(s): return 'l'\n"
    for end in ("display(T())", "T()"):
        result = belljar.run(code + end)
        assert result.status == "ok"
        assert "T._repr_html_: ZeroDivisionError: division by zero" in result.stderr
        assert [one.media_type for one in result.artifacts] == ["text/latex"]


@pytest.mark.parametrize("form", ["{'no type': 'x'}", "{'image/png': 'abc'}", "{'a/b': object()}"])
def test_X9_a_form_that_makes_no_sense_is_left_out(form: str) -> None:
    result = belljar.run(f"display({form}, raw=True)")
    assert (result.status, result.artifacts) == ("ok", ())
    assert result.stderr.startswith("display of ")


def test_X9_the_value_stays_and_plain_values_show_nothing() -> None:
    result = belljar.run("[1, {'a': 2}]")
    assert (result.value, result.artifacts) == ([1, {"a": 2}], ())


def test_X9_display_is_a_name_that_code_can_take() -> None:
    assert shown("import belljar\ndisplay = 1\nbelljar.display({'text/html': 'x'}, raw=True)")
    assert belljar.run("'display' in dir()").value is False


@pytest.mark.parametrize("blocked", [True, False])
def test_X9_display_is_a_built_in_that_a_policy_can_leave_out(blocked: bool) -> None:
    policy = Policy().block(builtins=["display"]) if blocked else Policy()
    assert belljar.run(SHOW, policy).status == ("raised" if blocked else "ok")


def test_X9_modules_that_the_policy_blocks_are_there_for_display() -> None:
    policy = Policy().block(modules=["json"])
    code = "display({'application/json': {'a': 1}}, raw=True)\n"
    (one,) = shown(code * 2, policy)[1:]
    assert one.data == b'{"a": 1}'
    assert belljar.run(code + "import json", policy).status == "raised"


def test_X9_a_c_module_that_is_not_there_leaves_one_form_out() -> None:
    policy = Policy().block(modules=["binascii"])
    code = "display({'image/png': 'iVBORw==', 'text/html': 'x'}, raw=True)"
    result = belljar.run(code, policy)
    ((*forms,),) = [list(one.representations) for one in result.artifacts]
    if "binascii" in sys.builtin_module_names:  # it is part of the interpreter: nobody can take it
        assert sorted(forms) == ["image/png", "text/html"]
    else:
        assert forms == ["text/html"]
        assert result.stderr.startswith("display of image/png: ")


# -- where IPython is not there ----------------------------------------------------------------


def test_X9_programs_written_for_notebooks_find_their_display() -> None:
    code = """
from IPython.display import HTML, JSON, Image, Markdown, SVG, clear_output, display
import IPython
assert IPython.get_ipython() is None
clear_output()
open("p.png", "wb").write(b"\\x89PNG")
for one in (HTML("h"), Markdown("m"), SVG("s"), JSON({"a": 1}), Image("p.png", width=7)):
    display(one)
Image(b"\\xff\\xd8")
"""
    kinds = ["text/html", "text/markdown", "image/svg+xml", "application/json", "image/png"]
    found = shown(code)
    assert [one.media_type for one in found] == [*kinds, "image/jpeg"]
    assert found[4].metadata == {"width": 7}


def test_X9_the_real_ipython_comes_first_and_a_block_holds() -> None:
    files = {"IPython/__init__.py": "real = True", "IPython/display.py": "display = HTML = 1"}
    code = "import sys; sys.path.insert(0, '/work')\nimport IPython\n"
    assert belljar.run(code + "IPython.real", files=files).value is True
    code += "from IPython.display import HTML, display\ndisplay({'text/html': 'x'}, raw=True)\nHTML"
    result = belljar.run(code, files=files)
    assert (result.value, len(result.artifacts)) == (1, 1)
    result = belljar.run("import IPython.display", Policy().block(modules=["IPython"]))
    assert result.error is not None
    assert result.error.type == "belljar.ModuleRefused"


# -- limits ------------------------------------------------------------------------------------


@pytest.mark.parametrize(("most", "kept"), [(0, 0), (4, 0), (5, 1), (14, 2), (15, 3)])
def test_X9_artifact_bytes(most: int, kept: int) -> None:
    result = belljar.run(SHOW * 3, Policy().limit(artifact_bytes=most))
    assert result.status == "ok"
    assert len(result.artifacts) == kept
    assert result.truncated == (() if kept == 3 else ("artifacts",))


def test_X9_so_many_in_a_run() -> None:
    result = belljar.run(f"for n in range(300): {SHOW}")
    assert (len(result.artifacts), result.truncated) == (256, ("artifacts",))


def test_X9_one_that_is_larger_than_a_message() -> None:
    policy = Policy().allow(artifact_bytes=2**30, memory_bytes=2**30, wall_s=60, cpu_s=60)
    code = "for n in (31, 33): display({'image/png': bytes(n << 20)}, raw=True)"
    result = belljar.run(code, policy)
    assert [len(one.data) for one in result.artifacts] == [31 << 20]
    assert result.truncated == ("artifacts",)


@pytest.mark.parametrize(
    "end", ["1/0", "raise SystemExit(3)", "import os; os._exit(0)", "while 1: 0"]
)
def test_X9_they_are_kept_however_the_run_ends(end: str) -> None:
    result = belljar.run(SHOW + end, Policy().limit(wall_s=1))
    assert [one.data for one in result.artifacts] == [b"12345"]


# -- while it runs -----------------------------------------------------------------------------


def test_X9_on_artifact_is_told_at_once() -> None:
    seen: list[str] = []
    result = belljar.run(
        "import time\n" + SHOW + "time.sleep(0.1)\nprint('later')",
        on_artifact=lambda one: seen.append(one.media_type),
        on_output=lambda stream, data: seen.append(data.decode()),
    )
    assert seen == ["image/png", "later\n"]
    assert len(result.artifacts) == 1


def test_X9_the_clock_stands_still_meanwhile() -> None:
    policy = Policy().limit(wall_s=0.4)
    code = "import time\nfor n in range(3):\n  " + SHOW + "  time.sleep(0.05)"
    result = belljar.run(code, policy, on_artifact=lambda one: threading.Event().wait(0.3))
    assert result.status == "ok"


def test_X9_what_on_artifact_raises_goes_to_the_caller() -> None:
    def fail(artifact: Artifact) -> None:
        raise KeyError(artifact.media_type)

    with pytest.raises(KeyError, match="image/png"):
        belljar.run(SHOW, on_artifact=fail)
    with Sandbox(on_artifact=fail) as sandbox:
        for code in (SHOW, SHOW + "import time; time.sleep(0.2)"):
            with pytest.raises(KeyError):
                sandbox.run("x = 1\n" + code)
            assert sandbox.run("x").value == 1, "the interpreter stays"


def test_X9_from_many_threads_each_arrives_whole() -> None:
    code = """
import threading
def work(n):
    for i in range(8): display({"image/png": bytes([n]) * 100_000}, raw=True)
threads = [threading.Thread(target=work, args=(n,)) for n in range(8)]
for t in threads: t.start()
"""
    found = shown(code, Policy().allow(wall_s=60, cpu_s=60))
    assert sorted(one.data[0] for one in found) == sorted([*range(8)] * 8)
    assert all(one.data == one.data[:1] * 100_000 for one in found)


def test_X9_an_exception_of_a_signal_handler_cuts_no_frame() -> None:
    """A timer that interrupts ``display`` wherever it is, over and over."""
    code = """
import signal
class Late(Exception): pass
def late(*_): raise Late
signal.signal(signal.SIGALRM, late)
done = caught = 0
while done + caught < 200:
    signal.setitimer(signal.ITIMER_REAL, 0.0002 + 0.00001 * (caught % 50))
    try:
        display({"image/png": bytes(70_000)}, raw=True)
        done += 1
        signal.setitimer(signal.ITIMER_REAL, 0)
    except Late:
        caught += 1
[done, caught]
"""
    policy = Policy().allow(wall_s=60, cpu_s=60, artifact_bytes=2**26)
    result = belljar.run(code, policy)
    assert result.status == "ok", result.error
    assert sum(result.value) == 200
    assert result.value[1], "nothing was interrupted"
    assert {len(one.data) for one in result.artifacts} == {70_000}
    assert len(result.artifacts) >= result.value[0]


def test_X9_a_soft_end_during_a_display_lets_the_rest_arrive() -> None:
    policy = Policy().limit(wall_s=0.3).allow(grace_s=5, artifact_bytes=2**28)
    code = "try:\n  while True: display({'image/png': bytes(1 << 20)}, raw=True)\nfinally: print('end')"
    result = belljar.run(code, policy, on_artifact=lambda one: None)
    assert result.limit is not None
    assert (result.limit.name, result.stdout) == ("wall", "end\n")
    assert result.artifacts


def test_X9_a_fork_shows_nothing() -> None:
    code = f"""
import os
pid = os.fork()
if pid == 0:
    {SHOW}    os._exit(0)
os.waitpid(pid, 0)
{SHOW}"""
    assert len(shown(code, Policy().allow(processes=1))) == 1


# -- live sandboxes ----------------------------------------------------------------------------


@pytest.fixture
def sandbox() -> Iterator[Sandbox]:
    with Sandbox() as made:
        yield made


def test_X9_artifacts_belong_to_their_run(sandbox: Sandbox) -> None:
    assert len(sandbox.run(SHOW * 2).artifacts) == 2
    assert sandbox.run("1").artifacts == ()
    sandbox.run("def f():\n  " + SHOW + "  return 7\n")
    assert sandbox.call("f") == 7
    assert len(sandbox.run(SHOW).artifacts) == 1


def test_X9_each_run_has_the_whole_limit_or_a_lower_one(sandbox: Sandbox) -> None:
    for most in (5, 5, 16 << 20):
        result = sandbox.run(SHOW * 2, artifact_bytes=most)
        assert len(result.artifacts) == (1 if most == 5 else 2)
        assert bool(result.truncated) == (most == 5)
    with pytest.raises(PolicyError):
        sandbox.run("1", artifact_bytes=2**30)


def test_X9_a_thread_that_goes_on_shows_in_the_run_that_is_there(sandbox: Sandbox) -> None:
    code = (
        "import threading, time\ndef f():\n  for n in range(200):\n    "
        + SHOW
        + "    time.sleep(0.01)\n"
    )
    sandbox.run(code + "threading.Thread(target=f, daemon=True).start()")
    assert sandbox.run("time.sleep(0.3)").artifacts
    for n in range(20):
        assert sandbox.run(str(n)).value == n


def test_X9_a_listener_for_one_run_stands_in_for_that_of_the_sandbox() -> None:
    first: list[Artifact] = []
    second: list[Artifact] = []
    with Sandbox(on_artifact=first.append) as sandbox:
        sandbox.run(SHOW)
        sandbox.run(SHOW, on_artifact=second.append)
    assert (len(first), len(second)) == (1, 1)


# -- the host's side ---------------------------------------------------------------------------


def test_K8_nothing_of_it_is_looked_into() -> None:
    code = "display({'application/json': '{broken', 'image/png': b'no', 'text/html': b'\\xff'},raw=True)"
    (one,) = shown(code)
    assert one.representations["application/json"] == b"{broken"
    assert one.text == "\ufffd"
    assert type(one.data) is bytes


def test_X9_artifacts_are_values() -> None:
    one = Artifact("n", {"text/plain": b"x", "image/png": b"y"})
    assert one == Artifact("n", {"image/png": b"y", "text/plain": b"x"})
    assert hash(one) == hash(Artifact("n", {"image/png": b"y", "text/plain": b"x"}))
    assert repr(one) == "Artifact('n', image/png: 1, text/plain: 1 bytes)"
    assert (one.media_type, one.data, one.text) == ("image/png", b"y", "x")
    assert Artifact("", {"image/png": b""}).text == ""


@pytest.mark.parametrize(
    ("kinds", "richest"),
    [
        (["text/plain", "application/x-other"], "application/x-other"),
        (
            ["image/png", "text/html", "application/vnd.vega.v5+json"],
            "application/vnd.vega.v5+json",
        ),
        (["image/png", "image/svg+xml", "text/latex"], "image/svg+xml"),
        (["application/json", "text/markdown"], "text/markdown"),
    ],
)
def test_X9_the_richest_comes_first(kinds: list[str], richest: str) -> None:
    assert Artifact("", dict.fromkeys(kinds, b"")).media_type == richest


def test_X9_a_run_without_artifacts_loads_nothing_for_them() -> None:
    code = "import belljar, sys; belljar.run('1'); print('belljar.artifact' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "False\n"


# -- libraries, made up ------------------------------------------------------------------------

LIBRARIES = {
    "matplotlib/__init__.py": """
import types
rcsetup = types.SimpleNamespace(_auto_backend_sentinel=object())
rcParams = {"backend": rcsetup._auto_backend_sentinel}
def use(backend): rcParams["backend"] = backend
""",
    "matplotlib/figure.py": """
class FigureBase: axes, lines, texts = (), (), ()
class Figure(FigureBase):
    def __init__(self, number): self.number, self.drawn = number, b""
    def plot(self, data): self.axes, self.drawn = (1,), self.drawn + data
    def savefig(self, file, format, bbox_inches):
        if self.drawn == b"bad": raise ValueError("cannot draw")
        file.write(self.drawn)
    def show(self, warn=True): raise AssertionError("there is no screen")
""",
    "matplotlib/pyplot.py": """
from .figure import Figure
_open = {}
def figure(number=None):
    number = number or max(_open, default=0) + 1
    return _open.setdefault(number, Figure(number))
def get_fignums(): return sorted(_open)
def close(figure): _open.pop(figure.number, None)
def plot(data): figure(max(_open, default=0) or 1).plot(data)
def show(*args, block=None): raise AssertionError("there is no screen")
""",
    "PIL/__init__.py": "",
    "PIL/Image.py": """
class Image:
    def _repr_png_(self): return b"png"
    def _repr_jpeg_(self): raise AssertionError("once is enough")
    def show(self, title=None): raise AssertionError("there is no screen")
""",
    "plotly/__init__.py": "",
    "plotly/basedatatypes.py": """
class BaseFigure:
    def to_json(self): return '{"data": []}'
    def _ipython_display_(self): raise AssertionError("there is no browser")
    def show(self, *args, **kwargs): raise AssertionError("there is no browser")
class Figure(BaseFigure): pass
""",
    "altair.py": """
class renderers:
    enabled = ""
    @classmethod
    def enable(cls, name): cls.enabled = name
class Chart:
    def _repr_mimebundle_(self, **_):
        return {"application/vnd.vegalite.v6.json": {"r": renderers.enabled}}
""",
}
PLT = "import sys; sys.path.insert(0, '/work')\nimport matplotlib.pyplot as plt\n"


def figures(code: str) -> list[tuple[str, bytes]]:
    return [(one.name, one.data) for one in shown(PLT + code, files=LIBRARIES)]


@pytest.mark.parametrize(
    ("code", "wanted"),
    [
        ("plt.plot(b'1')", [("figure-1", b"1")]),
        ("plt.plot(b'1'); plt.show(); plt.plot(b'2'); plt.show()", [("figure-1", b"1"), ("figure-1", b"2")]),
        ("plt.figure(1).plot(b'1'); plt.figure(2).plot(b'2')", [("figure-1", b"1"), ("figure-2", b"2")]),
        ("plt.plot(b'1'); plt.show(block=False); plt.plot(b'2')", [("figure-1", b"12")]),
        ("plt.figure(3)", []),
        ("plt.plot(b'1'); plt.figure(1).show()", [("figure-1", b"1")]),
        ("plt.plot(b'1'); display(plt.figure(1))", [("figure-1", b"1")]),
        ("plt.plot(b'1'); display(plt.figure(1)); plt.plot(b'2')", [("figure-1", b"1"), ("figure-1", b"12")]),
        ("plt.plot(b'1'); plt.figure(1)", [("figure-1", b"1")]),
        ("plt.plot(b'1'); display(plt.figure(1)); plt.figure(1)", [("figure-1", b"1")]),
        ("import matplotlib; matplotlib.use('agg'); plt.plot(b'1')", [("figure-1", b"1")]),
        ("import threading; threading.Thread(target=plt.plot, args=(b't',)).start()", [("figure-1", b"t")]),
        ("import atexit; atexit.register(plt._open.clear); plt.plot(b'1')", [("figure-1", b"1")]),
    ],
)  # fmt: skip
def test_X9_figures(code: str, wanted: list[tuple[str, bytes]]) -> None:
    assert figures(code) == wanted


def test_X9_figures_of_a_run_that_raised_and_one_that_cannot_be_drawn() -> None:
    result = belljar.run(
        PLT + "plt.figure(1).plot(b'bad'); plt.figure(2).plot(b'2'); 1/0", files=LIBRARIES
    )
    assert result.status == "raised"
    assert [one.data for one in result.artifacts] == [b"2"]
    assert result.stderr == "figure 1 could not be drawn: ValueError: cannot draw\n"


def test_X9_no_screen_is_looked_for() -> None:
    assert (
        belljar.run(
            "import sys; sys.path.insert(0, '/work')\nimport matplotlib; matplotlib.rcParams['backend']",
            files=LIBRARIES,
        ).value
        == "agg"
    )


def test_X9_figures_of_a_live_sandbox_belong_to_the_run_that_drew_them(sandbox: Sandbox) -> None:
    sandbox.run(PLT, files=LIBRARIES)
    for n in (b"1", b"2"):
        result = sandbox.run(f"plt.plot({n})")
        assert [one.data for one in result.artifacts] == [n]
    assert sandbox.run("plt.get_fignums()").value == []


@pytest.mark.parametrize("shows", ["one.show()", "display(one)", "one"])
@pytest.mark.parametrize(
    ("make", "kind", "data"),
    [
        ("from PIL import Image; one = Image.Image()", "image/png", b"png"),
        (
            "from plotly.basedatatypes import Figure; one = Figure()",
            *("application/vnd.plotly.v1+json", b'{"data": []}'),
        ),
        (
            "import altair; one = altair.Chart(); one.__class__.show = lambda s: display(s)",
            *("application/vnd.vegalite.v6.json", b'{"r": "mimetype"}'),
        ),
    ],
)
def test_X9_pictures_and_charts(make: str, kind: str, data: bytes, shows: str) -> None:
    code = f"import sys; sys.path.insert(0, '/work')\n{make}\n{shows}"
    (one,) = shown(code, files=LIBRARIES)
    assert (one.media_type, one.data) == (kind, data)


# -- libraries, real ---------------------------------------------------------------------------


def real(*packages: str) -> Policy:
    for name in packages:
        if importlib.util.find_spec(name) is None:
            pytest.skip(f"needs {name}, of the dependency group examples")
    return Policy().allow(packages=list(packages), wall_s=120, cpu_s=120, memory_bytes=2**30)


def test_X9_matplotlib_itself() -> None:
    policy = real("matplotlib")
    code = """
import matplotlib.pyplot as plt
fig, ax = plt.subplots()
ax.plot([1, 2, 3])
plt.show()
fig, ax = plt.subplots(num="sales")
ax.bar([1, 2], [3, 4])
display(fig)
fig
"""
    first, second = shown(code, policy)
    assert (first.name, second.name) == ("figure-1", "sales")
    for one in (first, second):
        assert one.media_type == "image/png"
        assert one.data.startswith(b"\x89PNG")
        assert one.metadata["width"] > 100
        assert one.text.startswith("<Figure size")
