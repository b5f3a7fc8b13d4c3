"""K1, K6: what makes CPython itself crash, and what makes any process crash.

What: the mechanisms of CPython's known crashers, each in a program of our own, faults of native
code, and every signal.  Because: memory safety of the interpreter is not a wall, and whoever
breaks it goes on from there.  Then: the host reports what the kernel reports, the zygote that
forked the guest is still the same one, and the next run is as good as any.

For most mechanisms several ends are right: a version of Python may have closed the hole, and
what comes of scribbled memory is chance.  Each row says which ends and why; ``crash`` stands for
the signals that the processor, the C library and Python itself answer such faults with.
"""

from __future__ import annotations

import os
import platform
import signal
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import belljar
from belljar import Policy, Result

from .native import NUMBERS
from .watch import descendants, descriptors

POLICY = Policy().limit(cpu_s=2, wall_s=2.5)
X86 = platform.machine() == "x86_64"

# What the processor, the C library and Python itself answer broken memory with.
CRASH = "SIGSEGV SIGABRT SIGBUS SIGILL SIGFPE SIGTRAP"
SEGV = "SIGSEGV"
ABRT = "SIGABRT"
# C code that calls itself: Python counts (an exception), or the stack ends, or there is so much
# of it that memory or time end first.
DEEP = "ok raised SIGSEGV SIGABRT limit"
# A hole of older versions: a checked error where it is closed, scribbled memory where it is not.
CLOSED = f"ok raised limit {CRASH}"
# Memory is scribbled, and nothing says that anybody looks at it again.
CHANCE = f"ok raised exited limit {CRASH}"
RAISED = "raised"
OK = "ok"

NEST = "import sys; sys.setrecursionlimit(10**9)\n"
CRASHERS: dict[str, tuple[str, str]] = {
    # --- native code -----------------------------------------------------------------------
    "null pointer read": (SEGV, "import ctypes; ctypes.string_at(0)"),
    "null pointer written": (SEGV, "import ctypes; ctypes.memset(8, 1, 64)"),
    "jump to nowhere": (SEGV, "import ctypes; ctypes.CFUNCTYPE(None)(16)()"),
    "jump into data": (
        SEGV,
        "import ctypes\nb = ctypes.create_string_buffer(b'\\xc3' * 64)\n"
        "ctypes.CFUNCTYPE(None)(ctypes.addressof(b))()",
    ),
    "library code written": (
        SEGV,
        "import ctypes\nlibc = ctypes.CDLL(None)\n"
        "ctypes.memset(ctypes.cast(libc.strlen, ctypes.c_void_p).value, 0, 8)",
    ),
    "wrong arguments": (SEGV, "import ctypes; ctypes.CDLL(None).strlen(3)"),
    "format string": (
        CHANCE,
        "import ctypes; ctypes.CDLL(None).sprintf(ctypes.create_string_buffer(64), b'%s%n%s%n', 1)",
    ),
    "free of no block": (
        f"{ABRT} {SEGV}",
        "import ctypes; x = bytearray(99); ctypes.CDLL(None).free(ctypes.c_void_p(id(x) + 16))",
    ),
    "free twice": (
        f"{ABRT} {SEGV}",
        "import ctypes; libc = ctypes.CDLL(None); libc.malloc.restype = ctypes.c_void_p\n"
        "p = ctypes.c_void_p(libc.malloc(5000)); q = libc.malloc(5000)\nlibc.free(p); libc.free(p)",
    ),
    "heap overrun": (
        CHANCE,
        "import ctypes; libc = ctypes.CDLL(None); libc.malloc.restype = ctypes.c_void_p\n"
        "p = libc.malloc(64); q = libc.malloc(64)\nctypes.memset(p, 255, 1 << 16)\n"
        "libc.free(ctypes.c_void_p(q)); [bytearray(n * 100) for n in range(1000)]",
    ),
    "own code unmapped": (
        SEGV,
        "import ctypes; libc = ctypes.CDLL(None)\n"
        "page = ctypes.cast(libc.munmap, ctypes.c_void_p).value & -4096\n"
        "libc.munmap(ctypes.c_void_p(page), 1 << 16)",
    ),
    "own stack unmapped": (
        SEGV,
        "import ctypes; libc = ctypes.CDLL(None)\n"
        "for line in open('/proc/self/maps'):\n"
        " if '[stack]' in line:\n"
        "  low, high = (int(n, 16) for n in line.split()[0].split('-'))\n"
        "  libc.munmap(ctypes.c_void_p(low), ctypes.c_size_t(high - low))",
    ),
    "long jump to nowhere": (
        CRASH,
        "import ctypes; ctypes.CDLL(None).longjmp(ctypes.create_string_buffer(512), 1)",
    ),
    "stack of a thread, tiny": (
        DEEP,
        f"{NEST}import threading\nthreading.stack_size(32768)\ndef f(n): return [*map(f, [n])]\n"
        "t = threading.Thread(target=f, args=(1,)); t.start(); t.join()",
    ),
    "stack without an end": (
        f"{SEGV} limit",
        "import ctypes\ndef f(): return g()\ng = ctypes.PYFUNCTYPE(ctypes.c_int)(f)\n"
        f"{NEST}f()",
    ),
    "map beyond its file": (
        "SIGBUS",
        "import mmap\nf = open('f', 'w+b'); f.truncate(8192); m = mmap.mmap(f.fileno(), 8192)\n"
        "f.truncate(0); m[5000]",
    ),
    "map beyond the room for files": (
        "SIGBUS",
        "import mmap\nf = open('f', 'w+b'); f.truncate(60 << 20); m = mmap.mmap(f.fileno(), 60 << 20)\n"
        "g = open('/tmp/g', 'wb', 0)\n"
        "try:\n while True: g.write(bytes(1 << 20))\nexcept OSError: pass\n"
        "for i in range(0, 60 << 20, 4096): m[i] = 1",
    ),
    "abort": (ABRT, "import os; os.abort()"),
    "abort in C": (ABRT, "import ctypes; ctypes.CDLL(None).abort()"),
    "exit in C": ("exited", "import ctypes; ctypes.CDLL(None).exit(3)"),
    "exit of the kernel": ("exited", "import ctypes; ctypes.CDLL(None)._exit(3)"),
    "exit of one thread": (
        "exited",
        "import ctypes; ctypes.CDLL(None).syscall(NUMBERS['exit'], 3)",
    ),
    # --- the interpreter's own C interface --------------------------------------------------
    "object at an address": (SEGV, "import ctypes; ctypes.cast(8, ctypes.py_object).value"),
    "counts of references": (
        CHANCE,
        "import ctypes\nx = [[] for _ in range(99)]\n"
        "for one in x:\n for _ in range(4): ctypes.pythonapi.Py_DecRef(ctypes.py_object(one))\n"
        "import gc; gc.collect(); y = [[] for _ in range(999)]",
    ),
    "type of an object": (
        SEGV,
        "import ctypes\nx = 'text of its own' * 2\n"
        "ctypes.c_size_t.from_address(id(x) + object.__basicsize__ - 8).value = 8\nrepr(x)",
    ),
    "length of a list": (
        CHANCE,
        "import ctypes\nx = [1]\nctypes.c_ssize_t.from_address(id(x) + list.__basicsize__ - 24).value"
        " = 1 << 40\nx.sort(key=str)",
    ),
    "without the lock": (
        CHANCE,
        "import ctypes; ctypes.PyDLL(None).PyEval_SaveThread(); [].append(object())",
    ),
    "fatal error": (ABRT, "import ctypes; ctypes.pythonapi.Py_FatalError(b'on purpose')"),
    "interpreter finalised": (CHANCE, "import ctypes; ctypes.pythonapi.Py_Finalize(); print(1)"),
    "exception without one": (RAISED, "import ctypes; ctypes.pythonapi.PyErr_BadInternalCall()"),
    "error handler, segmentation fault": (SEGV, "import faulthandler; faulthandler._sigsegv()"),
    "error handler, abort": (ABRT, "import faulthandler; faulthandler._sigabrt()"),
    "error handler, division": ("SIGFPE", "import faulthandler; faulthandler._sigfpe()"),
    "error handler, null": (SEGV, "import faulthandler; faulthandler._read_null()"),
    "error handler, stack": (
        f"{SEGV} raised limit",
        "import faulthandler; faulthandler._stack_overflow()",
    ),
    "test modules": (RAISED, "import _testcapi; _testcapi.crash_no_current_thread()"),
    # --- bytecode by hand -------------------------------------------------------------------
    "code of no instructions": (
        CLOSED,
        "def f(): pass\nf.__code__ = f.__code__.replace(co_code=b'\\xff\\xff' * 64)\nf()",
    ),
    "code that pops what is not there": (
        CLOSED,
        "import opcode\ndef f(): return 1\n"
        "pop = bytes([opcode.opmap['RESUME'], 0, *[opcode.opmap['POP_TOP'], 0] * 500])\n"
        "f.__code__ = f.__code__.replace(co_code=pop + f.__code__.co_code)\nf()",
    ),
    "code without its constants": (
        CLOSED,
        "def f(): return [10**9, 'a', (1, 2)]\nf.__code__ = f.__code__.replace(co_consts=())\nf()",
    ),
    "code without its names": (
        CLOSED,
        "def f(): return print.missing\nf.__code__ = f.__code__.replace(co_names=())\nf()",
    ),
    "code with a stack too small": (
        CLOSED,
        "def f(): return [1, [2, [3, [4, f, 5, 6, 7, 8] * 2]]]\n"
        "for _ in range(99):\n f.__code__ = f.__code__.replace(co_stacksize=0); f()",
    ),
    "code with a stack too large": (
        CLOSED,
        "def f(): return 1\nf.__code__ = f.__code__.replace(co_stacksize=2**31 - 100)\nf()",
    ),
    "code that jumps away": (
        CLOSED,
        "import opcode\ndef f():\n while True: pass\n"
        "jump = bytes([opcode.opmap['EXTENDED_ARG'], 255, opcode.opmap['JUMP_FORWARD'], 255])\n"
        "f.__code__ = f.__code__.replace(co_code=f.__code__.co_code[:2] + jump * 9)\nf()",
    ),
    "code with handlers anywhere": (
        CLOSED,
        "def f():\n try: 1/0\n except ZeroDivisionError: return 1\n"
        "f.__code__ = f.__code__.replace(co_exceptiontable=b'\\x80\\x7f\\x7f\\x3f' * 9)\nf()",
    ),
    "code at random": (
        CLOSED,
        "import random\nr = random.Random(5)\ndef f(a=1): return [a, f, str(a)]\n"
        "original = f.__code__\nfor _ in range(3000):\n"
        " f.__code__ = original.replace(co_code=original.co_code[:2] + r.randbytes(40))\n"
        " try: f()\n except Exception: pass",
    ),
    "marshalled nonsense": (
        CLOSED,
        "import marshal, random\nr = random.Random(5)\n"
        "whole = marshal.dumps(compile('def f(a): return [a, f]\\nf(1)', 'x', 'exec'))\n"
        "for _ in range(3000):\n b = bytearray(whole)\n"
        " for _ in range(3): b[r.randrange(len(b))] = r.randrange(256)\n"
        " try: exec(marshal.loads(bytes(b)), {})\n except BaseException: pass",
    ),
    "marshalled references": (
        CLOSED,
        "import marshal\nfor data in (b'r\\0\\0\\0\\0', b'\\xdb\\1\\0\\0\\0r\\0\\0\\0\\0', b'(\\xff\\xff\\xff\\x7f'):\n"
        " try: repr(marshal.loads(data))\n except (ValueError, EOFError, MemoryError): pass",
    ),
    # --- the compiler -----------------------------------------------------------------------
    "parser, brackets": (DEEP, "eval('(' * 10**5 + ')' * 10**5)"),
    "parser, signs": (DEEP, "eval('-' * 10**6 + '1')"),
    "parser, comparisons": (DEEP, f"{NEST}eval('not ' * 10**5 + '1')"),
    "parser, attributes": (DEEP, f"{NEST}compile('a' + '.b' * 10**5, 'x', 'eval')"),
    "parser, calls": (DEEP, f"{NEST}compile('f' + '()' * 10**5, 'x', 'eval')"),
    "parser, indentation": (
        DEEP,
        "exec('\\n'.join(' ' * n + 'if 1:' for n in range(150)) + '\\n' + ' ' * 150 + 'pass')",
    ),
    "tree, deep": (
        DEEP,
        f"{NEST}import ast\nat = dict(lineno=1, col_offset=0, end_lineno=1, end_col_offset=0)\n"
        "e = ast.Constant(1, **at)\nfor _ in range(10**5): e = ast.UnaryOp(ast.USub(), e, **at)\n"
        "compile(ast.Expression(e), 'x', 'eval')",
    ),
    "tree within itself": (
        DEEP,
        f"{NEST}import ast\nat = dict(lineno=1, col_offset=0, end_lineno=1, end_col_offset=0)\n"
        "e = ast.UnaryOp(ast.USub(), None, **at); e.operand = e\ncompile(ast.Expression(e), 'x', 'eval')",
    ),
    "tree of wrong parts": (
        CLOSED,
        "import ast\nfor bad in (ast.Module([ast.Expr(5)], []), ast.Expression(ast.Name('x')),\n"
        "  ast.Expression(ast.Name('None', ast.Load(), lineno=-1, col_offset=-9))):\n"
        " try: compile(bad, 'x', 'exec' if isinstance(bad, ast.Module) else 'eval')\n"
        " except (TypeError, ValueError): pass",
    ),
    "source of many lines": (DEEP, "exec('x = [' + '[' * 90 + ']' * 90 + ']\\n' * 1)\nexec('\\n' * 10**7 + '1/0')"),
    # --- C code that calls itself -------------------------------------------------------------
    "repr, deep": (DEEP, f"{NEST}x = []\nfor _ in range(10**5): x = [x]\nrepr(x)"),
    "comparison, deep": (
        DEEP,
        f"{NEST}x, y = [], []\nfor _ in range(10**5): x, y = [x], [y]\nx == y",
    ),
    "hash, deep": (DEEP, "x = ()\nfor _ in range(10**6): x = (x,)\nhash(x)"),
    "checks of tuples, deep": (
        DEEP,
        f"{NEST}t = int,\nfor _ in range(10**5): t = (t,)\nisinstance('x', t)",
    ),
    "checks of bases without an end": (
        DEEP,
        f"{NEST}class A:\n @property\n def __bases__(s): return (A(),)\nissubclass(A(), A())",
    ),
    "call of an instance as its own call": (
        DEEP,
        f"{NEST}class A: pass\nA.__call__ = A()\nA()()",
    ),
    "attribute through itself": (
        DEEP,
        f"{NEST}class A:\n def __getattr__(s, n): return getattr(s, n)\nA().x",
    ),
    "descriptor of itself": (
        DEEP,
        f"{NEST}class A: pass\nA.__getattribute__ = property(A.__getattribute__)\n"
        "class B:\n def __get__(s, *a): return s.x\n x = None\nB.x = B()\nB().x",
    ),
    "partial of itself": (
        DEEP,
        f"{NEST}from functools import partial\np = partial(int)\np.__setstate__((p, (), {{}}, {{}}))\np()",
    ),
    "partials, deep": (
        DEEP,
        f"{NEST}import functools\nf = int\nfor _ in range(10**5):\n"
        " f = functools.partial(f); f.x = 1\nf(); repr(f)",
    ),
    "methods of methods": (
        DEEP,
        f"{NEST}import types\nf = len\nfor _ in range(10**5): f = types.MethodType(f, f)\n"
        "try: f()\nexcept TypeError: pass",
    ),
    "chains, deep": (
        DEEP,
        f"{NEST}import itertools\nx = iter([1])\nfor _ in range(10**5): x = itertools.chain(x)\nnext(x)",
    ),
    "maps, deep": (DEEP, "x = iter([1])\nfor _ in range(10**5): x = map(int, x)\nnext(x)"),
    "copies of iterators": (
        DEEP,
        "import itertools\na, b = itertools.tee(range(10**6))\nfor _ in a: pass\ndel a, b",
    ),
    "generators, deep": (
        DEEP,
        f"{NEST}def g(n):\n if n: yield from g(n - 1)\n yield 1\nnext(g(10**6))",
    ),
    "generators let go": (
        DEEP,
        "g = iter([1])\nfor _ in range(10**5): g = (i for i in g)\ndel g",
    ),
    "objects let go": (
        DEEP,
        "class A: pass\nx = None\nfor _ in range(10**6):\n a = A(); a.x = x; x = a\ndel a, x",
    ),
    "finalisers let go": (
        DEEP,
        f"{NEST}class A:\n def __del__(s): s.x = None\nx = None\nfor _ in range(10**5):\n"
        " a = A(); a.x = x; x = a\ndel a, x",
    ),
    "classes let go": (
        DEEP,
        "c = object\nfor _ in range(1000): c = type('C', (c,), {})\nc(); del c\nimport gc; gc.collect()",
    ),
    "tracebacks let go": (
        DEEP,
        "import sys, types\nt = None\nfor _ in range(10**6): t = types.TracebackType(t, sys._getframe(), 0, 1)\ndel t",
    ),
    "exceptions let go": (
        DEEP,
        "e = None\nfor _ in range(10**6):\n n = ValueError(); n.__context__ = e; e = n\ndel e, n",
    ),
    "JSON, deep": (DEEP, f"{NEST}import json\njson.loads('[' * 10**6)"),
    "JSON written, deep": (
        DEEP,
        f"{NEST}import json\nx = []\nfor _ in range(10**5): x = [x]\njson.dumps(x)",
    ),
    "pickle, deep": (
        DEEP,
        f"{NEST}import pickle\nx = []\nfor _ in range(10**5): x = [x]\npickle.dumps(x)",
    ),
    "pickle of nonsense": (
        CLOSED,
        "import pickle, random\nr = random.Random(1)\nwhole = pickle.dumps([{1: (2, 'x')}, {3}, b'y'] * 3)\n"
        "for _ in range(5000):\n b = bytearray(whole)\n"
        " for _ in range(2): b[r.randrange(len(b))] = r.randrange(256)\n"
        " try: pickle.loads(b)\n except Exception: pass",
    ),
    "marshal, deep": (
        DEEP,
        "import marshal\nx = []\nfor _ in range(10**5): x = [x]\nmarshal.dumps(x)",
    ),
    "copy, deep": (
        DEEP,
        f"{NEST}import copy\nx = []\nfor _ in range(10**5): x = [x]\ncopy.deepcopy(x)",
    ),
    "regular expression, deep": (DEEP, f"{NEST}import re\nre.compile('(' * 5000 + ')' * 5000)"),
    "regular expression by hand": (
        CLOSED,
        "import _sre, random\nr = random.Random(2)\nfor _ in range(2000):\n"
        " code = [r.randrange(60) for _ in range(20)]\n"
        " try: _sre.compile('x', 0, code, 1, {}, (None, None)).match('xyz' * 9)\n"
        " except (RuntimeError, ValueError, OverflowError, TypeError): pass",
    ),
    "elements let go": (
        DEEP,
        "import xml.etree.ElementTree as E\ne = E.Element('a')\n"
        "for _ in range(10**5):\n n = E.Element('a'); n.append(e); e = n\ndel e, n",
    ),
    "parser that is closed by its handler": (
        CLOSED,
        "from xml.parsers import expat\np = expat.ParserCreate()\n"
        "def start(*a):\n global p\n p.StartElementHandler = None; p.Parse('<x>', 1); p = None\n"
        "p.StartElementHandler = start\np.Parse('<a><b/></a>', 1)",
    ),
    # --- changed while it is used ---------------------------------------------------------------
    "list cleared by a comparison": (
        CLOSED,
        "class A:\n def __eq__(s, o): x.clear(); return False\nx = [A() for _ in range(99)]\n"
        "x.count(5); x.extend([A()] * 9); A() in x; x == [1] * 9; x[:] = [A()]\n"
        "try: x.remove(5)\nexcept ValueError: pass",
    ),
    "list sorted in its own key": (
        CLOSED,
        "x = list(range(999))\ndef key(v): x.append(v); x.sort(); return v\nx.sort(key=key)",
    ),
    "dictionary changed by a comparison": (
        CLOSED,
        "class K:\n def __hash__(s): return 1\n def __eq__(s, o): d.clear(); d.update({K2(): 1}); return False\n"
        "class K2(K):\n __eq__ = lambda s, o: False\n __hash__ = K.__hash__\n"
        "d = {}\nfor _ in range(50):\n d[K()] = 1\n d == {K(): 1}; d | {K(): 2}; {**d}; d.setdefault(K()); d.pop(K(), 0)",
    ),
    "set changed by a comparison": (
        CLOSED,
        "class K:\n def __hash__(s): return 1\n def __eq__(s, o): x.clear(); x.add(5); return False\n"
        "x = set()\nfor _ in range(50):\n x.add(K()); x - {K()}; x & {K()}; x ^ {K()}; x <= {K(), K()}",
    ),
    "ordered dictionary changed by its iteration": (
        CLOSED,
        "import collections\nd = collections.OrderedDict.fromkeys(range(99))\n"
        "class A:\n def __eq__(s, o): d.clear(); return NotImplemented\nd[1] = A()\n"
        "d == collections.OrderedDict.fromkeys(range(99), 5)",
    ),
    "queue changed by its search": (
        CLOSED,
        "import collections\nclass A:\n def __eq__(s, o): x.clear(); return False\n"
        "x = collections.deque(A() for _ in range(999))\n"
        "for f in (lambda: 5 in x, lambda: x.count(5), lambda: x.index(5), lambda: x.remove(5)):\n"
        " x.extend(A() for _ in range(99))\n try: f()\n except (RuntimeError, ValueError, IndexError): pass",
    ),
    "heap changed by a comparison": (
        CLOSED,
        "import heapq\nclass A:\n def __lt__(s, o): x.clear(); return True\n"
        "x = [A() for _ in range(99)]\ntry: heapq.heapify(x); heapq.heappush(x, A()); heapq.heappop(x)\n"
        "except (RuntimeError, IndexError): pass",
    ),
    "arguments changed by an argument": (
        CLOSED,
        "class D(dict):\n def keys(s): d.clear(); return iter(['a'])\n def __getitem__(s, k): return 1\n"
        "d = {'x': 1}\ndict(**D(), **d); '%(a)s' % D()",
    ),
    "bytes resized under an index": (
        CLOSED,
        "b = bytearray(10**6)\nclass I:\n def __index__(s): b.clear(); b.extend(b'x'); return 999_999\n"
        "for f in (lambda: b.__setitem__(I(), 1), lambda: b[I()], lambda: b.insert(5, I()), lambda: b.find(b'', I()),\n"
        "  lambda: b.__setitem__(slice(0, I()), b'y')):\n b[:] = bytes(10**6)\n"
        " try: f()\n except (IndexError, ValueError, OverflowError): pass",
    ),
    "view let go under an index": (
        CLOSED,
        "b = bytearray(10**6); v = memoryview(b)\nclass I:\n"
        " def __index__(s): v.release(); b.clear(); return 5\n"
        "try: v[999_999] = I()\nexcept ValueError: pass\ntry: b.join([b'x', I()])\nexcept TypeError: pass",
    ),
    "buffer kept after its owner": (
        CHANCE,
        "import io\nkept = []\nclass R(io.RawIOBase):\n def readable(s): return True\n"
        " def readinto(s, b): kept.append(b); return len(b)\n"
        "r = io.BufferedReader(R(), 1 << 20); r.read(1); r.detach(); del r\n"
        "for v in kept:\n try: v[:] = b'\\xff' * len(v)\n except (ValueError, TypeError): pass\n[[] for _ in range(10**4)]",
    ),
    "memory file written while it is lent": (
        CLOSED,
        "import io\nb = io.BytesIO(bytes(10**6)); v = b.getbuffer()\n"
        "for f in (b.close, lambda: b.truncate(0), lambda: b.write(bytes(10**7)), lambda: b.__setstate__((b'x', 0, None))):\n"
        " try: f()\n except (BufferError, ValueError): pass\nv[999_999] = 1",
    ),
    "structure packed into what goes": (
        CLOSED,
        "import struct\nb = bytearray(10**6)\nclass I:\n def __index__(s):\n"
        "  try: b.clear()\n  except BufferError: pass\n  return 7\nstruct.pack_into('i', b, 999_000, I())\n"
        "import array\na = array.array('i', [1] * 999)\nclass J:\n def __index__(s): del a[:]; return 5\n"
        "try: a[998] = J()\nexcept IndexError: pass",
    ),
    "tuple seen before it is made": (
        CLOSED,
        "import gc\ndef parts():\n yield 'marker of our own'\n"
        " for o in gc.get_objects():\n  if type(o) is tuple and o and o[0] == 'marker of our own': kept.append(o)\n"
        " yield 2\nkept = []\nt = tuple(parts())\nrepr(kept); hash(t)",
    ),
    "references walked while they change": (
        CLOSED,
        "import gc\nclass A:\n def __del__(s): gc.collect(); x.append(A()) if len(x) < 99 else None\n"
        "x = []\nfor _ in range(99):\n a = A(); a.a = a; del a\ngc.collect(); gc.get_referrers(*x); gc.get_objects()",
    ),
    # --- types and frames -----------------------------------------------------------------------
    "order of bases, changed while made": (
        CLOSED,
        "class M(type):\n def mro(c):\n  if c.__name__ == 'C' and '__bases__' in dir(c):\n"
        "   try: c.__bases__ = (A,)\n   except TypeError: pass\n  return type.mro(c)\n"
        "class A(metaclass=M): pass\nclass B(metaclass=M): pass\nclass C(B): pass\nC.__bases__ = (A, B)\nC()",
    ),
    "order of bases without an object": (
        CLOSED,
        "class M(type):\n def mro(c): return [c, int, str, dict]\n"
        "try:\n class A(metaclass=M): pass\n A() + A()\nexcept TypeError: pass",
    ),
    "class replaced in its finaliser": (
        CLOSED,
        "class A: __slots__ = 'a', 'b'\nclass B:\n __slots__ = 'a', 'b'\n"
        " def __del__(s): s.__class__ = A; kept.append(s)\nkept = []\nfor _ in range(999): B()\n[k.__class__ for k in kept]",
    ),
    "bases replaced in a look-up": (
        CLOSED,
        "class K(str):\n def __eq__(s, o): C.__bases__ = (B,); return False\n __hash__ = str.__hash__\n"
        "class A: pass\nclass B: x = 1\nclass C(A): pass\n"
        "setattr(A, 'y', 1)\ntype.__setattr__(C, 'z', 2)\nvars(C), hasattr(C, 'x'), getattr(C, K('x'), 5)",
    ),
    "weak references at the end": (
        OK,
        "import weakref, sys\nclass A: pass\nkept = [A() for _ in range(999)]\n"
        "refs = [weakref.ref(a, lambda r: sys.stdout.write('') and kept.append(r)) for a in kept]\n"
        "[weakref.finalize(a, exec, 'import json.tool') for a in kept]",
    ),
    "raised from the dead at the end": (
        OK,
        "import builtins\nclass A:\n def __del__(s): builtins.kept = s; A()\nkept = [A() for _ in range(9)]",
    ),
    "threads at the end": (
        "ok limit",
        "import threading\ndef f():\n while True: [object()] * 99\n"
        "for _ in range(8): threading.Thread(target=f, daemon=True).start()",
    ),
    "frame cleared while it runs": (
        CLOSED,
        "import sys\ndef g():\n try: yield sys._getframe()\n finally: f.clear()\n"
        "i = g(); f = next(i)\ntry: f.clear(); i.close(); f.f_locals; f.f_lineno\nexcept RuntimeError: pass\ndel i, f",
    ),
    "line number set anywhere": (
        CLOSED,
        "import sys\ndef trace(f, e, a):\n"
        " if e == 'line':\n  try: f.f_lineno = f.f_lineno + 2\n  except ValueError: pass\n return trace\n"
        "def f():\n for x in [1]:\n  try: a = 1\n  finally: b = 2\n  with open('/dev/null') as d:\n   c = 3\n return 4\n"
        "sys.settrace(trace); f(); sys.settrace(None)",
    ),
    "locals of a frame that is gone": (
        CLOSED,
        "import sys\ndef f(a):\n b = [a]\n return sys._getframe()\nx = [f(n) for n in range(999)]\n"
        "for n in x: n.f_locals['b'] = 5; n.f_locals; n.clear()\nx[0].f_back",
    ),
    "generator running in itself": (
        RAISED,
        "def g():\n yield from h\nh = g()\nnext(h)",
    ),
    "coroutine closed by itself": (
        CLOSED,
        "import sys\nclass A:\n def __await__(s): c.close(); yield\nasync def f(): await A()\nc = f()\n"
        "try: c.send(None)\nexcept (ValueError, RuntimeError, StopIteration): pass",
    ),
    "iterator that uses itself up": (
        CLOSED,
        "import itertools\ndef g():\n yield 1\n try: next(t[0])\n except (RuntimeError, ValueError): pass\n yield 2\n"
        "t = itertools.tee(g()); list(t[1])\nx = itertools.cycle([1]); x.__reduce__()\n"
        "y = itertools.groupby([1], lambda v: next(y))\ntry: list(y)\nexcept (RuntimeError, ValueError, StopIteration): pass",
    ),
    "sub-interpreters": (
        "ok raised SIGABRT SIGSEGV",
        "try: import _interpreters as i\nexcept ImportError: import _xxsubinterpreters as i\n"
        "n = i.create()\ntry: i.exec(n, 'import sys; x = [sys]')\n"
        "except AttributeError: i.run_string(n, 'import sys; x = [sys]')",
    ),
    "database closed by its function": (
        CLOSED,
        "import sqlite3\nc = sqlite3.connect(':memory:')\n"
        "def f(*a): c.close(); return 1\nc.create_function('f', 0, f)\n"
        "try: c.execute('select f()').fetchall()\nexcept sqlite3.Error: pass",
    ),
    "structures resized under a pointer": (
        CHANCE,
        "import ctypes\nclass S(ctypes.Structure): _fields_ = [('a', ctypes.c_char * 64)]\ns = S()\n"
        "p = ctypes.pointer(s); ctypes.resize(s, 1 << 20); q = S.from_address(ctypes.addressof(s))\n"
        "ctypes.resize(s, 1 << 21); q.a = b'x' * 60; [[] for _ in range(999)]",
    ),
    "time out of range": (
        CLOSED,
        "import time\nfor t in ((2**31 - 1,) * 9, (-2**31, 1, 1, 1, 1, 1, 1, 1, 1), (1, 13, 32, 25, 61, 62, 7, 367, 5)):\n"
        " try: time.strftime('%' + 'EOcxXsZz%' * 9, t); time.mktime(t); time.asctime(t)\n"
        " except (ValueError, OverflowError): pass",
    ),
}  # fmt: skip
if X86:  # other processors have other words, and do not trap every division
    CRASHERS |= {
        "division in C": ("SIGFPE", "import ctypes; ctypes.CDLL(None).div(1, 0)"),
        "illegal instruction": (
            "SIGILL",
            "import ctypes; libc = ctypes.CDLL(None)\n"
            "start = ctypes.cast(libc.abort, ctypes.c_void_p).value & -4096\n"
            "found = ctypes.string_at(start, 1 << 16).find(b'\\x0f\\x0b')\n"
            "assert found >= 0\nctypes.CFUNCTYPE(None)(start + found)()",
        ),
        "break point": (
            "SIGTRAP SIGSEGV",
            "import ctypes; libc = ctypes.CDLL(None)\n"
            "start = ctypes.cast(libc.abort, ctypes.c_void_p).value & -4096\n"
            "found = ctypes.string_at(start, 1 << 16).find(b'\\xcc')\n"
            "ctypes.CFUNCTYPE(None)(start + found)()",
        ),
        "privileged instruction": (
            SEGV,
            "import ctypes; libc = ctypes.CDLL(None)\n"
            "start = ctypes.cast(libc.abort, ctypes.c_void_p).value & -4096\n"
            "found = ctypes.string_at(start, 1 << 16).find(b'\\xf4')\n"
            "ctypes.CFUNCTYPE(None)(start + found)()",
        ),
    }


def how_it_ended(result: Result) -> str:
    """``SIGSEGV``, or the status of a run that no signal ended."""
    if result.signal is not None:
        assert result.status == "crashed"
        return signal.Signals(result.signal).name
    return result.status


def zygotes() -> set[int]:
    return {p.pid for p in descendants() if p.parent == os.getpid() and p.state != "Z"}


@pytest.fixture
def unharmed(request: pytest.FixtureRequest) -> Iterator[Policy]:
    """Before and after a crash: the same zygotes, no descriptor more, and a good run."""
    policy = POLICY
    assert belljar.run("6 * 7", policy).value == 42
    before = zygotes(), descriptors()
    yield policy
    assert belljar.run("6 * 7", policy).value == 42
    assert (zygotes(), descriptors()) == before


@pytest.mark.parametrize("how", CRASHERS)
def test_K1_a_crasher_ends_the_guest_at_most(how: str, unharmed: Policy) -> None:
    expected, code = CRASHERS[how]
    result = belljar.run(code, unharmed, inputs={"NUMBERS": NUMBERS})
    assert how_it_ended(result) in expected.split(), result
    assert result.usage.wall_s > 0


# ------------------------------------------------------------------------------- signals

SIGNALS = [*range(1, 32), signal.SIGRTMIN, signal.SIGRTMIN + 9, signal.SIGRTMAX]
STOPS = {signal.SIGSTOP, signal.SIGTSTP, signal.SIGTTIN, signal.SIGTTOU}
IGNORED = {signal.SIGCHLD, signal.SIGCONT, signal.SIGURG, signal.SIGWINCH}

SEND = """
import os, signal
if DEFAULT:
    try: signal.signal(NUMBER, signal.SIG_DFL)
    except (OSError, ValueError): pass
if HOW == "kill":
    os.kill(os.getpid(), NUMBER)
elif HOW == "raise":
    signal.raise_signal(NUMBER)
elif HOW == "thread":
    import threading
    signal.pthread_kill(threading.main_thread().ident, NUMBER)
else:
    import ctypes
    ctypes.CDLL(None)["raise"](NUMBER)
import time; time.sleep(0.01)
"still here"
"""


def ends_of(number: int, default: bool) -> set[str]:
    """How a guest may end that sends itself this signal; see signal(7)."""
    if number in IGNORED:
        return {"ok"}
    if number in STOPS:
        # A group that nobody could start again is not stopped from a terminal.
        return {"limit", "ok"}
    if number == signal.SIGXFSZ and default:
        return {"limit"}  # a single file that grows too large ends the same way
    if not default and number in (signal.SIGPIPE, signal.SIGXFSZ):
        return {"ok"}  # Python ignores them and raises where a call fails
    if not default and number == signal.SIGINT:
        return {"raised"}
    return {"crashed"}


@pytest.mark.parametrize("number", SIGNALS)
def test_K6_every_signal_to_itself(number: int, unharmed: Policy) -> None:
    """With what Python does about it and with what the kernel does; by each call in turn."""
    how = ("kill", "raise", "thread", "C")[number % 4]
    for default in (False, True):
        inputs = {"NUMBER": number, "DEFAULT": default, "HOW": how}
        ends = ends_of(number, default)
        policy = unharmed.limit(wall_s=0.3) if "limit" in ends else unharmed  # it waits for ever
        result = belljar.run(SEND, policy, inputs=inputs)
        assert result.status in ends, (number, default, result)
        if result.status == "crashed":
            assert (result.signal, result.error) == (number, None)
        else:
            assert result.signal is None


# ------------------------------------------------------------------ other interpreters


def other_pythons() -> list[str]:
    """Interpreters to lend, from ``$BELLJAR_PYTHONS``, or those beside this one."""
    given = os.environ.get("BELLJAR_PYTHONS")
    if given is not None:
        return [path for path in given.split(":") if path]
    own = os.path.realpath(sys.executable)
    beside = sorted(Path(sys.base_prefix).parent.glob("*/bin/python3.[0-9]*[0-9]"))
    return [str(path) for path in beside if os.path.realpath(path) != own]


@pytest.mark.long
def test_K1_the_crashers_of_other_interpreters() -> None:
    pythons = other_pythons()
    if not pythons:
        pytest.skip("no other CPython beside this one; name some in $BELLJAR_PYTHONS")
    wrong: dict[tuple[str, str], str] = {}
    for python in pythons:
        policy = POLICY.allow(python=python)
        for how, (expected, code) in CRASHERS.items():
            result = belljar.run(code, policy, inputs={"NUMBERS": NUMBERS})
            if how_it_ended(result) not in expected.split():
                wrong[python, how] = how_it_ended(result)
        assert belljar.run("6 * 7", policy).value == 42
    assert wrong == {}
