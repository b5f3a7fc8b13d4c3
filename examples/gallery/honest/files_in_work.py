"""Files in /work, the guest's own folder in memory.

tries:  writing, renaming, zipping and walking files in /work
expect: ok
value:  {"files": ["archive.zip", "notes/a.txt", "notes/b.txt"], "checksum": "ok"}
"""

import hashlib
import pathlib
import shutil
import tempfile
import zipfile

notes = pathlib.Path("notes")
notes.mkdir()
(notes / "a.txt").write_text("first\n")
(notes / "draft.txt").write_text("second\n")
(notes / "draft.txt").rename(notes / "b.txt")

with zipfile.ZipFile("archive.zip", "w", zipfile.ZIP_DEFLATED) as archive:
    for note in sorted(notes.iterdir()):
        archive.write(note)

with tempfile.TemporaryDirectory() as scratch:
    shutil.unpack_archive("archive.zip", scratch)
    unpacked = (pathlib.Path(scratch) / "notes" / "b.txt").read_bytes()

checksum = hashlib.sha256(unpacked).digest() == hashlib.sha256(b"second\n").digest()
files = sorted(str(path) for path in pathlib.Path().rglob("*") if path.is_file())
print("in", pathlib.Path.cwd(), "there are", files)

{"files": files, "checksum": "ok" if checksum else "wrong"}
