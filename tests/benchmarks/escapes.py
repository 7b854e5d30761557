"""The escape suite: what code in a worker can do that it must not, level by level.

    python tests/benchmarks/escapes.py LEVEL [WITHOUT]  one level as this user, as JSON; WITHOUT:
                                                        as if the kernel lacked landlock, seccomp,
                                                        namespaces (any of them, with spaces)
    python tests/benchmarks/escapes.py --write          every level and user this machine has, as
                                                        results/published/benchmarks/sandbox_*.md

Each attempt is real: it has succeeded only when it returns something true, which the level
``none`` is there to show. Needs nothing but the standard library and rlm_eval.
"""

from __future__ import annotations

import contextlib
import errno
import json
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path

from rlm_eval.errors import ConfigError
from rlm_eval.repl import linux
from rlm_eval.repl.session import ReplSession, Sandbox

CANARY = "sk-canary-0123456789abcdef"
#: A level, and what the kernel is made to lack for it.
LEVELS = (
    ("auto", ""),
    ("landlock", ""),
    ("auto", "landlock"),
    ("bwrap", ""),
    ("bwrap", "landlock"),
    ("container", ""),
    ("seatbelt", ""),
    ("none", ""),
)
#: Known to be open; the policy's docstring says so.
ACCEPTED = {"landlock+seccomp": {"stat of a secret file"}}
ROOT = Path(__file__).resolve().parents[2]

PREAMBLE = """
import ctypes, errno, os, socket, sys
libc = ctypes.CDLL(None, use_errno=True)
ARM = os.uname().machine == 'aarch64'

def raw(x86, arm, *args):
    # Whether the system call got past the filter: it then fails for another reason, or works.
    ctypes.set_errno(0)
    number = arm if ARM else x86
    result = libc.syscall(ctypes.c_long(number), *map(ctypes.c_long, args + (0,) * (6 - len(args))))
    return result >= 0 or ctypes.get_errno() not in (errno.EPERM, errno.EACCES, errno.ENOSYS)

def scratch():
    # Where a file may be written, or else a place that is cleaned up.
    return HERE if os.path.isdir(HERE) else '.'

def processes():
    return [int(name) for name in os.listdir('/proc') if name.isdigit()]
"""

#: Name of the attempt: body of a function that returns something true when it succeeded.
ATTEMPTS = {
    # environment and secrets
    "canary in the worker's environment": (
        "get = libc.getenv; get.restype = ctypes.c_char_p\n"
        "return CANARY in str(dict(os.environ)) or get(b'RLM_CANARY_KEY')"
    ),
    "canary in its own /proc/self/environ": (
        "return CANARY.encode() in open('/proc/self/environ', 'rb').read()"
    ),
    "canary anywhere in its own objects": (
        "import gc\nreturn any(CANARY in str(o) for o in gc.get_objects() if type(o) is dict "
        "and o is not globals() and 'CANARY' not in o)"
    ),
    "environment of the harness": (
        "return CANARY.encode() in open(f'/proc/{HARNESS}/environ', 'rb').read()"
    ),
    "environment of any process": (
        "for pid in processes():\n"
        "  try:\n    if CANARY.encode() in open(f'/proc/{pid}/environ', 'rb').read(): return pid\n"
        "  except OSError: pass"
    ),
    "command lines of other processes": (
        "return [p for p in processes() if p > 1 and p != os.getpid()"
        " and open(f'/proc/{p}/cmdline', 'rb').read()]"
    ),
    "memory map of the harness": "return open(f'/proc/{HARNESS}/maps').read()",
    "memory of the harness": "return open(f'/proc/{HARNESS}/mem', 'rb')",
    "descriptors of the harness": "return os.listdir(f'/proc/{HARNESS}/fd')",
    # files
    "read /etc/passwd": "return open('/etc/passwd').read()",
    "read a secret file": "return open(SECRET).read()",
    "read a secret file by FileIO": "import io\nreturn io.FileIO(SECRET).read()",
    "read a secret file through a symlink": (
        "link = os.path.join(scratch(), 'link')\nos.symlink(SECRET, link)\nreturn open(link).read()"
    ),
    "read a secret file by openat2": (
        "name = ctypes.create_string_buffer(SECRET.encode())\n"
        "how = ctypes.create_string_buffer(24)\n"
        "return libc.syscall(437, -100, name, how, 24) >= 0"
    ),
    "stat of a secret file": "return os.stat(SECRET).st_size",
    "list the secret's directory": "return os.listdir(os.path.dirname(SECRET))",
    "list the root of the harness's files": "return 'secret' in os.listdir(HERE)",
    "read this harness's source and gold answers": "return open(SOURCE).read()",
    "read the kernel's settings": "return open('/proc/sys/kernel/osrelease').read()",
    "read /sys": "return os.listdir('/sys/class')",
    "open a block device or memory": (
        "for n in ('/dev/vda', '/dev/sda', '/dev/mem', '/dev/kmsg', '/dev/nvme0n1'):\n"
        "  try: return open(n, 'rb').read(1)\n  except FileNotFoundError: pass\n"
        "raise FileNotFoundError(n)"
    ),
    # writing
    "write beside the secret": "open(SECRET + '.new', 'w').write('x')\nreturn True",
    "append to a file": "open(VICTIM, 'a').write('x')\nreturn True",
    "truncate a file": "os.truncate(VICTIM, 0)\nreturn True",
    "change a file's mode": "os.chmod(VICTIM, 0o600)\nreturn True",
    "change a file's times": "os.utime(VICTIM, (1, 1))\nreturn True",
    "remove a file": "os.unlink(VICTIM + '1')\nreturn True",
    "rename a file": "os.rename(VICTIM + '2', VICTIM + '3')\nreturn True",
    "hard link to a secret": "os.link(SECRET, SECRET + '.link')\nreturn True",
    "make a directory": "os.mkdir(SECRET + '.dir')\nreturn True",
    "make a device or a fifo": "os.mkfifo(SECRET + '.fifo')\nreturn True",
    "write to /tmp seen by others": (
        "open(f'/tmp/{TOKEN}', 'w').write('x')\nreturn 'ask the harness'"
    ),
    "write to /dev/shm": "open(f'/dev/shm/{TOKEN}', 'w').write('x')\nreturn 'ask the harness'",
    "write into the standard library": (
        "path = os.path.join(os.path.dirname(os.__file__), TOKEN)\n"
        "open(path, 'w').close()\nos.unlink(path)\nreturn True"
    ),
    "a file larger than its limit": (
        "with open(os.path.join(scratch(), 'big'), 'wb') as f:\n"
        "  for _ in range(200): f.write(bytes(1 << 20))\nreturn True"
    ),
    "System V shared memory": "return libc.shmget(0x5a5a, 4096, 0o1666) >= 0",
    # the harness and other workers
    "signal the harness": "os.kill(HARNESS, 0)\nreturn True",
    "signal every process": "os.kill(-1, 0)\nreturn True",
    "signal its parent": "os.kill(os.getppid(), 0)\nreturn True",
    "signal the worker of another session": (
        "for pid in (*range(1, 40), *range(os.getpid() - 20, os.getpid() + 20)):\n"
        "  if pid not in (0, os.getpid()):\n"
        "    try: os.kill(pid, 0); return pid\n    except (ProcessLookupError, OverflowError): pass"
    ),
    "signal by pidfd": "return os.pidfd_open(HARNESS) >= 0",
    "signal by queue": "return raw(129, 138, HARNESS, 0, 0)",
    "signal by tkill": "return raw(200, 130, HARNESS, 0)",
    "signal by F_SETOWN": (
        "import fcntl\na, b = os.pipe()\nfcntl.fcntl(a, fcntl.F_SETOWN, HARNESS)\nreturn True"
    ),
    "ptrace the harness": "return libc.ptrace(16, HARNESS, 0, 0) >= 0",
    "ptrace at all": "return libc.ptrace(0, 0, 0, 0) >= 0",
    "process_vm_readv": "return raw(310, 270, HARNESS, 0, 0, 0, 0, 0)",
    "limits of the harness": (
        "import resource\nreturn resource.prlimit(HARNESS, resource.RLIMIT_CORE)"
    ),
    "priority of the harness": "os.setpriority(os.PRIO_PROCESS, HARNESS, 19)\nreturn True",
    "kcmp, pidfd_getfd": "return raw(438, 438, 3, 0, 0)",
    "descriptors left open by the parent": (
        "import stat\nfound = []\nfor fd in range(3, 1024):\n"
        "  try: mode = os.fstat(fd).st_mode\n  except OSError: continue\n"
        "  if stat.S_ISSOCK(mode) or stat.S_ISREG(mode) or stat.S_ISDIR(mode): found.append(fd)\n"
        "return len(found) > 1"
    ),
    # network
    "TCP to loopback": "return socket.create_connection(('127.0.0.1', TCP), 2)",
    "TCP server": "s = socket.socket()\ns.bind(('127.0.0.1', 0))\ns.listen()\nreturn True",
    "UDP": "return socket.socket(type=socket.SOCK_DGRAM).sendto(b'x', ('127.0.0.1', UDP))",
    "IPv6": "return socket.socket(socket.AF_INET6)",
    "unix socket by path": "s = socket.socket(socket.AF_UNIX)\ns.connect(UNIX)\nreturn True",
    "abstract unix socket": "s = socket.socket(socket.AF_UNIX)\ns.connect(ABSTRACT)\nreturn True",
    "abstract unix datagram from a pair": (
        "a, b = socket.socketpair(type=socket.SOCK_DGRAM)\nreturn a.sendto(b'x', DATAGRAM)"
    ),
    "address given to a stream pair": (
        "a, b = socket.socketpair()\nreturn raw(42, 203, a.fileno(), 0, 0)"
    ),
    "vsock": "return socket.socket(40, socket.SOCK_STREAM)",
    "netlink": "return socket.socket(socket.AF_NETLINK, socket.SOCK_RAW)",
    "raw and packet sockets": "return socket.socket(socket.AF_PACKET, socket.SOCK_RAW)",
    "kernel crypto sockets": "return socket.socket(socket.AF_ALG, socket.SOCK_SEQPACKET)",
    "name resolution": "return socket.getaddrinfo('localhost', 80) and socket.socket()",
    # processes and privileges
    "fork": "pid = os.fork()\nif not pid: os._exit(0)\nreturn True",
    "clone by system call": "return raw(56, 220, 0x800)",
    "clone3 by system call": "return raw(435, 435, 0, 0)",
    "vfork": "return not ARM and raw(58, 0) if FILTERED else 'not tried'",
    "execve": "return raw(59, 221, 0, 0, 0)",
    "execveat": "return raw(322, 281, -1, 0, 0, 0, 0)",
    "subprocess": "import subprocess\nreturn subprocess.run(['/bin/true']).returncode == 0",
    "os.system": "return os.system('true') == 0",
    "posix_spawn": "return os.posix_spawn('/bin/true', ['true'], {})",
    "multiprocessing": (
        "import multiprocessing\np = multiprocessing.get_context('fork').Process(target=print)\n"
        "p.start()\np.join()\nreturn True"
    ),
    "become another user": "return raw(117, 147, 1234, 1234, 1234)",
    "capabilities": (
        "import struct\nhead = ctypes.create_string_buffer(struct.pack('=Ii', 0x20080522, 0))\n"
        "data = ctypes.create_string_buffer(24)\n"
        "number = 90 if ARM else 125\nlibc.syscall(number, head, data)\n"
        "return any(struct.unpack('=6I', data.raw)[0::3])"
    ),
    "raise its memory limit": (
        "import resource\nresource.setrlimit(resource.RLIMIT_AS, (-1, -1))\nreturn True"
    ),
    "become dumpable": "return libc.prctl(4, 1, 0, 0, 0) == 0",
    "outlive its parent": "return libc.prctl(1, 0, 0, 0, 0) == 0",
    # the kernel
    "new user namespace": "return libc.unshare(0x10000000) == 0",
    "setns": "return raw(308, 268, -1, 0)",
    "mount": "return raw(165, 40, 0, 0, 0, 0, 0)",
    "new mount API": "return raw(430, 430, 0, 0)",
    "pivot_root": "return raw(155, 41, 0, 0)",
    "chroot": "os.chroot('/')\nreturn True",
    "io_uring": "return raw(425, 425, 1, 0)",
    "bpf": "return raw(321, 280, -1, 0, 0)",
    "userfaultfd": "return raw(323, 282, 0)",
    "perf events": "return raw(298, 241, 0, 0, -1, -1, 0)",
    "keyrings": "return raw(250, 219, 0, 0, 0)",
    "open by handle": "return raw(304, 265, -1, 0, 0)",
    "kernel modules": "return raw(313, 273, -1, 0, 0)",
    "fanotify, inotify": "return raw(294, 26, 0)",
    "POSIX message queues": "return raw(240, 180, 0, 0, 0, 0)",
    "set the clock or the host name": "return raw(227, 112, 0, 0) or raw(170, 161, 0, -1)",
    "personality": "return raw(135, 92, 0x0400000)",
    "another seccomp filter": "return raw(317, 277, 1, 0, 0)",
    "x32 system calls": "return raw(0x40000000 + 39, 172) and not ARM",
    # executable memory and loading
    "writable and executable memory": (
        "import mmap\nreturn mmap.mmap(-1, 4096, prot=mmap.PROT_READ | mmap.PROT_WRITE | 4)"
    ),
    "mprotect to executable": (
        "import mmap\nm = mmap.mmap(-1, 4096)\n"
        "a = ctypes.addressof(ctypes.c_char.from_buffer(m))\n"
        "return libc.mprotect(ctypes.c_void_p(a), 4096, 5) == 0"
    ),
    "executable memfd": (
        "import mmap\nfd = os.memfd_create('x')\nos.ftruncate(fd, 4096)\n"
        "return mmap.mmap(fd, 4096, prot=mmap.PROT_READ | 4, flags=mmap.MAP_PRIVATE)"
    ),
    "load a shared library": (
        "import glob\n"
        "names = ['libcrypt.so.1', 'libnss_files.so.2', 'libutil.so.1', 'libresolv.so.2']\n"
        "for n in names:\n"
        "  try: return ctypes.CDLL(n)\n  except OSError: pass\nraise OSError('none loads')"
    ),
    # Python
    "import the harness": "import rlm_eval\nreturn rlm_eval",
    "import an installed package": (
        "sys.path.append(PACKAGES)\nimport importlib\nimportlib.invalidate_caches()\n"
        "import pip\nreturn pip"
    ),
    "__builtins__ and subclasses": (
        "classes = ().__class__.__base__.__subclasses__()\n"
        "found = [c for c in classes if c.__name__ == '_wrap_close']\n"
        "return found[0].__init__.__globals__['system']('true') == 0"
    ),
    "__import__ put back": (
        "import builtins\nposix = builtins.__import__('posix')\nreturn posix.open(SECRET, 0) >= 0"
    ),
    "code of the worker's own frames": (
        "frame = sys._getframe()\nwhile frame.f_back: frame = frame.f_back\n"
        "return CANARY in str(frame.f_globals.get('os', '')) or open(SECRET)"
    ),
    "trace hooks": "sys.settrace(lambda *a: None)\nsys.settrace(None)\nreturn open(SECRET)",
}


@contextlib.contextmanager
def surroundings() -> Iterator[dict[str, object]]:
    """What there is to reach: secrets, listeners, this process. Yields names for the attempts."""
    here = tempfile.mkdtemp(prefix="rlm-escape-")
    secret = os.path.join(here, "secret")
    victims = [os.path.join(here, name) for name in ("victim", "victim1", "victim2")]
    for path in (secret, *victims):
        Path(path).write_text("secret")
    abstract, datagram = f"\0rlm-escape-{os.getpid()}", f"\0rlm-escape-dgram-{os.getpid()}"
    unix = os.path.join(here, "unix")
    with contextlib.ExitStack() as stack:
        sockets = {
            name: stack.enter_context(socket.socket(family, kind))
            for name, family, kind in (
                ("tcp", socket.AF_INET, socket.SOCK_STREAM),
                ("udp", socket.AF_INET, socket.SOCK_DGRAM),
                ("unix", socket.AF_UNIX, socket.SOCK_STREAM),
                ("abstract", socket.AF_UNIX, socket.SOCK_STREAM),
                ("datagram", socket.AF_UNIX, socket.SOCK_DGRAM),
            )
        }
        addresses = {"unix": unix, "abstract": abstract, "datagram": datagram}
        for name, sock in sockets.items():
            sock.bind(addresses.get(name, ("127.0.0.1", 0)))
            if name in ("tcp", "unix", "abstract"):
                sock.listen()
        yield {
            "CANARY": CANARY,
            "HARNESS": os.getpid(),
            "SECRET": secret,
            "VICTIM": victims[0],
            "HERE": here,
            "SOURCE": str(ROOT / "rlm_eval" / "errors.py"),
            "PACKAGES": str(Path(contextlib.__file__).parent / "site-packages"),
            "TOKEN": os.path.basename(here) + ".seen",
            "TCP": sockets["tcp"].getsockname()[1],
            "UDP": sockets["udp"].getsockname()[1],
            "UNIX": unix,
            "ABSTRACT": abstract,
            "DATAGRAM": datagram,
        }
    for place in ("/tmp", "/dev/shm"):
        with contextlib.suppress(FileNotFoundError):
            os.unlink(os.path.join(place, os.path.basename(here) + ".seen"))
    shutil.rmtree(here)


def attempt(session: ReplSession, body: str, names: dict[str, object]) -> str:
    """``open``, or ``blocked: why``."""
    lines = [f"{name} = {value!r}" for name, value in names.items()]
    lines += [PREAMBLE, "def attempt():", *(f"  {line}" for line in body.splitlines())]
    lines += ["submit('open' if (got := attempt()) else 'blocked: no effect')"]
    result = session.run("\n".join(lines), replayable=False)
    if result.submitted == "open" and "ask the harness" in body:
        place = "/dev/shm" if "/dev/shm" in body else "/tmp"
        seen = os.path.exists(os.path.join(place, str(names["TOKEN"])))
        return "open" if seen else "blocked: a directory of its own"
    if result.submitted is not None:
        return result.submitted
    if result.interrupted:
        return f"blocked: worker {result.interrupted}"
    return f"blocked: {(result.error or '').splitlines()[-1]}"


def remove(missing: str) -> None:
    """Makes the kernel refuse, to this process and its children, what ``missing`` names."""

    def deny(number: int, argument: int = 0) -> None:
        error = (linux.RETURN, 0, 0, linux.ERRNO | errno.ENOSYS)
        allow = (linux.RETURN, 0, 0, linux.ALLOW)
        steps = [(linux.LOAD, 0, 0, 0), (linux.EQUAL, 0, 3 if argument else 1, number)]
        if argument:
            steps += [linux.argument(0), (linux.EQUAL, 0, 1, argument)]
        linux.install_filter([*steps, error, allow])

    arm = linux.MACHINE == "aarch64"
    if missing:
        linux.no_new_privileges()
    if "namespaces" in missing:
        deny(97 if arm else 272)  # unshare
    if "landlock" in missing:
        deny(444)  # landlock_create_ruleset
    if "seccomp" in missing:
        deny(167 if arm else 157, 22)  # prctl(PR_SET_SECCOMP)


def run_level(level: str) -> dict[str, object]:
    """Every attempt at one level, as the user who runs this. Raises ConfigError."""
    os.environ["RLM_CANARY_KEY"] = CANARY
    with Sandbox(level, {"block_seconds": 10}) as sandbox, surroundings() as names:
        names["FILTERED"] = "seccomp" in sandbox.level
        outcomes = {}
        with sandbox.session({}) as other, sandbox.session({}) as session:
            spinning = threading.Thread(target=other.run, args=("import time; time.sleep(0.1)",))
            spinning.start()
            for name, body in ATTEMPTS.items():
                if names["FILTERED"]:
                    outcomes[name] = attempt(session, body, names)
                    continue
                with sandbox.session({}) as own:  # what succeeds changes the worker
                    outcomes[name] = attempt(own, body, names)
            spinning.join()
        return {"level": sandbox.level, "uid": os.geteuid(), "outcomes": outcomes}


def run_as(level: str, uid: int, missing: str = "") -> dict[str, object] | str:
    """The same in another process as ``uid``; a reason where that can't be."""
    path = "" if missing and level == "auto" else os.environ["PATH"]
    environment = {"PATH": path, "PYTHONPATH": str(ROOT)}
    python = sys.executable
    if uid != os.geteuid():
        python = next((p for p in (sys.executable, "/usr/bin/python3") if _runs(p, uid)), "")
        if not python:
            return f"no Python that uid {uid} can run"
    done = subprocess.run(
        [python, __file__, level, missing],
        user=uid if uid != os.geteuid() else None,
        group=uid if uid != os.geteuid() else None,
        extra_groups=[] if uid != os.geteuid() else None,
        env=environment,
        cwd="/",
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    if done.returncode == 2:
        return done.stderr.strip()
    if done.returncode:
        raise RuntimeError(done.stderr)
    found: dict[str, object] = json.loads(done.stdout)
    return found


def _runs(python: str, uid: int) -> bool:
    """Whether ``uid`` can run this interpreter and read this repository with it."""
    code = "import rlm_eval.repl.session"
    try:
        done = subprocess.run(
            [python, "-c", code],
            user=uid,
            group=uid,
            extra_groups=[],
            env={"PYTHONPATH": str(ROOT)},
            cwd="/",
            capture_output=True,
            check=False,
        )
    except OSError:
        return False
    return done.returncode == 0


def users() -> list[int]:
    """This user; as root an ordinary one too."""
    return [0, 65534] if os.geteuid() == 0 else [os.geteuid()]


def write_table() -> Path:
    """The table of every level and user this machine offers, as Markdown."""
    columns: dict[str, dict[str, str]] = {}
    missing = []
    for level, without in LEVELS:
        for uid in users():
            found = run_as(level, uid, without)
            who = "root" if uid == 0 else "user"
            if isinstance(found, str):
                reason = found.partition("model-written code (")[2].partition("). To run")[0]
                missing.append(f"- `{level}`: {reason or found}")
            else:
                columns[f"{found['level']} ({who})"] = found["outcomes"]  # type: ignore[assignment]
    lines = [
        f"# What a worker can do: {linux.MACHINE}",
        "",
        "Written by `python tests/benchmarks/escapes.py --write`, not by hand. "
        f"Linux {os.uname().release}, Landlock version {linux.landlock_abi()}, "
        f"Python {sys.version.split()[0]}.",
        "",
        "| attempt | " + " | ".join(columns) + " |",
        "|---|" + "---|" * len(columns),
    ]
    for name in ATTEMPTS:
        cells = [outcomes[name].split(":")[0] for outcomes in columns.values()]
        lines.append(
            f"| {name} | " + " | ".join(c.replace("open", "**open**") for c in cells) + " |"
        )
    blocked = [sum(o != "open" for o in outcomes.values()) for outcomes in columns.values()]
    lines.append(f"| **blocked of {len(ATTEMPTS)}** | " + " | ".join(map(str, blocked)) + " |")
    if missing:
        lines += ["", "Not on this machine, so not tested:", "", *dict.fromkeys(missing)]
    path = ROOT / "results" / "published" / "benchmarks" / f"sandbox_{linux.MACHINE}.md"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path


def main() -> int:
    if sys.argv[1:] == ["--write"]:
        print(write_table())
        return 0
    try:
        remove(" ".join(sys.argv[2:]))
        print(json.dumps(run_level(sys.argv[1])))
    except ConfigError as error:
        print(error, file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
