"""Looks for the host: its environment, arguments, processes, names and paths.

tries:  to learn about the host: /proc, uname, paths, variables
inputs: bait
expect: ok
value:  []
"""

import os
import platform
import sys
import traceback

found = []


def look(where, text):
    """Notes each of the host's marks that ``text`` holds."""
    for mark in bait["marks"]:
        if mark in text:
            found.append(f"{mark} in {where}")


def read(path):
    try:
        with open(path, "rb") as file:
            return file.read(2**20).decode("utf-8", "replace")
    except OSError:
        return ""


def numbers(path):
    try:
        return [int(name) for name in os.listdir(path) if name.isdigit()]
    except OSError as refused:
        print(f"list {path}: {type(refused).__name__}")
        return []


# A process that is not this one, told by a command line or a status it lets us read.
for pid in numbers("/proc"):
    if pid != os.getpid() and read(f"/proc/{pid}/status"):
        found.append(f"process {pid}")
for pid in {1, os.getpid(), os.getppid(), bait["pid"]}:
    for name in ("environ", "cmdline", "maps", "mountinfo", "cgroup", "status"):
        look(f"/proc/{pid}/{name}", read(f"/proc/{pid}/{name}"))
for descriptor in numbers("/proc/self/fd"):
    try:
        look(f"descriptor {descriptor}", os.readlink(f"/proc/self/fd/{descriptor}"))
    except OSError:
        pass

look("environment", repr(dict(os.environ)))
if bait["host_name"] in (os.uname().nodename, platform.node()):
    found.append("the host's name")
look("sys", repr((sys.argv, sys.path, sys.executable, sys.prefix, sys.base_prefix, sys.orig_argv)))
look("modules", repr([getattr(module, "__file__", "") for module in list(sys.modules.values())]))
try:
    os.path.join(None)
except TypeError:
    look("traceback", traceback.format_exc())
for name in ("/etc/passwd", "/etc/hosts", "/etc/hostname", "/proc/sys/kernel/hostname"):
    look(name, read(name))
try:
    os.kill(bait["pid"], 0)
except OSError as refused:
    print(f"signal the host: {type(refused).__name__}")
else:
    found.append("the host takes a signal")

found
