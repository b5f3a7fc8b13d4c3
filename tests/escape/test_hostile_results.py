"""K1, K3, K7, K8: results made by a guest that has taken its agent, its exceptions or its
streams apart.

What: exceptions of every size and shape at the end of a run, objects of the guest's where the
interpreter or the agent looks, and the agent's own connection found and used.  Because: the
agent lives in the guest's process, so whatever it does on the way to a result can be made to
fail, to lie, or never to end.  Then: one typed result, texts within their caps, values of
built-in types, and the host goes on.
"""

from __future__ import annotations

from typing import Any

import pytest

import belljar
from belljar import Policy, Result
from belljar.testing.hostile_peer import denied, finished
from belljar.wire.limits import (
    MESSAGE_CHARS,
    NOTE_CHARS,
    NOTES,
    TRACEBACK_CHARS,
    TYPE_CHARS,
)

from .host_memory import bound
from .measure import cost
from .native import attack
from .test_crossing_values import plain

STATUSES = ("ok", "raised", "exited", "crashed", "limit")
POLICY = Policy().limit(cpu_s=1, wall_s=1.5)  # those that never end only wait


def one_result(code: str, policy: Policy = POLICY, **arguments: Any) -> Result:
    """Run it and hold what came back against everything that holds for any result."""
    with cost() as host:
        result = attack(code, policy, **arguments)
    assert host.peak_bytes < bound(policy.limits)
    assert result.status in STATUSES
    assert plain(result.value)
    if result.error is not None:
        error = result.error
        assert [type(text) for text in (error.type, error.message, error.traceback)] == [str] * 3
        assert len(error.type) <= TYPE_CHARS
        assert len(error.message) <= MESSAGE_CHARS
        assert len(error.traceback) <= TRACEBACK_CHARS
        assert len(error.notes) <= NOTES
        assert all(type(note) is str and len(note) <= NOTE_CHARS for note in error.notes)
    assert (result.status == "limit") == (result.limit is not None)
    assert belljar.run("40 + 2").value == 42
    return result


CHAIN = "e = ValueError(0)\nfor i in range(100_000):\n n = ValueError(i); n.{} = e; e = n\nraise e"

EXCEPTIONS = {
    "contexts, 100,000": CHAIN.format("__context__"),
    "causes, 100,000": CHAIN.format("__cause__"),
    "group, 100,000 wide": "raise ExceptionGroup('g', [ValueError(i) for i in range(100_000)])",
    "group, 100,000 deep": "e = ValueError()\n"
    "for _ in range(100_000): e = ExceptionGroup('g', [e])\nraise e",
    "groups of groups": "e = ValueError('x' * 1000)\n"
    "for _ in range(60): e = ExceptionGroup('g' * 1000, [e] * 50)\nraise e",
    "group that lies": "class G(ExceptionGroup):\n"
    " exceptions = property(lambda s: iter(int, 1))\nraise G('g', [ValueError()])",
    "group of its own": "class G(ExceptionGroup):\n"
    " exceptions = property(lambda s: (s, s))\nraise G('g', [ValueError()])",
    "cause that never ends": "class E(Exception):\n"
    " __cause__ = property(lambda s: E())\nraise E",
    "context that never ends": "class E(Exception):\n"
    " __context__ = property(lambda s: E())\nraise E",
    "traceback that is none": "class E(Exception):\n __traceback__ = property(lambda s: 5)\nraise E",
    "cause that is none": "class E(Exception):\n __cause__ = 'text'\nraise E",
    "suppression that exits": "class E(Exception):\n"
    " @property\n def __suppress_context__(s): raise SystemExit(7)\nraise E",
    "arguments that exit": "class E(Exception):\n"
    " @property\n def args(s): raise SystemExit(7)\nraise E",
    "notes that exit": "class E(Exception):\n"
    " @property\n def __notes__(s): raise SystemExit(7)\nraise E",
    "class that exits": "class E(Exception):\n"
    " @property\n def __class__(s): raise SystemExit(7)\nraise E",
    "notes, a million": "e = ValueError(); e.__notes__ = ['n' * 100] * 10**6\nraise e",
    "note that never ends": "class N:\n def __str__(s):\n  while True: pass\n"
    "e = ValueError(); e.__notes__ = [N()]\nraise e",
    "notes of another list": "class L(list):\n def __iter__(s): return iter(int, 1)\n"
    " def __getitem__(s, i): return s\ne = ValueError(); e.__notes__ = L()\nraise e",
    "message of surrogates": "raise ValueError('\\ud800\\udfff' * 10**5)",
    "message of escapes": "raise ValueError('\\x1b]52;c;AAAA\\x07\\u202e\\0' * 10**5)",
    "message of all planes": "raise ValueError(''.join(map(chr, range(0, 0x110000, 7))))",
    "message that grows": "class E(Exception):\n n = 1\n"
    " def __str__(s):\n  E.n *= 2\n  return 'x' * E.n\nraise E('a', E('b'))",
    "nested repr": "x = []\nfor _ in range(10**6): x = [x]\nraise ValueError(x)",
    "arguments, a million": "raise ValueError(*range(10**6))",
    "arguments of themselves": "a = []; a.append(a); raise ValueError(a, a)",
    "huge integer": "raise ValueError(10 ** 10_000)",
    "type without a name": "E = type('E', (Exception,), {})\n"
    "try: E.__name__ = '\\ud800' * 10**5\nexcept UnicodeError: pass\nE.__qualname__ = 'q.' * 10**6\nraise E",
    "module of a hostile text": "class S(str):\n def __eq__(s, o): raise SystemExit(7)\n"
    " __hash__ = str.__hash__\nclass E(Exception): __module__ = S('m')\nraise E",
    "module, ten million": "class E(Exception): __module__ = 'm' * 10**7\nraise E",
    "metaclass that exits": "class M(type):\n @property\n def __module__(c): raise SystemExit(7)\n"
    " @property\n def __qualname__(c): raise SystemExit(7)\n def __repr__(c): raise SystemExit(7)\n"
    "class E(Exception, metaclass=M): pass\nraise E",
    "instance check": "class M(type):\n def __instancecheck__(c, i): raise SystemExit(7)\n"
    " def __subclasscheck__(c, i): raise SystemExit(7)\nclass E(Exception, metaclass=M): pass\nraise E",
    "memory error that lies": "class E(MemoryError):\n @property\n def args(s): return [s] * 10**6\nraise E",
    "error number that lies": "class E(OSError):\n errno = property(lambda s: 1/0)\nraise E(12, 'x')",
    "key error of keys": "class K:\n def __repr__(s): raise KeyError(s)\nraise KeyError(K())",
    "attribute suggestions": "class A:\n def __dir__(s): return iter(int, 1)\nA().missing",
    "attribute suggestions of texts": "class S(str):\n def __len__(s): return -1\n"
    "class A:\n def __dir__(s): return [S('missinG')] * 10**4\nA().missing",
    "name suggestions": "globals().update({f'name{i}': 1 for i in range(10**5)})\nname",
    "import suggestions": "from os import " + "x" * 10_000,
    "syntax error, fields": "class S(SyntaxError):\n def __getattribute__(s, n): raise SystemExit(7)\n"
    "raise S('m', ('f', 1, 2, 't'))",
    "syntax error, numbers": "raise SyntaxError('m', ('f', 2**40, 2**40, 'x' * 10**6, -2**40, 2**62))",
    "syntax error, texts": "e = SyntaxError('m'); e.filename = e.text = e.msg = object()\n"
    "e.lineno = e.offset = e.end_lineno = e.end_offset = object()\nraise e",
    "syntax error of source": "compile('(' * 10_000 + '\\x1b[2J\\u202e', '\\ud800' * 10_000, 'exec')",
    "syntax error, long line": "compile('x' * 10**6 + ' y', 'f', 'exec')",
    "source that is not there": "exec(compile('1/0', '/dev/zero', 'exec'))",
    "source that is a place": "exec(compile('1/0', '/work', 'exec'))",
    "source that waits": "os.mkfifo('fifo')\nexec(compile('1/0', '/work/fifo', 'exec'))",
    "source of escapes": "exec(compile('1/0', '\\x1b[2J' * 10**4, 'exec'))",
    "file name of the agent": "exec(compile('1/0', belljar_file, 'exec'))",
    "line numbers": "c = compile('1/0', 'attack.py', 'exec').replace(co_firstlineno=2**31 - 1)\nexec(c)",
    "line table": "c = compile('1/0', 'attack.py', 'exec')\n"
    "exec(c.replace(co_linetable=b'\\xff' * 1000))",
    "line table of nothing": "c = compile('1/0', 'attack.py', 'exec')\nexec(c.replace(co_linetable=b''))",
    "function name": "def f(): 1/0\n"
    "f.__code__ = f.__code__.replace(co_name='\\x1b[2J' * 10**5, co_qualname='q' * 10**6)\nf()",
    "locals that lie": "class L(dict):\n def __getitem__(s, k): raise SystemExit(7)\n"
    "exec('1/0', {}, L())",
    "globals that lie": "class L(dict):\n def get(s, *a): raise SystemExit(7)\n"
    " def __getitem__(s, k): raise SystemExit(7)\nexec('1/0', L())",
    "loader that lies": "class L:\n def get_source(s, n): raise SystemExit(7)\n"
    "exec(compile('1/0', 'nowhere.py', 'exec'), {'__name__': 'm', '__loader__': L()})",
    "loader that never ends": "class L:\n def get_source(s, n): return 'x\\n' * 10**8\n"
    "exec(compile('1/0', 'nowhere.py', 'exec'), {'__name__': 'm', '__loader__': L()})",
    "tracebacks of others": "import types, sys\nt = None\n"
    "for i in range(200_000): t = types.TracebackType(t, sys._getframe(), i, -5)\n"
    "raise ValueError('x').with_traceback(t)",
    "recursion in str": "class E(Exception):\n def __str__(s): return str(s)\nraise E",
    "recursion in repr": "class E(Exception):\n def __repr__(s): return repr(s)\n __str__ = __repr__\nraise E",
    "recursion without a limit": "import sys; sys.setrecursionlimit(10**6)\ndef f(n):\n"
    " try: f(n + 1)\n finally: 1/0\nf(0)",
    "raised in a finaliser of it": "class E(Exception):\n def __del__(s): raise s\nraise E",
    "raised again for ever": "class E(Exception):\n def __del__(s):\n  global kept\n  kept = E()\nraise E",
    "hash and equality": "class E(Exception):\n def __hash__(s): raise SystemExit(7)\n"
    " def __eq__(s, o): raise SystemExit(7)\na = E(); a.__cause__ = E(); raise a",
    "stop of a generator": "def g(): raise StopIteration\n\ndef h(): yield from g()\nlist(h())",
    "coroutine": "async def f(): raise ExceptionGroup('g', [ValueError()] * 1000)\nawait f()",
    "task group": "import asyncio\nasync def f(n): raise ValueError(n)\n"
    "async with asyncio.TaskGroup() as g:\n for n in range(1000): g.create_task(f(n))",
    "exit of a hostile code": "class C:\n def __str__(s): raise SystemExit(C())\nraise SystemExit(C())",
    "exit with a huge text": "raise SystemExit('x' * 10**7)",
    "exit with a number that lies": "class C(int):\n def __int__(s): return 'x'\n"
    " def __and__(s, o): return 10**100\nraise SystemExit(C(9))",
    "exit of its own": "class X(SystemExit):\n code = property(lambda s: 1/0)\nraise X",
    "interrupt": "import signal; signal.raise_signal(2)",
    "memory gone": "x = []\ntry:\n while True: x.append(bytearray(2**16))\n"
    "except MemoryError as e: raise ValueError('x' * 100) from e",
}  # fmt: skip


@pytest.mark.parametrize("how", EXCEPTIONS)
def test_K7_every_exception_gives_one_bounded_result(how: str) -> None:
    result = one_result(EXCEPTIONS[how], inputs={"belljar_file": belljar.__file__})
    assert result.status != "ok"
    assert result.value is None


HUGE = {
    "message": "raise ValueError('x' * 10**8)",
    "message of its own": "class E(ValueError):\n def __str__(s): return 'x' * 10**8\nraise E",
    "note": "e = ValueError('x'); e.add_note('y' * 10**8); raise e",
    "chain": "e = ValueError('x' * 10**7)\nfor _ in range(12):\n"
    " n = ValueError('y' * 10**7); n.__cause__ = e; e = n\nraise e",
    "text that takes all": "def f(a='x' * 150_000_000): raise ValueError(a)\nf()",
}  # fmt: skip


@pytest.mark.parametrize("how", HUGE)
def test_K7_R1_texts_as_large_as_the_memory_are_cut_and_told(how: str) -> None:
    """There is room for one such text and for no copy of it; the exception arrives all the same."""
    result = one_result(HUGE[how])
    assert (result.status, result.exit_code) == ("raised", None)
    assert result.error is not None
    assert result.error.type in ("ValueError", "E")


STREAMS = {
    "stdout is a number": "sys.stdout = 5",
    "stdout is gone": "del sys.stdout",
    "stdout closed": "sys.stdout.close()",
    "stdout lies": "class S:\n def __getattribute__(s, n): raise SystemExit(7)\nsys.stdout = sys.stderr = S()",
    "flush raises": "class S:\n def flush(s): raise KeyboardInterrupt\n def write(s, t): raise s\n"
    "sys.stdout = sys.stderr = S()",
    "flush exits": "class S:\n def flush(s): os._exit(0)\nsys.stdout = S()",
    "flush of a class": "sys.stdout = type('S', (), {'flush': property(lambda s: 1/0)})()",
    "encodings": "sys.stdout.reconfigure(encoding='utf-16', errors='strict', newline='\\x1b')\nprint('x')",
    "buffer detached": "sys.stdout.detach(); sys.stderr.detach()",
    "raw closed": "sys.stdout.buffer.raw._blksize; sys.__stdout__.buffer.raw.close()",
    "excepthook": "sys.excepthook = sys.unraisablehook = sys.displayhook = lambda *a: os._exit(9)",
    "exit functions": "import atexit\nfor _ in range(10**4): atexit.register(lambda: 1/0)",
    "main replaced": "sys.modules['__main__'] = 5",
    "main emptied": "vars(sys.modules['__main__']).clear()",
    "main of hostile things": "class H:\n def __del__(s): raise SystemExit(7)\n"
    "for i in range(1000): globals()[f'h{i}'] = H()",
    "modules replaced": "sys.modules = {}; sys.meta_path = None; sys.path = 5",
    "modules that lie": "class M(dict):\n def __getitem__(s, k): raise SystemExit(7)\n"
    " def get(s, *a): raise SystemExit(7)\nsys.modules = M()",
    "threads of nothing": "sys.modules['threading'] = type('T', (), {'_shutdown': 5})",
    "tracing": "sys.settrace(lambda *a: 1/0); sys.setprofile(lambda *a: 1/0)",
    "recursion limit": "sys.setrecursionlimit(60)",
    "switch interval": "sys.setswitchinterval(1e-9)",
    "collector": "import gc\ngc.callbacks.append(lambda *a: 1/0); gc.set_debug(gc.DEBUG_LEAK)",
    "audit": "def hook(e, a): raise SystemExit(7)\nsys.addaudithook(hook)",
    "audit that never ends": "def hook(e, a):\n while True: pass\nsys.addaudithook(hook)",
    "builtins": "import builtins\nbuiltins.isinstance = builtins.type = builtins.len = lambda *a: 1/0",
    "builtins gone": "import builtins\nvars(builtins).clear()",
}  # fmt: skip


@pytest.mark.parametrize("how", STREAMS)
def test_K8_hostile_objects_where_the_interpreter_looks(how: str) -> None:
    result = one_result(f"import sys\n{STREAMS[how]}\n'value'")
    assert result.value in (None, "value")


# The agent's code has no names in the guest's modules, but its objects are in its memory.
FIND = """
import gc, sys
def found(kind, attribute):
    return [o for o in gc.get_objects() if type(o).__name__ == kind and hasattr(o, attribute)]
frames = []
frame = sys._getframe()
while frame is not None:
    frames.append(frame)
    frame = frame.f_back
agent = next((f for f in frames if f.f_code.co_name == "serve"), None)
names = agent.f_globals if agent is not None else {}
"""

AGENT = {
    "its connection closes": "c = agent.f_locals['connection']\nc._state = 'CLOSED'\n1",
    "its connection lies": "c = agent.f_locals['connection']\ntype(c).send = lambda s, e: FORGED\n1",
    "its connection is endless": "c = agent.f_locals['connection']\n"
    "type(c).send = lambda s, e: b'\\x00\\x00\\x00\\x0f\\x83' * 10**6\n1",
    "its connection sends no bytes": "c = agent.f_locals['connection']\n"
    "type(c).send = lambda s, e: ['text']\n1",
    "another run's number": "c = agent.f_locals['connection']\nc._run_id = 99\n1",
    "a write of its own": "agent.f_locals['link'].speak = lambda event: os.write(3, FORGED)\n1",
    "a write that does nothing": "agent.f_locals['link']._outgoing._write = lambda fd, data: 2**30\n1",
    "a write of each byte twice": "agent.f_locals['link']._outgoing._write = lambda fd, view: os.write(fd, view) // 2 or 1\n1",
    "an answer with each denial": "names['denials'].take = lambda: ['text'] * 10**6\n1",
    "denials of hostile texts": "class S(str):\n def __len__(s): return 0\n"
    "class D:\n action = target = grant = S('x' * 10**7)\nnames['denials'].take = lambda: (D(),)\n1",
    "the code of its functions": "def f(*a): os.write(3, FORGED); os._exit(0)\n"
    "type(agent.f_locals['link']).speak.__code__ = (lambda self, event: f()).__code__\n1",
    "its run executed again": "order = next(f for f in frames if f.f_code.co_name == 'run').f_locals['order']\n"
    "names['execute'].run(order, None)\n1",
    "its frames cleared": "for o in gc.get_objects():\n"
    " if isinstance(o, dict) and 'connection' in o:\n  o.clear()\n1",
    "its budget": "b = agent.f_locals['budget']\nobject.__setattr__(b, 'memory_bytes', 2**60)\n"
    "object.__setattr__(b, 'nodes', 2**60)\nobject.__setattr__(b, 'frame_bytes', 2**31 - 1)\n[0] * (3 * 10**6)",
    "its encoder": "for m in list(sys.modules.values()):\n"
    " if getattr(m, 'encode_frame', None): m.encode_frame = lambda *a: FORGED\n1",
    "its descriptor": "r, w = os.pipe()\nos.dup2(w, 3)\n1",
    "its descriptor to a file": "os.dup2(os.open('f', os.O_CREAT | os.O_RDWR), 3)\n1",
}  # fmt: skip


@pytest.mark.parametrize("how", AGENT)
def test_K3_the_agent_taken_apart_forges_a_claim_at_most(how: str) -> None:
    forged = denied(("read", "forged", "none")) + finished("forged")
    result = one_result(FIND + AGENT[how], Policy().limit(wall_s=1.5), inputs={"FORGED": forged})
    assert result.status in STATUSES
    assert result.value in (None, 1, "forged")
    assert result.limit is None or result.limit.name in ("wall", "cpu")
    assert result.usage.peak_memory_bytes > 0


def test_K3_the_agent_can_be_found_and_used() -> None:
    """The attacks above reach what they aim at: this one's forged answer arrives."""
    forged = finished("forged")
    code = FIND + "agent.f_locals['link'].speak = lambda event: os.write(3, FORGED)\n1"
    assert one_result(code, inputs={"FORGED": forged}).value == "forged"


def test_K7_the_message_of_an_exception_on_the_host_is_text() -> None:
    """Nobody escapes the traceback of a program that did not catch it."""
    said = "a\x1b]52;c;AAAA\x07\u202e\x9b\ud800\r\x7f\u200b\x00"
    result = one_result(
        f"class E(Exception): pass\nE.__qualname__ = {said!r}\nraise E({said!r} * 2)"
    )
    with pytest.raises(belljar.GuestRaised) as caught:
        result.unwrap()
    assert str(caught.value).isprintable()
    assert r"a\x1b]52;c;AAAA\x07\u202e\x9b\ud800\r\x7f\u200b\x00" in str(caught.value)
    assert result.error is not None
    assert result.error.message == said * 2
    readable = one_result("raise ValueError('two\\nlines\\tand 漢 é \\u3000 🐍')")
    with pytest.raises(belljar.GuestRaised, match="two\nlines\tand 漢 é \u3000 🐍"):
        readable.unwrap()


VALUE_BYTES = Policy().limit(value_bytes=2**20)

EDGES = {
    "bytes": ("b'x' * ({} - 200)", 2**20),
    "text": ("'x' * ({} - 200)", 2**20),
    "wide text": (
        "'\\U0001f600' * ({} - 200)",
        2**16,
    ),  # priced as if each of its bytes were a character
    "numbers": ("[10**6 + i for i in range({} - 10)]", 2**20 // 57),
    "lists": ("[[] for _ in range({} - 10)]", 2**20 // 97),
    "keys": ("{{i + 1000: None for i in range({} - 10)}}", 2**20 // 152),
    "depth": ("x = 0\nfor _ in range({}): x = [x]\nx", 100),
    "big integer": ("-(1 << 8 * {} - 9)", 2**17),
}


@pytest.mark.parametrize("how", EDGES)
def test_K1_values_on_either_side_of_each_edge(how: str) -> None:
    """Just within the budget it crosses, just beyond it says why not."""
    code, size = EDGES[how]
    within = one_result(code.format(size * 97 // 100), VALUE_BYTES)
    assert (within.status, within.value_error) == ("ok", None)
    beyond = one_result(code.format(size * 2), VALUE_BYTES)
    assert (beyond.status, beyond.value) == ("ok", None)
    assert beyond.value_error


@pytest.mark.parametrize("size", [2**25, 2**25 - 5, 2**25 - 64 * 2**10, 2**20 + 1])
def test_K1_the_host_holds_the_budget_against_a_guest_that_does_not(size: int) -> None:
    """The agent's own check is shape; the host's is what counts."""
    code = "for _ in [1]:\n os.write(3, HEAD)\n view = memoryview(bytes(SIZE))\n"
    code += " while view: view = view[os.write(3, view):]\nos._exit(0)"
    head = b"\x97\x01\xa2ok\xc6" + (size - 32).to_bytes(4, "big")
    frame = (len(head) + size - 32 + 4).to_bytes(4, "big") + b"\x83" + head
    tail = b"\xc0\xc0\xc0\x90"
    code = code.replace("os._exit", "os.write(3, TAIL)\nos._exit")
    inputs = {"HEAD": frame, "SIZE": size - 32, "TAIL": tail}
    result = one_result(code, VALUE_BYTES, inputs=inputs)
    assert result.value is None
    assert result.status == "crashed" or result.value_error
