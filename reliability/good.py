"""Programs that must come out right, each with what must come out."""

from __future__ import annotations

import datetime
import hashlib
import random
import uuid
import zlib
from collections import Counter
from decimal import Decimal
from fractions import Fraction

from belljar import Result

from .cases import PATIENT, Case, Place, both, exited, kind, limit, raised, status, value

_WORDS = ["alpha", "beta", "gamma", "delta", "epsilon", "zeta", "eta", "theta", "iota", "kappa"]


@kind(10)
def expression(rng: random.Random, _place: Place, _index: int) -> Case:
    """Text and value are made together, from the leaves up."""

    def grow(depth: int) -> tuple[str, int]:
        if depth == 0:
            number = rng.randint(-(10**6), 10**6)
            return f"({number})", number
        left, a = grow(depth - 1)
        right, b = grow(depth - 1)
        sign = rng.choice("+-*%")
        if sign == "%" and b == 0:
            sign = "+"
        made = {"+": a + b, "-": a - b, "*": a * b, "%": a % b if b else 0}[sign]
        return f"({left}{sign}{right})", made

    text, number = grow(rng.randint(1, 5))
    return Case(text, value(number))


@kind(5)
def sum_of_squares(rng: random.Random, _place: Place, _index: int) -> Case:
    n = rng.randint(1, 5000)
    return Case(f"sum(i * i for i in range({n}))", value(n * (n - 1) * (2 * n - 1) // 6))


_MERGE_SORT = """
def sort(items):
    if len(items) < 2:
        return items
    half = len(items) // 2
    left, right, merged = sort(items[:half]), sort(items[half:]), []
    while left and right:
        merged.append((left if left[0] <= right[0] else right).pop(0))
    return merged + left + right
sort(numbers)
"""


@kind(5)
def merge_sort(rng: random.Random, _place: Place, _index: int) -> Case:
    numbers = [rng.randint(-999, 999) for _ in range(rng.randint(0, 150))]
    return Case(_MERGE_SORT, value(sorted(numbers)), inputs={"numbers": numbers})


@kind(5)
def both_streams(rng: random.Random, _place: Place, _index: int) -> Case:
    lines = ["".join(rng.choices("abc äöü€𝄞\t", k=rng.randint(0, 60))) for _ in range(20)]
    out, err = lines[:10], lines[10:]
    code = f"import sys\nfor a, b in zip({out!r}, {err!r}):\n print(a)\n print(b, file=sys.stderr)"
    streams = ["".join(line + "\n" for line in part).encode() for part in (out, err)]
    return Case(code, value(None, *streams))


@kind(2)
def much_output(rng: random.Random, _place: Place, _index: int) -> Case:
    seed, size = rng.randrange(256), rng.randint(100_000, 900_000)
    code = f"import os\ndata = bytes((i * 7 + {seed}) % 256 for i in range(256)) * {size // 256}\n"
    code += "while data: data = data[os.write(1, data):]"
    return Case(code, value(None, bytes((i * 7 + seed) % 256 for i in range(256)) * (size // 256)))


def _anything(rng: random.Random, depth: int) -> object:
    if depth and rng.random() < 0.7:
        parts = [_anything(rng, depth - 1) for _ in range(rng.randint(0, 4))]
        make = rng.choice([list, tuple, dict, set])
        if make is dict:
            return {str(n): part for n, part in enumerate(parts)}
        return {rng.randint(0, 9), str(rng.random())} if make is set else make(parts)
    return rng.choice(
        [
            *(None, True, 0, -1, 2**70, 1.5, 1j, "text", "\ud800", b"\0\xff", frozenset({1})),
            *(Decimal("1.10"), Fraction(1, 3), uuid.UUID(int=7), datetime.date(2024, 2, 29)),
            *(datetime.timedelta(1, 2, 3), datetime.datetime(2024, 1, 2, 3, 4, 5, 6)),
        ]
    )


@kind(5)
def values_there_and_back(rng: random.Random, _place: Place, _index: int) -> Case:
    made = _anything(rng, 4)
    return Case("(x, type(x).__name__)", value((made, type(made).__name__)), inputs={"x": made})


@kind(2)
def large_value(rng: random.Random, _place: Place, _index: int) -> Case:
    n = rng.randint(10_000, 60_000)
    return Case(f"[i * 3 for i in range({n})]", value(list(range(0, 3 * n, 3))))


@kind(4)
def digest(rng: random.Random, _place: Place, _index: int) -> Case:
    data = rng.randbytes(rng.randint(0, 5000))
    expected = hashlib.sha256(data).hexdigest()
    return Case(
        "import hashlib; hashlib.sha256(data).hexdigest()", value(expected), inputs={"data": data}
    )


@kind(4)
def files_in_work(rng: random.Random, _place: Place, _index: int) -> Case:
    contents = {f"f{n}": rng.randbytes(rng.randint(0, 3000)) for n in range(rng.randint(1, 12))}
    code = (
        "import os, zlib\nos.mkdir('d')\n"
        "for name, data in contents.items():\n"
        " with open('d/' + name, 'wb') as f: f.write(data)\n"
        "sums = {name: zlib.crc32(open('d/' + name, 'rb').read()) for name in os.listdir('d')}\n"
        "sorted(sums.items())"
    )
    expected = sorted((name, zlib.crc32(data)) for name, data in contents.items())
    return Case(code, value(expected), inputs={"contents": contents})


@kind(2)
def files_given(rng: random.Random, _place: Place, _index: int) -> Case:
    given = {f"in/{n}.bin": rng.randbytes(rng.randint(0, 2000)) for n in range(5)}
    code = "import os; {f'in/{n}': open(f'in/{n}', 'rb').read() for n in os.listdir('in')}"
    return Case(code, value(given), files=given)


@kind(3)
def threads(rng: random.Random, _place: Place, _index: int) -> Case:
    number, each = rng.randint(1, 12), rng.randint(1, 200)
    code = (
        "import threading\ntotal, lock = 0, threading.Lock()\n"
        "def work():\n global total\n for i in range(each):\n  with lock: total += i\n"
        "crew = [threading.Thread(target=work) for _ in range(number)]\n"
        "[t.start() for t in crew]; [t.join() for t in crew]\ntotal"
    )
    inputs = {"number": number, "each": each}
    return Case(code, value(number * each * (each - 1) // 2), inputs=inputs)


@kind(3)
def words(rng: random.Random, _place: Place, _index: int) -> Case:
    counts = {word: rng.randint(1, 9) for word in rng.sample(_WORDS, 5)}
    text = [word for word, number in counts.items() for _ in range(number)]
    rng.shuffle(text)
    code = (
        "import collections, json, re\n"
        "found = collections.Counter(re.findall(r'\\w+', text))\njson.dumps(found, sort_keys=True)"
    )
    expected = "{" + ", ".join(f'"{w}": {n}' for w, n in sorted(Counter(counts).items())) + "}"
    return Case(code, value(expected), inputs={"text": "; ".join(text)})


@kind(3)
def database(rng: random.Random, _place: Place, _index: int) -> Case:
    rows = [(rng.choice(_WORDS), rng.randint(-99, 99)) for _ in range(rng.randint(1, 80))]
    code = (
        "import sqlite3\nc = sqlite3.connect(':memory:')\nc.execute('create table t (k, n)')\n"
        "c.executemany('insert into t values (?, ?)', rows)\n"
        "[tuple(r) for r in c.execute('select k, sum(n) from t group by k order by k')]"
    )
    totals = {k: sum(n for other, n in rows if other == k) for k, _ in rows}
    return Case(code, value(sorted(totals.items())), inputs={"rows": rows})


@kind(2)
def top_level_await(rng: random.Random, _place: Place, _index: int) -> Case:
    n = rng.randint(1, 50)
    code = (
        "import asyncio\nasync def one(i):\n await asyncio.sleep(0)\n return i\n"
        f"sum(await asyncio.gather(*(one(i) for i in range({n}))))"
    )
    return Case(code, value(n * (n - 1) // 2))


@kind(4)
def exception(rng: random.Random, _place: Place, index: int) -> Case:
    name = rng.choice(["ValueError", "KeyError", "RuntimeError", "UnicodeError"])
    text = f"number {index}"
    shown = repr(text) if name == "KeyError" else text
    return Case(f"print('before')\nraise {name}({text!r})", raised(name, shown))


@kind(1)
def syntax_error(_rng: random.Random, _place: Place, _index: int) -> Case:
    return Case("1 +", raised("SyntaxError"))


@kind(3)
def exit_code(rng: random.Random, _place: Place, _index: int) -> Case:
    code = rng.randrange(256)
    return Case(f"import sys; print('x'); sys.exit({code})", exited(code))


@kind(3)
def standard_input(rng: random.Random, _place: Place, _index: int) -> Case:
    lines = [f"{rng.randrange(10**9)}" for _ in range(rng.randint(0, 500))]
    data = "".join(f"{line}\n" for line in lines).encode()
    expected = sum(map(int, lines))
    return Case("import sys; sum(int(line) for line in sys.stdin)", value(expected), stdin=data)


@kind(2)
def arguments(rng: random.Random, _place: Place, _index: int) -> Case:
    argv = [rng.choice(["", "-x", "ä", "a b", "--"]) for _ in range(rng.randint(0, 5))]
    return Case("import sys; sys.argv[1:]", value(argv), argv=argv)


@kind(4)
def policy_of_its_own(rng: random.Random, _place: Place, index: int) -> Case:
    """No two runs have this policy: a server that writes the customer into it has such ones."""
    policy = PATIENT.allow(env={"CASE": f"{index}"}, names={"n": index})
    return Case("import os; (os.environ['CASE'], n)", value((str(index), index)), policy)


@kind(4)
def granted_file(rng: random.Random, place: Place, _index: int) -> Case:
    number = rng.randrange(10)
    policy = PATIENT.allow(read={str(place.shared): "/data"})
    return Case(f"open('/data/{number}').read()", value(f"content {number}"), policy)


@kind(3)
def file_for_the_host(rng: random.Random, place: Place, index: int) -> Case:
    data = rng.randbytes(rng.randint(0, 5000))
    policy = PATIENT.allow(write={str(place.out): "/out"})
    path = place.out / f"{index}"

    def after() -> str | None:
        if not path.exists():
            return "the file is not there"
        same = path.read_bytes() == data
        path.unlink()
        return None if same else "the file holds something else"

    code = f"with open('/out/{index}', 'wb') as f: f.write(data)"
    return Case(code, value(None), policy, inputs={"data": data}, after=after)


@kind(1)
def stand_in(_rng: random.Random, place: Place, _index: int) -> Case:
    policy = PATIENT.allow(stand_ins={"_curses": str(place.stand_in)})
    return Case("import _curses; _curses.ANSWER", value(42), policy)


@kind(1)
def blocked_module(_rng: random.Random, _place: Place, _index: int) -> Case:
    policy = PATIENT.block(modules=["_sqlite3"])
    return Case("import sqlite3", raised("belljar.ModuleRefused"), policy)


@kind(3)
def preloaded(rng: random.Random, _place: Place, _index: int) -> Case:
    a, b = rng.randint(1, 99), rng.randint(1, 99)
    code = f"import decimal, sys; str(decimal.Decimal({a}) / 4 + {b})"
    quarters = ("", ".25", ".5", ".75")[a % 4]
    return Case(code, value(f"{a // 4 + b}{quarters}"), preload=("decimal", "json"))


@kind(1)
def without_builtins(_rng: random.Random, _place: Place, _index: int) -> Case:
    policy = PATIENT.block(builtins=["open"])
    return Case("try:\n open\nexcept NameError:\n x = 1\nx", both(status("ok"), value(1)), policy)


@kind(3)
def processes_granted(rng: random.Random, _place: Place, _index: int) -> Case:
    numbers = [rng.randint(-99, 99) for _ in range(rng.randint(1, 30))]
    code = (
        "import multiprocessing\ndef square(n):\n return n * n\n"
        "with multiprocessing.Pool(2) as pool:\n found = pool.map(square, numbers)\nfound"
    )
    expected = value([n * n for n in numbers])
    return Case(code, expected, PATIENT.allow(processes=4), inputs={"numbers": numbers})


@kind(1)
def left_behind(_rng: random.Random, _place: Place, _index: int) -> Case:
    """What still runs at the end of the program ends with it."""
    code = (
        "import os, time\nfor _ in range(3):\n if os.fork() == 0:\n"
        "  os.setsid()\n  time.sleep(600)\n6 * 7"
    )
    return Case(code, value(42), PATIENT.allow(processes=4))


@kind(1)
def told_to_end(rng: random.Random, _place: Place, _index: int) -> Case:
    loop = rng.choice(["n += 1", "time.sleep(60)"])
    code = (
        "import time\nn = 0\ntry:\n n += 1\n while True:\n"
        f"  {loop}\nexcept TimeoutError:\n n = 'cleaned up'\nn"
    )

    def check(result: Result) -> str | None:
        return None if result.value == "cleaned up" else f"value {result.value!r:.200}"

    policy = PATIENT.limit(wall_s=0.2).allow(grace_s=30)
    return Case(code, both(limit("wall"), check), policy)
