"""What a confined foreign engine can reach, and whether this machine can hold it to that.

An engine runs model-written code with its own rights, so bubblewrap confines the engine. Covers:
the user's files (it sees the system's and Python's libraries and its own files, and writes nowhere
but in memory), the kernel's settings, the harness and its gold answers, the environment, other
processes, keyrings, locks and notices of files, new namespaces, and the network but for a loopback
of its own, on which only the proxy answers. Under the machine's root an engine is a user of its
own. Its processes and threads are counted.

Does not cover: memory and processor time, which nothing limits but the method's ``seconds``; a
kernel bug within the allowed system calls; timing; what all users can read under /usr and in the
Python installation, and what the machine as a whole is doing (/proc/stat and the like).
"""

from __future__ import annotations

import errno
import importlib.util
import os
import sys
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from rlm_eval.repl import linux
from rlm_eval.repl.isolation import CLONE3, CONDITIONAL, OneOf, checked, right_machine, system_calls
from rlm_eval.repl.launch import own_namespaces

#: A confined engine's folder, in memory and in a file system of its own.
HOME = "/tmp/engine"
_SYSTEM = [
    *("/usr", "/bin", "/lib", "/lib64", "/etc/alternatives", "/etc/ld.so.cache"),
    *("/etc/ssl", "/etc/pki", "/etc/localtime", "/etc/hosts", "/etc/nsswitch.conf"),
]
#: The harness, and RULER's own questions (tasks/generated/haystack.py).
_WITH_GOLD = (*(f"rlm_eval{part}" for part in ("", ".tasks", ".conf")), "long_context_eval")
#: Of the machine as a whole, and read by nothing that an engine needs.
_MASKED = ("keys", "key-users", "kcore", "timer_list", "sched_debug", "kallsyms", "locks")

#: What no foreign engine needs of the kernel, in the form of ``isolation.ALLOWED``.
DENIED = """
# other file systems, namespaces and roots
mount 165 40, umount2 166 39, pivot_root 155 41, chroot 161 51, open_tree 428 428,
move_mount 429 429, fsopen 430 430, fsconfig 431 431, fsmount 432 432, fspick 433 433,
mount_setattr 442 442, setns 308 268, unshare 272 97, open_by_handle_at 304 265,
name_to_handle_at 303 264, quotactl 179 60, swapon 167 224, swapoff 168 225, acct 163 89,
# what all of a machine's processes, or all of a user's, have in common
add_key 248 217, request_key 249 218, keyctl 250 219, inotify_init 253 -, inotify_init1 294 26,
inotify_add_watch 254 27, fanotify_init 300 262, fanotify_mark 301 263, syslog 103 116,
settimeofday 164 170, clock_settime 227 112, adjtimex 159 171, clock_adjtime 305 266,
sethostname 170 161, setdomainname 171 162, reboot 169 142,
# where the kernel's bugs have been, and other processes' memory
bpf 321 280, perf_event_open 298 241, userfaultfd 323 282, io_uring_setup 425 425,
io_uring_enter 426 426, io_uring_register 427 427, init_module 175 105, delete_module 176 106,
finit_module 313 273, kexec_load 246 104, kexec_file_load 320 294, iopl 172 -, ioperm 173 -,
ptrace 101 117, process_vm_readv 310 270, process_vm_writev 311 271, kcmp 312 272,
pidfd_getfd 438 438, personality 135 92,
# older forms of utimensat
utime 132 -, utimes 235 -, futimesat 261 -,
"""


def engine_filter(machine: str) -> list[linux.Instruction]:
    """The filter of a foreign engine: all is allowed but what it has no use for. A lock of a file,
    which whoever has the same file would notice (a library, /dev/null), is none: ``flock`` does not
    exist, and those of ``fcntl`` say that they were had. Nor is a file's time set, though it says
    so: to set it to now one need not own the file, and how it is given a filter can't read."""

    def answer(code: int) -> linux.Instruction:
        return (linux.RETURN, 0, 0, linux.ERRNO | code)

    def case(name: str, steps: Sequence[linux.Instruction]) -> list[linux.Instruction]:
        return [(linux.EQUAL, 0, len(steps), numbers[name]), *steps]

    def refuse(index: int, refused: Mapping[int, int]) -> list[linux.Instruction]:
        steps = [linux.argument(index)]
        for value, code in refused.items():
            steps += [(linux.EQUAL, 0, 1, value), answer(code)]
        return [*steps, allow]

    others = "flock 73 32, socket 41 198, utimensat 280 88"
    numbers = system_calls(f"{CONDITIONAL}{DENIED}{others}", machine)
    deny, allow = answer(errno.EPERM), (linux.RETURN, 0, 0, linux.ALLOW)
    families = OneOf(0, (1, 2, 10, 16))  # unix, IPv4, IPv6, netlink: those with namespaces
    set_lock, lease, notify, push_input, paste = (6, 7, 37, 38), 1024, 1026, 0x5412, 0x541C
    program = right_machine(machine)
    for name in system_calls(DENIED, machine):
        program += case(name, [deny])
    program += case("flock", [answer(errno.ENOSYS)])
    program += case("socket", [*checked(families, answer(errno.EAFNOSUPPORT)), allow])
    program += case("clone", [*checked(OneOf(0, (0,), linux.CLONE_NEW_ALL), deny), allow])
    locks = dict.fromkeys(set_lock, 0) | {lease: errno.EPERM, notify: errno.EPERM}
    program += case("fcntl", refuse(1, locks))
    program += case("utimensat", [answer(0)])
    program += case("ioctl", refuse(1, {push_input: errno.EPERM, paste: errno.EPERM}))
    program += [(linux.EQUAL, 0, 1, CLONE3), answer(errno.ENOSYS)]
    return [*program, allow]


def _with_gold() -> list[str]:
    packages = filter(None, map(importlib.util.find_spec, _WITH_GOLD))
    folders = [folder for spec in packages for folder in spec.submodule_search_locations or ()]
    return [*map(os.path.realpath, folders)]


def tells_answers(path: str) -> bool:
    """Whether the harness lies in a folder, whose code makes the answers."""
    return any(_below(folder, [os.path.realpath(path)]) for folder in _with_gold())


def confined(
    command: Sequence[str], readable: Iterable[str], files: Mapping[str, int], seccomp: int
) -> list[str]:
    """``command`` in namespaces of its own, with a folder in memory to write in. ``readable`` are
    files and folders beside the system to read, ``files`` descriptors by the path that their
    content is put at, ``seccomp`` the descriptor of a filter."""
    shown = list(_SYSTEM)
    for prefix in (sys.base_prefix, sys.prefix):
        shown += [os.path.realpath(prefix), prefix]
    hidden = [path for path in _with_gold() if _below(path, shown)]
    out = [*own_namespaces(), "--die-with-parent", "--seccomp", str(seccomp), "--cap-drop", "ALL"]
    if linux.is_machines_root():  # for the starter, which becomes another user
        for name in ("SETUID", "SETGID", "CHOWN"):
            out += ["--cap-add", f"CAP_{name}"]
    out += ["--dev", "/dev", "--proc", "/proc"]
    for path in (f"/proc/{name}" for name in _MASKED):
        out += ["--ro-bind", os.devnull, path] if os.path.exists(path) else []
    # bubblewrap itself leaves root the settings: it asks whether their folder may be written.
    out += ["--remount-ro", "/proc", "--tmpfs", "/tmp", "--dir", HOME]
    for path in dict.fromkeys(shown):  # bubblewrap's own parent folders are root's alone
        out += ["--dir", os.path.dirname(path), "--ro-bind-try", path, path]
    for path in hidden:
        out += ["--tmpfs", path]
    for path in readable:
        if _below(path, hidden) or not _below(path, shown):
            out += ["--dir", os.path.dirname(path), "--ro-bind", path, path]
    for path, descriptor in files.items():
        mode = "0755" if os.access(path, os.X_OK) else "0644"  # of the file that it stands for
        out += ["--dir", os.path.dirname(path), "--perms", mode, "--file", str(descriptor), path]
    return [*out, "--remount-ro", "/", "--chdir", HOME, "--", *command]


def _below(path: str, folders: Iterable[str]) -> bool:
    return any(Path(path).is_relative_to(folder) for folder in folders)


#: Prints what a confined process must not be able to do, but could; for which it runs as one.
PROBE = """
import ctypes, os, socket
def written(path):
    os.close(os.open(path, os.O_WRONLY))
def allowed(action):
    try: return action() is not False
    except OSError: return False
libc = ctypes.CDLL(None)
sets = [line.split()[1] for line in open('/proc/self/status') if line.startswith(('CapP', 'CapE'))]
print(', '.join(what for what, action in {
    'can change settings of the kernel': lambda: written('/proc/sys/kernel/core_pattern'),
    'can write in /proc': lambda: written('/proc/self/oom_score_adj'),
    'can write in /usr': lambda: written('/usr/written') or os.access('/usr', os.W_OK),
    'can change devices': lambda: os.chmod('/dev/null', 0o666),
    'has capabilities': lambda: any(int(held, 16) for held in sets),
    'can make namespaces': lambda: libc.unshare(0x10000000) == 0,
    'is not cut off from the machine': lambda: socket.socket(40).close(),
}.items() if allowed(action)))
"""
