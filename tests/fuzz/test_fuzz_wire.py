"""K1: the fuzz target of the wire: its seeds always, the fuzzer itself in the long suite.

Its time is a part of ``BELLJAR_FUZZ_SECONDS`` (``campaign``).
"""

from __future__ import annotations

import importlib.util
import subprocess
import sys
from pathlib import Path

import pytest

from . import campaign

TARGET = Path(__file__).with_name("fuzz_wire.py")


def load():
    spec = importlib.util.spec_from_file_location("fuzz_wire", TARGET)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_target_holds_for_its_seeds_and_their_halves():
    target = load()
    for seed in target.seeds():
        for data in (seed, seed[: len(seed) // 2], seed + seed, seed[:1] + seed[2:]):
            target.check(data)
    target.check(b"")


def test_each_seed_is_accepted_where_it_is_meant_to_be():
    target = load()
    frames, value = target.seeds()[:-1], target.seeds()[-1]
    for seed in frames:
        assert len(target.receive(target.start(seed[0]), [seed[1:]])) == 1
    assert len(target.decode(value[1:])) > 20


def test_the_invariant_stands_on_the_first_line():
    first = TARGET.read_text().splitlines()[0]
    assert first.startswith('"""Any bytes at all give events or one RemoteError')


@pytest.mark.long
def test_the_fuzzer_finds_nothing(tmp_path):
    pytest.importorskip("atheris", reason="atheris is not installed (dependency group fuzz)")
    seconds = round(campaign.long_seconds("atheris"))
    command = [sys.executable, str(TARGET), f"-max_total_time={seconds}"]
    limits = ["-timeout=10", "-rss_limit_mb=1024", f"-artifact_prefix={tmp_path}/"]
    done = subprocess.run(
        [*command, *limits], capture_output=True, text=True, check=False, timeout=seconds + 120
    )
    assert done.returncode == 0, done.stderr[-4_000:]
