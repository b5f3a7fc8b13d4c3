"""K1, K3, K7, K8: only data crosses, whatever the value, the exception or its methods.

What: values and exceptions whose every method is an attack.  Because: the host prints, compares,
copies and stores what it gets.  Then: what arrives is of a plain built-in type, made by the
host's own decoder; what cannot cross says so; and no method of a guest's object ever runs on
the host.
"""

from __future__ import annotations

import copy
import json
import math
import pickle
from typing import Any

import pytest

import belljar
from belljar import Policy

from .native import attack

PLAIN = {type(None), bool, int, float, complex, str, bytes, list, tuple, dict, set, frozenset}


def use(value: Any) -> None:
    """What a careless host does with a value; an int may be too long to print."""
    for act in (repr, bool, str, lambda v: v == v, copy.deepcopy, json.dumps, pickle.dumps, hash):
        try:
            act(value)
        except (TypeError, ValueError):
            continue


def plain(value: Any) -> bool:
    """Whether a value and all in it are of exactly the built-in types."""
    if type(value) not in PLAIN:
        return False
    if isinstance(value, dict):
        return all(plain(k) and plain(v) for k, v in value.items())
    if isinstance(value, (list, tuple, set, frozenset)):
        return all(map(plain, value))
    return True


HOSTILE = """
class Hostile:
    def _boom(self, *a, **k):
        print("BOOM", flush=True)
        raise SystemExit(99)
    __repr__ = __str__ = __eq__ = __hash__ = __bool__ = __len__ = __iter__ = __getattr__ = _boom
    __reduce__ = __reduce_ex__ = __getstate__ = __copy__ = __deepcopy__ = __index__ = _boom
    __int__ = __float__ = __bytes__ = __format__ = __dir__ = __del__ = __call__ = _boom
    __enter__ = __exit__ = __await__ = __next__ = __contains__ = __lt__ = _boom
"""

CANNOT = {
    "object": "object()",
    "hostile": "Hostile()",
    "in a list": "[1, Hostile()]",
    "as a key": "{object(): 1}",
    "function": "lambda: 1",
    "class": "Hostile",
    "module": "__import__('os')",
    "code": "compile('1', 'x', 'eval')",
    "generator": "(i for i in [1])",
    "frame": "__import__('sys')._getframe()",
    "exception": "ValueError(1)",
    "file": "open('/dev/null')",
    "range": "range(5)",
    "lock": "__import__('threading').Lock()",
    "cycle": "x = []; x.append(x); x",
    "longer cycle": "x = {}; y = [x]; x['a'] = y; x",
    "cycle of tuples": "x = []; y = (x,); x.append(y); y",
    "deep": "x = []\nfor _ in range(10_000): x = [x]\nx",
    "deep dicts": "x = 0\nfor _ in range(10_000): x = {'a': x}\nx",
    "deep tuples": "x = ()\nfor _ in range(1000): x = (x,)\nx",
    "laughs": "x = ['lol']\nfor _ in range(40): x = [x] * 2\nx",
    "many": "[0] * 3_000_000",
    "huge integer": "1 << 10**8",
    "colliding keys": "{(i * (2**61 - 1)): i for i in range(300)}",
    "deepcopy bomb": "[[[0] * 1000] * 1000] * 1000",
}


@pytest.mark.parametrize("how", CANNOT)
def test_K3_what_is_not_data_does_not_cross(how: str) -> None:
    setup, _, last = CANNOT[how].rpartition("\n") if "\n" in CANNOT[how] else ("", "", CANNOT[how])
    result = attack(f"{HOSTILE}\n{setup}\n{last}")
    assert result.value is None
    assert result.status in ("ok", "limit", "raised")
    if result.status == "ok":
        assert result.value_error
        assert "Hostile object at" not in result.value_error
        with pytest.raises(belljar.GuestRaised):
            result.unwrap()


CROSSES = {
    "NaN": "float('nan')",
    "infinities": "[float('inf'), float('-inf'), -0.0]",
    "NaN as a key": "{float('nan'): 1}",
    "lone surrogates": "'\\ud800\\udfff'",
    "surrogate key": "{'\\udc80': b'\\x80'}",
    "NUL and escapes": "'\\0\\x1b[31m\\r\\n\\u202e'",
    "big integer": "10 ** 5000",
    "negative big": "-(1 << 100_000)",
    "boundaries": "[2**63 - 1, 2**63, -2**63, -2**63 - 1, 2**64 - 1, 2**64]",
    "equal keys of types": "{1: 'a', 1.5: 'b', True: 'c', (1,): 'd', b'1': 'e', '1': 'f'}",
    "long text": "'x' * 100_000",
    "wide text": "'\\U0001f600' * 1000",
    "bytes": "bytes(range(256))",
    "empty": "[[], (), {}, set(), frozenset(), '', b'']",
    "nested": "[{'a': ({1, 2}, frozenset({(3,)}))}]",
    "shared": "x = [1]; [x, x]",
    "complex": "complex('nan+infj')",
    "many keys": "{str(i): i for i in range(10_000)}",
}


@pytest.mark.parametrize("how", CROSSES)
def test_K2_odd_data_crosses_as_data(how: str) -> None:
    result = attack(CROSSES[how])
    assert (result.status, result.value_error) == ("ok", None)
    assert plain(result.value)
    use(result.value)
    space: dict[str, Any] = {}
    setup, _, last = CROSSES[how].rpartition("; ")
    exec(setup, space)
    expected = eval(last, space)
    if how in ("NaN", "complex", "NaN as a key", "infinities"):
        assert repr(result.value) == repr(expected)
    else:
        assert result.value == expected


LIARS = {
    "str": "class A(str):\n def __len__(self): return 0\n def encode(self, *a): return b'FORGED'\n"
    " def __str__(self): return 'FORGED'\nA('true')",
    "int": "class A(int):\n def __int__(self): return 7\n def to_bytes(self, *a, **k): return b'F'\n"
    " def bit_length(self): return 0\nA(5)",
    "bool-like": "class A(int):\n def __bool__(self): return True\nA(0)",
    "bytes": "class A(bytes):\n def __len__(self): return 10**9\n def __iter__(self): return iter([1])\n"
    "A(b'true')",
    "list": "class A(list):\n def __iter__(self): return iter(['FORGED'])\n"
    " def __len__(self): return 10**9\nA([1])",
    "tuple": "class A(tuple):\n def __iter__(self): return iter(['FORGED'])\nA((1,))",
    "dict": "class A(dict):\n def items(self): return [('FORGED', 1)]\n def keys(self): return []\n"
    " def __len__(self): return 0\nA({'a': 1})",
    "set": "class A(set):\n def __iter__(self): return iter(['FORGED'])\nA({1})",
    "float": "class A(float):\n def __float__(self): return 7.0\n def hex(self): return 'x'\nA(1.5)",
    "class attribute": "class A:\n __class__ = str\nA()",
    "class by property": "class A:\n __class__ = property(lambda s: list)\nA()",
    "metaclass": "class M(type):\n def __instancecheck__(c, i): return True\n"
    " def __eq__(c, o): return True\n __hash__ = type.__hash__\nclass A(metaclass=M): pass\nA()",
    "enum": "import enum\nclass A(enum.IntEnum):\n X = 3\nA.X",
    "named tuple": "import collections\ncollections.namedtuple('A', 'x')(1)",
    "default dict": "import collections\ncollections.defaultdict(list, a=[1])",
    "growing": "class A(list):\n def __getitem__(self, i): self.append(0); return 0\nA([1, 2])",
}


@pytest.mark.parametrize("how", LIARS)
def test_K8_subclasses_cross_as_what_they_are_built_on_or_not_at_all(how: str) -> None:
    setup, _, last = LIARS[how].rpartition("\n")
    result = attack(f"{setup}\n{last}")
    assert result.status == "ok"
    assert plain(result.value)
    assert "FORGED" not in repr(result.value)
    if how in ("str", "bytes"):
        assert result.value in ("true", b"true")
    use(result.value)


def test_K8_a_value_that_changes_while_it_is_read() -> None:
    code = """
import threading, time
x = list(range(1000))
y = {i: i for i in range(1000)}
stop = []
def change():
    while not stop:
        x.append(0); x.pop(0)
        y[len(y)] = 0; y.pop(next(iter(y)), None)
threading.Thread(target=change, daemon=True).start()
[x, y] * 20
"""
    result = attack(code)
    assert result.status in ("ok", "raised", "limit")
    assert plain(result.value)


# ----------------------------------------------------------------------- exceptions

RAISES = {
    "str raises": "class E(Exception):\n def __str__(self): raise ValueError\nraise E",
    "str exits": "class E(Exception):\n def __str__(self): raise SystemExit(5)\nraise E",
    "str is no str": "class E(Exception):\n def __str__(self): return 5\nraise E",
    "str is another": "class S(str):\n def __len__(self): return 0\n def __str__(self): return 5\n"
    "class E(Exception):\n def __str__(self): return S('x')\nraise E",
    "repr raises": "class E(Exception):\n __repr__ = __str__ = lambda s: 1/0\nraise E(E())",
    "huge message": "raise ValueError('x' * 10**7)",
    "huge type name": "raise type('E' * 10**6, (Exception,), {})",
    "odd type name": "raise type('\\x1b[31m\\n\\ud800', (Exception,), {})",
    "module lies": "class E(Exception): __module__ = property(lambda s: 1/0)\nraise E",
    "module is no text": "class E(Exception): __module__ = 5\nraise E",
    "qualname": "class E(Exception): pass\nE.__qualname__ = 'belljar.WorkerDied'\nraise E",
    "metaclass": "class M(type):\n def __getattribute__(c, n): raise SystemExit\n"
    "class E(Exception, metaclass=M): pass\nraise E",
    "getattribute": "class E(Exception):\n def __getattribute__(s, n): raise KeyError(n)\nraise E",
    "notes are no list": "e = ValueError(); e.__notes__ = 5\nraise e",
    "notes of objects": "e = ValueError(); e.__notes__ = [object(), 'x' * 10**6] * 100\nraise e",
    "notes for ever": "import itertools\ne = ValueError(); e.__notes__ = itertools.count()\nraise e",
    "chain": "e = ValueError()\nfor i in range(10_000):\n n = ValueError(i); n.__context__ = e; e = n\nraise e",
    "cause": "e = ValueError()\nfor i in range(10_000):\n n = ValueError(i); n.__cause__ = e; e = n\nraise e",
    "cycle": "a = ValueError('a'); b = ValueError('b'); a.__context__ = b; b.__context__ = a\nraise a",
    "cause of itself": "e = ValueError(); e.__cause__ = e\nraise e",
    "group": "e = ValueError()\nfor _ in range(10_000): e = ExceptionGroup('g', [e])\nraise e",
    "wide group": "raise ExceptionGroup('g', [ValueError(i) for i in range(10_000)])",
    "group twice": "e = ValueError()\nfor _ in range(30): e = ExceptionGroup('g', [e, e])\nraise e",
    "base group": "raise BaseExceptionGroup('g', [KeyboardInterrupt(), SystemExit(3)])",
    "recursion": "def f(): f()\nf()",
    "mutual recursion": "def f(n): return g(n)\ndef g(n): return f(n)\nf(1)",
    "deep frames": "def f(n):\n if n: f(n - 1)\n else: 1/0\nf(900)",
    "syntax error": "e = SyntaxError('m'); e.text = 'x' * 10**6; e.offset = -5; e.lineno = 'no'\nraise e",
    "syntax error fields": "raise SyntaxError('m', ('f', 1, 2, object()))",
    "unicode error": "raise UnicodeDecodeError('x', b'x' * 10**6, 0, 10**6, 'r' * 10**6)",
    "key error": "raise KeyError('x' * 10**6)",
    "os error": "raise OSError(10**9, object(), object())",
    "import error": "raise ImportError('m', name=5, path=object())",
    "stop iteration": "raise StopIteration(object())",
    "generator exit": "raise GeneratorExit",
    "keyboard": "raise KeyboardInterrupt",
    "base": "raise BaseException('base')",
    "no exception": "raise 5",
    "class": "raise ValueError",
    "eq": "class E(Exception):\n def __eq__(s, o): raise SystemExit\n __hash__ = None\nraise E",
    "truth": "class E(Exception):\n def __bool__(s): raise SystemExit\nraise E",
    "excepthook": "import sys\nsys.excepthook = lambda *a: print('BOOM')\nraise ValueError",
    "traceback module": "import traceback\ntraceback.format_exception = lambda e: 1/0\nraise ValueError('x')",
    "linecache module": "import linecache\nlinecache.getlines = lambda *a: [object()] * 100\nraise ValueError('x')",
    "traceback object": "import types\ntry: 1/0\nexcept Exception as e: t = e.__traceback__\n"
    "for _ in range(50_000): t = types.TracebackType(t, t.tb_frame, 0, 10**9)\n"
    "raise ValueError('x').with_traceback(t)",
    "traceback cycle": "try: 1/0\nexcept Exception as e:\n t = e.__traceback__\n"
    " try: t.tb_next = t\n except ValueError: pass\n raise",
    "slow str": "class E(Exception):\n def __str__(s):\n  while True: pass\nraise E",
    "str of memory": "class E(Exception):\n def __str__(s): return 'x' * 10**9\nraise E",
    "from a thread": "import threading\nt = threading.Thread(target=lambda: 1/0); t.start(); t.join()\nraise ValueError",
    "from a finaliser": "class A:\n def __del__(s): raise ValueError('in del')\ndel A\nraise ValueError",
    "from a generator": "def g():\n try: yield\n finally: raise ValueError('closing')\nx = g(); next(x); raise KeyError",
}


@pytest.mark.parametrize("how", RAISES)
def test_K7_every_exception_crosses_as_text(how: str) -> None:
    result = attack(RAISES[how], Policy().limit(cpu_s=2))
    assert result.status in ("raised", "limit", "exited", "crashed"), result
    assert result.value is None
    error = result.error
    if result.status == "raised":
        assert error is not None
        texts = [error.type, error.message, error.traceback, *error.notes]
        assert all(type(text) is str for text in texts)
        assert sum(map(len, texts)) < 2**20
    if error is not None:
        use(error)
    try:
        result.unwrap()
    except belljar.GuestError as raised:
        use(raised)
        use(raised.result)
        str(raised)
    else:
        raise AssertionError("a bad outcome did not raise")


def test_K7_an_exception_arrives_with_message_and_source() -> None:
    code = "def divide(a, b):\n    return a / b\n\ndivide(1, 0)\n"
    result = belljar.run(code, name="lesson.py")
    assert result.error is not None
    assert (result.error.type, result.error.message) == ("ZeroDivisionError", "division by zero")
    assert 'File "lesson.py", line 2, in divide' in result.error.traceback
    assert "return a / b" in result.error.traceback


@pytest.mark.parametrize(
    "name",
    ["WorkerDied", "GuestProtocolError", "LimitExceeded", "UnsupportedError", "BelljarError"],
)
def test_K3_an_exception_cannot_pass_for_one_of_belljars(name: str) -> None:
    code = f"class {name}(Exception): __module__ = 'belljar.errors'\nraise {name}('forged')"
    result = attack(code)
    assert (result.status, result.limit, result.signal) == ("raised", None, None)
    with pytest.raises(belljar.GuestRaised) as caught:
        result.unwrap()
    assert type(caught.value) is belljar.GuestRaised


def test_K8_nothing_of_the_guests_runs_when_the_result_is_let_go() -> None:
    """Finalisers, generators, weak references: all of them are left behind in the guest."""
    import gc

    result = attack(f"{HOSTILE}\nx = Hostile()\n{{'a': [1, 2], 'b': ('c', 3.5)}}")
    value = result.value
    assert value == {"a": [1, 2], "b": ("c", 3.5)}
    kinds = {type(thing).__name__ for thing in gc.get_referents(value, *value.values())}
    assert "Hostile" not in kinds
    del result, value
    gc.collect()


def test_K7_a_hostile_message_reaches_the_host_raw_and_bounded() -> None:
    """Escapes are the reader's business; the host gets what was said, not what it does."""
    result = attack("raise ValueError('\\x1b]0;owned\\x07\\x1b[2J')")
    assert result.error is not None
    assert result.error.message == "\x1b]0;owned\x07\x1b[2J"


def test_K1_nan_is_not_equal_and_that_is_all() -> None:
    value = attack("[float('nan')]").value
    assert math.isnan(value[0])
