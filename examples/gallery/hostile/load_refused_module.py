"""Looks for C modules that are not on the whitelist, by every name their files might have.

tries:  to load a C module that is not on the whitelist
expect: ok
value:  {"imported": [], "files": [], "mapped": []}
"""

import ctypes
import glob
import importlib
import importlib.machinery
import sysconfig

REFUSED = ("_curses", "readline", "_testcapi", "_xxsubinterpreters", "syslog", "_tkinter")

imported = []
for name in REFUSED:
    try:
        imported.append(importlib.import_module(name).__name__)
    except ImportError:
        pass

suffixes = importlib.machinery.EXTENSION_SUFFIXES
places = glob.glob("/**/lib-dynload", recursive=True)
files = []
for place in [*places, sysconfig.get_path("platstdlib") + "/lib-dynload", "/work"]:
    for name in REFUSED:
        for suffix in suffixes:
            try:
                with open(f"{place}/{name}{suffix}", "rb") as file:
                    files.append((place, name, len(file.read())))
            except OSError:
                pass

# A copy of one's own is data: no writable place may hold code.
mapped = []
import _json

with open(getattr(_json, "__file__", ctypes.__file__), "rb") as file:
    with open("/work/copy.so", "wb") as copy:
        copy.write(file.read())
for path in ("/work/copy.so", "/proc/self/fd/3"):
    try:
        mapped.append(ctypes.CDLL(path)._name)
    except OSError:
        pass

{"imported": imported, "files": files, "mapped": mapped}
