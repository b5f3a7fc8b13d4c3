"""Nothing that a program has a hand in drives the terminal of ``belljar run`` (K1, K7).

What: the sequences by which terminals are attacked, printed, raised, refused and in names of
files, on a pseudo-terminal.  Because: they retitle windows, write the clipboard, hide lines,
move the cursor over ours, and have the terminal type answers into the shell that comes next.
Then: what arrives there is text, and it is all there to be read; a pipe gets the bytes.
"""

from __future__ import annotations

import json
import unicodedata
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from belljar.cli.messages import quote
from belljar.cli.terminal import Harmless, harmless, one_line

from .command import belljar, terminal, through_shell

ATTACKS = {
    "title": b"\x1b]0;owned\x07",
    "title, ended by ST": b"\x1b]2;owned\x1b\\",
    "title asked back": b"\x1b[21t",
    "clipboard": b"\x1b]52;c;cm0gLXJmIC8K\x07",
    "hyperlink": b"\x1b]8;;https://bad.example\x1b\\good\x1b]8;;\x1b\\",
    "notification": b"\x1b]9;owned\x07\x1b]777;notify;a;b\x07",
    "file transfer": b"\x1b]1337;File=name=eA==:YQ==\x07",
    "palette": b"\x1b]4;0;#fff\x07\x1b]104\x07",
    "device attributes": b"\x1b[c\x1b[>c\x1b[=c\x1bZ",
    "cursor position asked": b"\x1b[6n\x1b[5n",
    "answerback": b"\x05",
    "settings asked": b'\x1bP$qm\x1b\\\x1b[?1$p',
    "termcap asked": b"\x1bP+q544e\x1b\\",
    "macro defined and run": b"\x1bP1;0;1!z726d\x1b\\\x1b[1*z",
    "key redefined": b'\x1b[13;"rm -rf /"p\x1bP0;1|17/726d\x1b\\',
    "application command": b"\x1b_Ga=q;AAAA\x1b\\",
    "privacy message": b"\x1b^owned\x1b\\\x1bXowned\x1b\\",
    "cursor up and erased": b"\x1b[A\x1b[2K",
    "cursor saved and restored": b"\x1b7\x1b[s\x1b8\x1b[u",
    "screen erased": b"\x1b[2J\x1b[H\x1b[3J",
    "other screen": b"\x1b[?1049h\x1b[?47h",
    "mouse reports": b"\x1b[?1000h\x1b[?1006h",
    "paste and focus": b"\x1b[?2004h\x1b[?1004h",
    "reset": b"\x1bc\x1b[!p",
    "invisible text": b"\x1b[8mhidden\x1b[0m\x1b[30;40m",
    "colours": b"\x1b[31mred\x1b[0m",
    "other character set": b"\x1b(0\x0e\x0f\x1bn",
    "not UTF-8 any more": b"\x1b%@",
    "scrolling region": b"\x1b[1;1r",
    "tab stops": b"\x1bH\x1b[3g",
    "printer": b"\x1b[5i\x1b[i",
    "bell": b"\x07" * 10,
    "overstrike": b"rm\x08\x08ok",
    "line feeds of other kinds": b"\x0b\x0c",
    "eight-bit controls": "\x9b2J\x9d0;owned\x9c\x90q\x9c\x85\x84".encode(),
    "eight-bit controls as bytes": b"\x9b2J\x9d0;owned\x9c\x90q\x9c",
    "escape cut by a bad byte": b"\xc2\x1b[2J\xe2\x82\x9b2J\xf0\x9f\x1b]0;x\x07",
    "overlong escape": b"\xc0\x9b[2J\xe0\x80\x9b[2J",
    "NUL and DEL": b"\x00\x7f\x1a\x18",
    "flow control": b"\x13\x11",
}  # fmt: skip


def acts(shown: bytes) -> list[str]:
    """What in these bytes a terminal would act on instead of showing it."""
    text = shown.decode("utf-8")  # an error here is a finding too
    return [c for c in text if unicodedata.category(c) == "Cc" and c not in "\t\n\r"]


@pytest.mark.parametrize("how", ATTACKS)
def test_no_attack_passes_the_filter_however_it_is_cut(how: str) -> None:
    attack = b"before " + ATTACKS[how] + b" after"
    whole = Harmless().feed(attack, final=True)
    assert acts(whole) == []
    assert whole.startswith(b"before ")
    assert whole.endswith(b" after")
    for cut in range(len(attack)):
        stream = Harmless()
        pieces = stream.feed(attack[:cut]), stream.feed(attack[cut:]), stream.feed(b"", final=True)
        assert b"".join(pieces) == whole
        assert acts(pieces[0]) == []
    text = attack.decode("utf-8", "backslashreplace")
    assert acts(harmless(text).encode()) == []
    assert acts(one_line(text).encode()) == []


@settings(max_examples=300, deadline=None)
@given(st.lists(st.sampled_from(list(ATTACKS.values())) | st.binary(max_size=8), max_size=8))
def test_no_mixture_of_attacks_passes_the_filter(pieces: list[bytes]) -> None:
    stream = Harmless()
    shown = b"".join([*map(stream.feed, pieces), stream.feed(b"", final=True)])
    assert acts(shown) == []
    assert shown == Harmless().feed(b"".join(pieces), final=True)


@settings(max_examples=300, deadline=None)
@given(st.text(st.characters(exclude_categories=["Cc", "Cs"]), max_size=60))
def test_plain_text_is_left_alone(text: str) -> None:
    assert Harmless().feed(text.encode(), final=True) == text.encode()


UNSEEN = "\u00ad\u034f\u061c\u115f\u180e\u200b\u200c\u200d\u200e\u200f\u202a\u202e\u2028\u2029"
UNSEEN += (
    "\u2060\u2064\u2066\u2069\u206a\u3164\ufe0f\ufeff\uffa0\ufff9\U0001d173\U000e0041\U000e0101"
)


@pytest.mark.parametrize("character", UNSEEN)
def test_what_nobody_sees_is_shown_in_our_own_texts(character: str) -> None:
    shown = one_line(f"/srv/da{character}ta")
    assert shown.isascii()
    assert shown == harmless(f"/srv/da{character}ta")
    assert f"{ord(character):04x}" in shown


def test_no_unseen_character_is_left_out() -> None:
    """All that Unicode calls format characters, but for those that have a shape."""
    with_a_shape = {*range(0x600, 0x606), 0x6DD, 0x70F, 0x890, 0x891, 0x8E2, 0x110BD, 0x110CD}
    with_a_shape |= {*range(0x13430, 0x13440)}
    left = [
        hex(code)
        for code in range(0x110000)
        if unicodedata.category(chr(code)) in ("Cf", "Zl", "Zp")
        and code not in with_a_shape
        and one_line(chr(code)) == chr(code)
    ]
    assert left == []


def test_a_path_with_unseen_characters_can_be_pasted(tmp_path: Path) -> None:
    """What the hint of a denial shows is what a shell takes back."""
    for name in ("a\u200bb", "a\u202eb", "a\x9bb", "a\U000e0041b", "a\x1b[2Jb", "é\u00adé"):
        done = through_shell(f"printf %s {quote(name)}")
        assert done.stdout.decode() == name


EVERYWHERE = """
import sys
attack = ATTACK
sys.stdout.buffer.write(b"out " + attack + b"\\n"); sys.stdout.flush()
sys.stderr.buffer.write(b"err " + attack + b"\\n"); sys.stderr.flush()
text = attack.decode("utf-8", "backslashreplace")
try: open("/srv/" + text.replace("\\0", ""))
except OSError: pass
class E(Exception): pass
E.__qualname__ = E.__name__ = "E" + text.replace("\\0", "")
error = E("message " + text)
error.add_note("note " + text)
exec(compile("def f(e): raise e", "file " + text.replace("\\0", ""), "exec"))
f(error)
"""


def test_on_a_terminal_all_of_it_is_text() -> None:
    attack = b" ".join(ATTACKS.values())
    with terminal("run", "-c", EVERYWHERE.replace("ATTACK", repr(attack))) as seen:
        text = seen.finish()
        assert seen.process.returncode == 1
    assert acts(text) == []
    for part in (b"out ", b"err ", b"message ", b"note ", b"file ", b"belljar: refused read /srv/"):
        assert part in text
    assert text.count(rb"\x1b]52;c;") >= 5


def test_through_a_pipe_all_of_it_is_as_it_was() -> None:
    attack = b" ".join(ATTACKS.values())
    done = belljar("run", "-c", EVERYWHERE.replace("ATTACK", repr(attack)))
    assert b"out " + attack + b"\n" in done.stdout
    assert b"err " + attack + b"\n" in done.stderr


def test_raw_lets_the_programs_output_through_and_nothing_else() -> None:
    code = "import sys\nprint('\\x1b[31mred\\x1b[0m', flush=True)\nraise ValueError('\\x1b[2J')"
    with terminal("run", "--raw", "-c", code) as seen:
        text = seen.finish()
    assert b"\x1b[31mred\x1b[0m" in text
    assert b"\x1b[2J" not in text
    assert rb"ValueError: \x1b[2J" in text


@pytest.mark.parametrize("end", ["\\r", "no end", "\\u202e", "x\\u2067"])
def test_our_own_line_starts_on_a_new_one(end: str) -> None:
    """Not over, nor within, what the guest left in its last line."""
    code = f"import sys\nsys.stdout.write('{end}'); sys.stdout.flush()\nimport os; os.abort()"
    with terminal("run", "-c", code) as seen:
        text = seen.finish().decode()
    assert "\nbelljar: crashed: Aborted (signal 6)\r\n" in text
    with terminal("run", "-c", "import os; print('whole', flush=True); os.abort()") as seen:
        assert seen.finish() == b"whole\r\nbelljar: crashed: Aborted (signal 6)\r\n"


def test_json_is_visible_ascii_whatever_the_program_says() -> None:
    attack = b" ".join(ATTACKS.values())
    code = EVERYWHERE.replace("ATTACK", repr(attack))
    done = belljar("run", "--json", "-c", code)
    assert {*done.stdout} <= {*range(0x20, 0x7F), 0x0A}
    said = json.loads(done.stdout)
    assert said["error"]["message"] == "message " + attack.decode("utf-8", "backslashreplace")
    value = belljar("run", "--json", "-c", "{'\\x7f\\x1b\\u202e': '\\x9b\\ud800'}")
    assert {*value.stdout} <= {*range(0x20, 0x7F), 0x0A}
    assert json.loads(value.stdout)["value"] == {"\x7f\x1b\u202e": "\x9b\ud800"}


@pytest.mark.parametrize("command", ["run", "explain"])
def test_hostile_names_of_files_are_text(command: str, tmp_path: Path) -> None:
    place = tmp_path / "\x1b]0;owned\x07\u202e\x9b2J"
    place.mkdir()
    (place / "x\x1b[2J.py").write_text("raise ValueError")
    program = ["x\x1b[2J.py"] if command == "run" else []
    hostile = [str(place / name) for name in program]
    with terminal(command, "--read", f"{place}:/data/\x1b[2J", *hostile) as seen:
        shown = seen.finish()
    if command == "explain":
        # rich draws the table, in bold; nothing else of the sort is there.
        shown = shown.replace(b"\x1b[1m", b"").replace(b"\x1b[0m", b"")
    assert acts(shown) == []
    assert rb"\x1b" in shown
    with terminal(command, f"--\x1b[2J{place}") as seen:
        assert acts(seen.finish()) == []
    with terminal("run", str(place / "missing\x1b[2J.py")) as seen:
        assert acts(seen.finish()) == []
