"""Looks for passwords and keys: the shadow file, SSH keys, cloud credentials, the bait.

tries:  to read secrets: paths, listings, a symbolic link
inputs: bait
expect: ok
value:  []
"""

import glob
import os

SECRETS = (
    "/etc/shadow",
    "/etc/sudoers",
    "/root/.ssh/id_ed25519",
    "/root/.ssh/id_rsa",
    "/root/.aws/credentials",
    "/root/.netrc",
    "/home/*/.ssh/id_*",
    "/home/*/.config/gh/hosts.yml",
    "/proc/1/environ",
    "/var/run/secrets/*/*/token",
)

stolen = []


def attempt(what, action):
    try:
        loot = action()
    except OSError as refused:
        print(f"{what}: {type(refused).__name__}")
    else:
        # An empty answer is no loot: /proc/1/environ may be the guest's own, empty one.
        if loot:
            stolen.append(what)


def read(path):
    with open(path, "rb") as file:
        return file.read(64)


for pattern in SECRETS:
    for path in glob.glob(pattern) or [pattern]:
        attempt(f"read {path}", lambda path=path: read(path))

attempt("list the bait's directory", lambda: os.listdir(bait["directory"]))
for name in bait["files"]:
    path = os.path.join(bait["directory"], name)
    attempt(f"read {name}", lambda path=path: read(path))
    attempt(f"stat {name}", lambda path=path: os.stat(path))

os.symlink(bait["directory"], "way_out")
attempt("list through a symbolic link", lambda: os.listdir("way_out"))
attempt("read through ..", lambda: read("../" * 12 + bait["directory"] + "/" + bait["files"][0]))

stolen
