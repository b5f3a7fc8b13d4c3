"""C8: modules that reach for the system import, and fail as they do on any machine.

What: each module imports, and each call that the policy does not answer is an ``OSError``, or
what its documentation promises instead.  Because: libraries probe, ``try: ... except OSError``,
and go on with the second best; a sandbox that answers otherwise breaks them.  Then: no call
here ends the guest, and probing code as libraries have it comes to its end.
"""

from __future__ import annotations

import pytest

import belljar
from belljar import Policy

MODULES = """
    asyncio asyncio.subprocess cProfile concurrent.futures.process ctypes ctypes.util fcntl ftplib
    getpass glob grp http.client http.server imaplib logging.handlers mailbox mmap multiprocessing
    multiprocessing.pool multiprocessing.shared_memory os pathlib platform poplib posix pty pwd
    resource select selectors shutil signal site smtplib socket socketserver sqlite3 ssl subprocess
    sysconfig tempfile termios threading tty urllib.request uuid venv webbrowser xmlrpc.client
"""

PRELUDE = """
import errno
def outcome(act):
    try:
        act()
        return "done"
    except OSError as error:
        return errno.errorcode.get(error.errno, type(error).__name__)
    except Exception as error:
        return "not an OSError: " + repr(error)
"""


def outcomes(setup: str, acts: dict[str, str], policy: Policy | None = None) -> dict[str, str]:
    """What became of each act (an expression), all in one guest."""
    table = ", ".join(f"{name!r}: outcome(lambda: {act})" for name, act in acts.items())
    value: dict[str, str] = belljar.run(f"{PRELUDE}{setup}\n{{{table}}}", policy).unwrap()
    return value


def test_C8_they_import() -> None:
    code = "import importlib\nfor name in NAMES: importlib.import_module(name)\nlen(NAMES)"
    names = MODULES.split()
    result = belljar.run(code, inputs={"NAMES": names})
    assert result.unwrap() == len(names)
    assert result.denials == ()


def test_C8_processes() -> None:
    acts = {
        "fork": "os.fork()",
        "execv": "os.execv('/bin/true', ['true'])",
        "spawn": "os.spawnv(os.P_WAIT, '/bin/true', ['true'])",
        "posix_spawn": "os.posix_spawn('/bin/true', ['true'], {})",
        "popen": "os.popen('true')",
        "run": "subprocess.run(['true'])",
        "run in a shell": "subprocess.run('true', shell=True)",
        "output": "subprocess.check_output(['true'])",
        "itself": "subprocess.Popen([sys.executable, '-V'])",
        "multiprocessing": "multiprocessing.Process(target=print).start()",
        "spawned": "multiprocessing.get_context('spawn').Process(target=print).start()",
        "asyncio": "asyncio.run(asynchronous())",
        "pty": "pty.fork()",
    }
    setup = """
import asyncio, multiprocessing, os, pty, subprocess, sys
async def asynchronous():
    await asyncio.create_subprocess_exec("true")
"""
    found = outcomes(setup, acts)
    assert found.pop("pty") != "done"
    assert found == dict.fromkeys(found, "EPERM")
    assert belljar.run("import os; os.waitstatus_to_exitcode(os.system('true'))").unwrap() != 0


def test_C8_shared_state_between_processes_is_refused_as_where_there_is_none() -> None:
    acts = {
        "lock": "multiprocessing.Lock()",
        "queue": "multiprocessing.Queue()",
        "pool": "multiprocessing.Pool(1)",
        "shared": "shared_memory.SharedMemory(create=True, size=10)",
        "executor": "list(concurrent.futures.ProcessPoolExecutor(1).map(abs, [-1]))",
        "memfd": "os.memfd_create('x')",
        "tracing": "os.kill(1, 9)",
        "children": "os.wait()",
    }
    found = outcomes(
        "import concurrent.futures, multiprocessing, os\nfrom multiprocessing import shared_memory",
        acts,
    )
    assert found.pop("children") == "ECHILD"
    assert {*found.values()} <= {"EPERM", "EACCES", "ENOENT", "ENOSYS"}


def test_C8_network() -> None:
    acts = {
        "socket": "socket.socket()",
        "six": "socket.socket(socket.AF_INET6, socket.SOCK_DGRAM)",
        "connect": "socket.create_connection(('127.0.0.1', 1))",
        "serve": "socket.create_server(('127.0.0.1', 0))",
        "resolve": "socket.getaddrinfo('example.org', 80)",
        "http": "http.client.HTTPConnection('127.0.0.1', 1).request('GET', '/')",
        "https": "http.client.HTTPSConnection('127.0.0.1', 1).request('GET', '/')",
        "urlopen": "urllib.request.urlopen('http://example.org', timeout=1)",
        "urlopen by address": "urllib.request.urlopen('https://127.0.0.1:1', timeout=1)",
        "smtp": "smtplib.SMTP('127.0.0.1', 1)",
        "ftp": "ftplib.FTP('127.0.0.1')",
        "xmlrpc": "xmlrpc.client.ServerProxy('http://127.0.0.1:1').x()",
        "asyncio": "asyncio.run(connect())",
        "server": "http.server.HTTPServer(('127.0.0.1', 0), None)",
        "interfaces": "socket.if_nameindex()",
        "host name": "socket.sethostname('x')",
        "syslog": "logging.handlers.SysLogHandler()",
    }
    setup = """
import asyncio, ftplib, http.client, http.server, logging.handlers, smtplib, socket, urllib.request, xmlrpc.client
async def connect():
    await asyncio.open_connection("127.0.0.1", 1)
"""
    found = outcomes(setup, acts)
    assert found.pop("resolve") == "gaierror"  # its numbers are not those of errno
    allowed = {"EPERM", "EACCES", "EAFNOSUPPORT", "URLError"}
    assert {name: what for name, what in found.items() if what not in allowed} == {}


def test_C8_what_needs_no_network_works() -> None:
    code = """
import asyncio, select, selectors, socket, ssl, urllib.parse, urllib.request
a, b = socket.socketpair()
a.sendall(b"x")
found = [select.select([b], [], [], 5)[0] == [b], b.recv(1), socket.gethostname(), socket.getfqdn()]
found.append(socket.gethostbyname("127.0.0.1"))
found.append(ssl.create_default_context().check_hostname)
found.append(urllib.request.urlopen("data:,text").read())
found.append(urllib.request.urlopen("file:///etc/hosts").read()[:9])
selectors.DefaultSelector().register(b, selectors.EVENT_READ)
async def talk():
    reader, writer = await asyncio.open_connection(sock=a)
    b.sendall(b"line\\n")
    return await reader.readline(), await asyncio.to_thread(abs, -1)
found.append(asyncio.run(talk()))
found
"""
    assert belljar.run(code).unwrap() == [
        True, b"x", "belljar", "belljar", "127.0.0.1", True, b"text", b"127.0.0.1", (b"line\n", 1),
    ]  # fmt: skip


def test_C8_files_and_the_system() -> None:
    acts = {
        "secret": "open('/etc/shadow')",
        "write": "open('/etc/x', 'w')",
        "make": "os.mkdir('/x')",
        "root": "os.chroot('/')",
        "user": "os.setuid(0)",
        "owner": "os.chown('/work', 0, 0)",
        "clock": "time.clock_settime(time.CLOCK_REALTIME, 0)",
        "processors": "os.sched_setaffinity(0, {0})",
        "load": "os.getloadavg()",
        "login": "os.getlogin()",
        "terminal": "os.get_terminal_size()",
        "openpty": "os.openpty()",
        "library": "ctypes.CDLL('no-such-library.so')",
        "release": "platform.freedesktop_os_release()",
    }
    found = outcomes("import ctypes, os, platform, time", acts)
    assert not [what for what in found.values() if what == "done" or what.startswith("not ")]
    assert (found["secret"], found["root"]) == ("ENOENT", "EPERM")


def test_C8_what_a_program_asks_of_its_machine_has_an_answer() -> None:
    code = """
import getpass, locale, os, platform, pwd, shutil, sqlite3, tempfile, uuid, webbrowser
with tempfile.TemporaryDirectory() as folder, tempfile.NamedTemporaryFile("w+") as file:
    file.write("x")
    found = [folder[:5], file.name[:5], os.path.isdir(folder)]
tempfile.SpooledTemporaryFile().write(b"x")
found += [getpass.getuser(), os.path.expanduser("~"), pwd.getpwuid(os.getuid()).pw_name]
found += [platform.system(), platform.node(), platform.release(), os.cpu_count() > 0]
found += [uuid.uuid1() != uuid.uuid1(), uuid.uuid4().version, webbrowser.open("http://example.org")]
found += [sqlite3.connect(":memory:").execute("select 1").fetchone(), shutil.disk_usage("/work").total > 0]
base = sqlite3.connect("data.db")
base.execute("create table t(x)")
found += [shutil.which("sh"), platform.platform().startswith("Linux-"), locale.getpreferredencoding()]
found
"""
    assert belljar.run(code).unwrap() == [
        "/tmp/", "/tmp/", True, "guest", "/work", "guest", "Linux", "belljar", "5.12.0", True,
        True, 4, False, (1,), True, None, True, "utf-8",
    ]  # fmt: skip


def test_C8_threads_signals_and_timers_are_the_guests_own() -> None:
    code = """
import concurrent.futures, queue, resource, signal, threading, time
found = []
with concurrent.futures.ThreadPoolExecutor(4) as executor:
    found.append(list(executor.map(abs, [-1, -2])))
arrived = queue.Queue()
timer = threading.Timer(0, arrived.put, ["tick"])
timer.start()
found.append(arrived.get(timeout=10))
signal.signal(signal.SIGUSR1, lambda *a: found.append("handled"))
signal.raise_signal(signal.SIGUSR1)
signal.signal(signal.SIGALRM, lambda *a: found.append("alarm"))
signal.setitimer(signal.ITIMER_REAL, 0.01)
signal.pause()
soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
try:
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard + 1, hard + 1))
except ValueError as error:
    found.append(str(error))
found
"""
    assert belljar.run(code).unwrap() == [
        [1, 2], "tick", "handled", "alarm", "not allowed to raise maximum limit",
    ]  # fmt: skip


def test_C8_log_handlers_that_cannot_send_go_on() -> None:
    code = """
import logging, logging.handlers
log = logging.getLogger("x")
log.propagate = False
log.addHandler(logging.handlers.SocketHandler("127.0.0.1", 1))
log.addHandler(logging.handlers.RotatingFileHandler("x.log"))
log.error("here")
open("x.log").read()
"""
    assert belljar.run(code).unwrap() == "here\n"


PROBES = {
    "a faster module": """
try:
    import readline
except ImportError:
    readline = None
readline
""",
    "a terminal": """
try:
    import curses
    curses.setupterm()
    colours = True
except Exception:
    colours = False
colours
""",
    "processors": """
import subprocess
try:
    count = int(subprocess.check_output(["nproc"], stderr=subprocess.DEVNULL))
except (OSError, subprocess.SubprocessError):
    count = None
count
""",
    "a lock": """
try:
    import multiprocessing.synchronize
    lock = multiprocessing.Lock()
except (ImportError, OSError):
    lock = None
lock
""",
    "a free port": """
import socket
try:
    with socket.socket() as probe:
        probe.bind(("", 0))
        port = probe.getsockname()[1]
except OSError:
    port = None
port
""",
    "the version": """
import contextlib, os
version = None
with contextlib.suppress(OSError):
    version = os.popen("git describe").read()
version
""",
    "a library": """
import ctypes, ctypes.util
try:
    found = ctypes.CDLL(ctypes.util.find_library("nosuch") or "libnosuch.so.1")
except OSError:
    found = None
found
""",
    "a configuration": """
import pathlib
found = None
for place in ("/etc/tool.conf", "~/.config/tool", "/usr/local/etc/tool"):
    try:
        found = pathlib.Path(place).expanduser().read_text()
    except OSError:
        pass
found
""",
    "memory": """
try:
    with open("/proc/meminfo") as file:
        memory = file.read()
except OSError:
    memory = None
memory
""",
}


@pytest.mark.parametrize("what", PROBES)
def test_C8_code_that_probes_goes_on(what: str) -> None:
    result = belljar.run(PROBES[what])
    assert result.unwrap() in (None, False)
    assert (result.stdout, result.stderr) == ("", "")


@pytest.mark.parametrize(
    ("code", "note"),
    [
        ("import subprocess; subprocess.run(['ls'])", "belljar refused fork ls: allow(run=[\"ls\"], processes=1) would allow it"),
        ("import socket; socket.socket()", "belljar refused network socket: no grant of this release"),
        ("open('/etc/shadow')", 'belljar refused read /etc/shadow: allow(read={"/etc/shadow": "/host/etc/shadow"}) would allow it'),
        ("open('/srv/x', 'w')", 'belljar refused write /srv/x: allow(write=["/srv/x"]) would allow it'),
        ("import shutil; shutil.copy('/srv/a', 'b')", 'belljar refused read /srv/a: allow(read=["/srv/a"]) would allow it'),
    ],
)  # fmt: skip
def test_M6_a_refusal_that_nobody_catches_says_what_would_help(code: str, note: str) -> None:
    result = belljar.run(code)
    assert result.error is not None
    assert result.error.notes == (note,)
    assert result.error.traceback.endswith(f"\n{note}\n")
    with pytest.raises((belljar.Denied, belljar.LimitExceeded)):  # of processes there are 0
        result.unwrap()
