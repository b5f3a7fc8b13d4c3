"""What the guest made cannot drive a terminal (K1, K7)."""

from __future__ import annotations

import unicodedata

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from belljar.cli.messages import quote
from belljar.cli.terminal import Harmless, harmless, one_line


@pytest.mark.parametrize(
    ("written", "shown"),
    [
        (b"plain \t text\r\n", b"plain \t text\r\n"),
        (b"\x1b[31mred\x1b[0m", rb"\x1b[31mred\x1b[0m"),
        (b"\x1b]0;title\x07", rb"\x1b]0;title\x07"),
        (b"a\bb\x7f\0", rb"a\x08b\x7f\x00"),
        ("\x9b31m".encode(), rb"\x9b31m"),  # C1 as UTF-8
        (b"\x9b31m", rb"\x9b31m"),  # C1 as one byte
        ("é 漢 🐍".encode(), "é 漢 🐍".encode()),
        (b"\xff\xfe", rb"\xff\xfe"),
        (b"\xed\xa0\x80", rb"\xed\xa0\x80"),  # a surrogate is not UTF-8
    ],
)
def test_streams(written: bytes, shown: bytes) -> None:
    assert Harmless().feed(written, final=True) == shown
    piecewise = Harmless()
    pieces = [piecewise.feed(written[i : i + 1]) for i in range(len(written))]
    assert b"".join((*pieces, piecewise.feed(b"", final=True))) == shown


@settings(max_examples=300, deadline=None)
@given(st.binary(max_size=60), st.lists(st.integers(0, 60), max_size=4))
def test_any_bytes_cut_anywhere_show_the_same_and_hold_no_control(
    data: bytes, cuts: list[int]
) -> None:
    whole = Harmless().feed(data, final=True)
    stream = Harmless()
    out, before = b"", 0
    for cut in sorted(cuts):
        out += stream.feed(data[before:cut])
        before = max(before, cut)
    out += stream.feed(data[before:], final=True)
    assert out == whole
    text = whole.decode()
    assert not [c for c in text if unicodedata.category(c) == "Cc" and c not in "\n\t\r"]


@settings(max_examples=300, deadline=None)
@given(st.text(max_size=60))
def test_our_own_texts_hold_no_control_either(text: str) -> None:
    assert not [c for c in harmless(text) if unicodedata.category(c) == "Cc" and c not in "\n\t"]
    line = one_line(text)
    assert len(line.splitlines()) <= 1
    assert not [c for c in line if unicodedata.bidirectional(c) in ("RLO", "LRO", "RLE", "LRI")]
    if text.isprintable():
        assert line == text


def test_our_own_texts_keep_lines_and_refuse_to_be_reordered() -> None:
    assert harmless("a\n\tb\r\x1b") == "a\n\tb\\x0d\\x1b"
    assert one_line("a\nb\u202e\u2028") == "a\\x0ab\\u202e\\u2028"


@pytest.mark.parametrize(
    ("text", "word"),
    [
        ("/srv/data-1.csv", "/srv/data-1.csv"),
        ("/srv/a b", "'/srv/a b'"),
        ("it's", "'it'\\''s'"),
        ("$(reboot)", "'$(reboot)'"),
        ("", "''"),
        ("a\n'b\\", "$'a\\x0a\\'b\\\\'"),
    ],
)
def test_quote(text: str, word: str) -> None:
    assert quote(text) == word
