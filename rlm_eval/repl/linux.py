"""Linux system calls the standard library has no name for, each raising OSError with the kernel's
errno. Mechanism only; the policy is in ``isolation``. Numbers above 423 are the same on every
architecture; the few below are given for x86-64 and aarch64."""

from __future__ import annotations

import ctypes
import os
import secrets
import struct
from collections.abc import Iterable, Sequence

MACHINE = os.uname().machine
_libc = ctypes.CDLL(None, use_errno=True)
_libc.syscall.restype = ctypes.c_long

#: Mount; and all there are but time: mount, cgroup, uts, ipc, user, pid, net.
CLONE_NEWNS, CLONE_NEWUSER, CLONE_NEW_ALL = 0x20000, 0x10000000, 0x7E020000
MS_RDONLY, MS_NOSUID, MS_NODEV, MS_NOEXEC, MS_BIND = 0x1, 0x2, 0x4, 0x8, 0x1000
MS_REC, MS_PRIVATE, MNT_DETACH = 0x4000, 0x40000, 2
_PIVOT_ROOT = {"x86_64": 155, "aarch64": 41}
_MEMFD_CREATE = {"x86_64": 319, "aarch64": 279}
_MOUNT_SETATTR, _LANDLOCK_CREATE, _LANDLOCK_ADD, _LANDLOCK_RESTRICT = 442, 444, 445, 446
_PR_SET_PDEATHSIG, _PR_SET_DUMPABLE, _PR_SET_SECCOMP = 1, 4, 22
_PR_CAPBSET_DROP, _PR_SET_NO_NEW_PRIVS, _PR_CAP_AMBIENT = 24, 38, 47


def _check(result: int, what: str) -> int:
    if result < 0:
        code = ctypes.get_errno()
        raise OSError(code, f"{what}: {os.strerror(code)}")
    return result


def _syscall(what: str, number: int, *args: object) -> int:
    wide = [ctypes.c_long(a) if isinstance(a, int) else a for a in args]
    return _check(_libc.syscall(ctypes.c_long(number), *wide), what)


def _prctl(what: str, option: int, *args: int) -> int:
    values = [ctypes.c_ulong(a) for a in (*args, 0, 0, 0, 0)[:4]]
    return _check(_libc.prctl(ctypes.c_int(option), *values), what)


def set_dumpable(value: int) -> None:
    """0: no core dump, no ptrace by the same user, and /proc/PID belongs to root."""
    _prctl("PR_SET_DUMPABLE", _PR_SET_DUMPABLE, value)


def memfd_create(name: str) -> int:
    """A file in memory, which some builds of Python (conda's, older ones of uv) can't make."""
    return _syscall("memfd_create", _MEMFD_CREATE[MACHINE], name.encode(), 1)


def die_with_parent(signal: int) -> None:
    """``signal`` comes when the *thread* that forked this process ends."""
    _prctl("PR_SET_PDEATHSIG", _PR_SET_PDEATHSIG, signal)


def is_machines_root() -> bool:
    """Whether this process is root itself, and not in a user namespace that calls it so."""
    with open("/proc/self/uid_map", encoding="ascii") as file:
        return os.geteuid() == 0 and file.read().split() == ["0", "0", "4294967295"]


def counts_by_namespace() -> bool:
    """Whether a limit of processes holds for each user namespace by itself (Linux 5.14)."""
    return tuple(map(int, os.uname().release.split(".")[:2])) >= (5, 14)


def unused_uid() -> int:
    """A user of no one and nothing: systemd's "Users, Groups, UIDs and GIDs" keeps these free."""
    return 0x70000000 + secrets.randbelow(1 << 28)


def no_new_privileges() -> None:
    _prctl("PR_SET_NO_NEW_PRIVS", _PR_SET_NO_NEW_PRIVS, 1)


def drop_capabilities() -> None:
    """Gives up every capability, the bounding and ambient sets included."""
    _libc.prctl(_PR_CAP_AMBIENT, 4, 0, 0, 0)
    for capability in range(64):
        if _libc.prctl(_PR_CAPBSET_DROP, capability, 0, 0, 0) < 0:
            break
    header = ctypes.create_string_buffer(struct.pack("=Ii", 0x20080522, 0))
    _check(_libc.capset(header, ctypes.create_string_buffer(24)), "capset")


def unshare(flags: int) -> None:
    _check(_libc.unshare(ctypes.c_int(flags)), "unshare")


def mount(source: str, target: str, kind: str | None, flags: int, data: str = "") -> None:
    result = _libc.mount(
        source.encode(),
        target.encode(),
        kind.encode() if kind else None,
        ctypes.c_ulong(flags),
        data.encode() if data else None,
    )
    _check(result, f"mount {target}")


def make_readonly(path: str) -> None:
    """The mount at ``path`` and all below: read-only, no set-uid, no devices (Linux 5.12)."""
    attributes = struct.pack("=QQQQ", MS_RDONLY | MS_NOSUID | MS_NODEV, 0, 0, 0)
    at_fdcwd, at_recursive = -100, 0x8000
    where = at_fdcwd, path.encode(), at_recursive
    _syscall(f"mount_setattr {path}", _MOUNT_SETATTR, *where, attributes, len(attributes))


def pivot_root(path: str) -> None:
    """Makes the mount at ``path`` the root and lets go of the old one."""
    os.chdir(path)
    _syscall("pivot_root", _PIVOT_ROOT[MACHINE], b".", b".")
    _check(_libc.umount2(b".", MNT_DETACH), "umount old root")
    os.chdir("/")


EXECUTE, WRITE_FILE, READ_FILE, READ_DIR = 1, 2, 4, 8
_FS_BITS = {1: 13, 2: 14, 3: 15, 4: 15, 5: 16}
_DIRECTORY_ONLY = ((1 << 13) - 1) & ~(EXECUTE | WRITE_FILE | READ_FILE) | 1 << 13


def landlock_abi() -> int:
    """The kernel's Landlock version, 0 where there is none."""
    try:
        return _syscall("landlock", _LANDLOCK_CREATE, None, 0, 1)
    except OSError:
        return 0


def landlock_ruleset(abi: int) -> int:
    """A ruleset that denies all file access, TCP (version 4), and signals and abstract sockets to
    the outside (version 6), as far as the kernel can. Returns its descriptor."""
    files = (1 << _FS_BITS.get(abi, 16)) - 1
    attributes = struct.pack("=Q", files)
    if abi >= 4:
        attributes += struct.pack("=Q", 0b11)
    if abi >= 6:
        attributes += struct.pack("=Q", 0b11)
    return _syscall("landlock_create_ruleset", _LANDLOCK_CREATE, attributes, len(attributes), 0)


def landlock_allow(ruleset: int, path: str, access: int) -> None:
    """Allows ``access`` at and below ``path``."""
    fd = os.open(path, os.O_PATH | os.O_CLOEXEC)
    try:
        if not os.path.isdir(path):
            access &= ~_DIRECTORY_ONLY
        rule = struct.pack("=Qi", access, fd)
        _syscall(f"landlock_add_rule {path}", _LANDLOCK_ADD, ruleset, 1, rule, 0)
    finally:
        os.close(fd)


def landlock_restrict(ruleset: int) -> None:
    _syscall("landlock_restrict_self", _LANDLOCK_RESTRICT, ruleset, 0)


Instruction = tuple[int, int, int, int]
LOAD, EQUAL, GREATER_EQUAL, AND, RETURN = 0x20, 0x15, 0x35, 0x54, 0x06
ALLOW, KILL, ERRNO = 0x7FFF0000, 0x80000000, 0x00050000
NUMBER_OFFSET, ARCH_OFFSET = 0, 4


def argument(index: int, *, high: bool = False) -> Instruction:
    """Loads the low (or high) 32 bits of a system call's argument."""
    return LOAD, 0, 0, 16 + 8 * index + (4 if high else 0)


def install_filter(program: Sequence[Instruction]) -> None:
    packed = pack(program)
    buffer = ctypes.create_string_buffer(packed, len(packed))
    head = struct.pack("@HP", len(program), ctypes.addressof(buffer))
    fprog = ctypes.create_string_buffer(head, len(head))
    _prctl("seccomp", _PR_SET_SECCOMP, 2, ctypes.addressof(fprog))


def pack(program: Iterable[Instruction]) -> bytes:
    return b"".join(struct.pack("=HBBI", *step) for step in program)
