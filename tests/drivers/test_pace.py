"""The pace of the host's loop: a guest that trickles bytes does not drive the host (K1)."""

from __future__ import annotations

import pytest

from belljar.drivers import blocking


@pytest.fixture
def rests(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The loop's rests, which are noted instead of taken."""
    taken: list[float] = []
    monkeypatch.setattr(blocking.time, "sleep", taken.append)
    return taken


def rounds(loop: blocking.Loop, bytes_read: int, times: int) -> None:
    for _ in range(times):
        loop.bytes_read = bytes_read
        rest_s = loop.pace()
        if rest_s:
            blocking.time.sleep(rest_s)


def test_K1_the_loop_rests_when_next_to_nothing_comes_again_and_again(rests: list[float]) -> None:
    loop = object.__new__(blocking.Loop)
    loop.little = 0
    rounds(loop, 1, 64)
    assert rests == []
    rounds(loop, 1, 10)
    assert len(rests) == 10
    assert all(rest > 0 for rest in rests)


def test_a_good_piece_or_none_at_all_ends_the_rests(rests: list[float]) -> None:
    loop = object.__new__(blocking.Loop)
    loop.little = 0
    for bytes_read in (4096, 0):
        rounds(loop, 1, 64)
        rounds(loop, bytes_read, 1)
    rounds(loop, 4096, 1000)
    assert rests == []
