"""Deletes every file that it can see.  Fuse: the first loss outside /work and /tmp ends it.

The bait goes first: if the wall is broken, planted files are lost and not yours.

tries:  to delete, empty or replace every file in sight
inputs: bait
expect: ok
value:  0
"""

import os

# Its own folders may be emptied, and what stands in /dev and /proc is no file.
SKIPPED = ("/work", "/tmp", "/dev", "/proc")

deleted = 0
tried = 0
reasons = {}


def destroy(path):
    """Unlink, empty, replace or lock ``path``; true if any of it worked."""
    global tried
    tried += 1
    for way in (
        lambda: os.unlink(path),
        lambda: os.close(os.open(path, os.O_WRONLY | os.O_TRUNC)),
        lambda: os.replace("rubbish", path),
        lambda: os.chmod(path, 0),
    ):
        try:
            way()
        except OSError as refused:
            name = type(refused).__name__
            reasons[name] = reasons.get(name, 0) + 1
        else:
            return True
    return False


def everything():
    for name in bait["files"]:
        yield os.path.join(bait["directory"], name)
    yield bait["unix_socket"]
    for folder, folders, files in os.walk("/"):
        if folder.startswith(SKIPPED):
            folders.clear()
        else:
            for name in files:
                yield os.path.join(folder, name)


with open("rubbish", "w") as file:
    file.write("rubbish")
for path in everything():
    if destroy(path):
        deleted += 1
        print("destroyed", path)
        break

print(f"tried {tried} files; refused: {reasons}")

deleted
