"""The sandbox's policy: what a worker may do, and how that is enforced. All of it is in this file;
``linux`` holds the system calls, ``levels`` tries out what this machine has.

Covers
------
*Process.* Forked from a warmed parent with a clean environment, never from the harness, which is
non-dumpable. No capability, no new privileges, no descriptor but its channel.

*seccomp* (x86-64, aarch64): what is not in the list fails with EPERM. No fork, no execve, no socket
but a joined pair, no signal to another process, no memory of one, no namespaces or mounts, no
executable memory (so no shared library loads late: what code may import is preloaded).

*Landlock* (Linux 5.13): reading below the standard library and the allowed packages, installed
packages excluded (they hold this harness and its gold answers); writing nowhere but the scratch
directory; from version 4 no TCP, from version 6 no signal or abstract socket to the outside.

*Namespaces* (user, mount, pid, net, ipc, uts, cgroup): a root with the standard library and nothing
else, no /proc, no network device, no process but the workers of the same run, and a limited scratch
directory (/tmp) of a worker's own in memory. Killing their first process kills them all.

*rlimits*: address space, CPU time, file size, descriptors, threads, no core dump.

Does not cover
--------------
- A kernel bug within the allowed system calls, and timing or cache side channels.
- ``landlock`` without namespaces: ``stat`` still tells whether a path exists and how large it is;
  all writing fails; and an ordinary user's threads, where the kernel gives it no user namespace,
  are bounded by the address space alone.
- What the kernel counts for all workers alike: processes and threads, free memory, the load.
- Memory and CPU are limited for each worker, not for all together: so many sessions at once can
  exhaust the machine. Workers are first in line for the kernel's OOM killer.
- The harness holds messages of a worker in memory: up to twice ``Limits.frame_bytes`` each.
- Workers of one run share the user, pid, net and ipc namespaces; from each other they are kept by
  seccomp, Landlock and separate mounts of the scratch directory.
- Model code can confuse, stop or crash its own worker, and can say anything through its channel:
  ``session`` takes nothing from there that the block could not have done by ``submit`` or print.
- ``none``: a separate process with clean environment and rlimits, the user's rights and network.
- ``seatbelt`` (macOS) is written from its documentation and untested; with it a killed harness
  leaves a worker that is in a loop until its CPU limit.
"""

from __future__ import annotations

import contextlib
import errno
import os
import resource
import sys
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from rlm_eval.repl import linux

SCRATCH = "/tmp"
_READ = linux.READ_FILE | linux.READ_DIR
#: Read, write, truncate, create, rename and remove files and directories; no devices or sockets.
_WRITE = _READ | linux.WRITE_FILE | 1 << 4 | 1 << 5 | 1 << 7 | 1 << 8 | 1 << 13 | 1 << 14

#: Name, number on x86-64, number on aarch64 (``-``: does not exist there).
ALLOWED = """
# files, as far as Landlock and the mounts let them be opened
read 0 63, write 1 64, readv 19 65, writev 20 66, pread64 17 67, pwrite64 18 68, lseek 8 62,
close 3 57, close_range 436 436, fstat 5 80, newfstatat 262 79, statx 332 291, stat 4 -,
lstat 6 -, access 21 -, faccessat 269 48, faccessat2 439 439, readlink 89 -, readlinkat 267 78,
getcwd 79 17, chdir 80 49, open 2 -, openat 257 56, getdents64 217 61, dup 32 23, dup2 33 -,
dup3 292 24, pipe 22 -, pipe2 293 59, poll 7 -, ppoll 271 73, select 23 -, pselect6 270 72,
epoll_create1 291 20, epoll_ctl 233 21, epoll_wait 232 -, epoll_pwait 281 22, eventfd2 290 19,
ftruncate 77 46, fallocate 285 47, fsync 74 82, fdatasync 75 83, mkdir 83 -, mkdirat 258 34,
rmdir 84 -, unlink 87 -, unlinkat 263 35, rename 82 -, renameat 264 38, renameat2 316 276,
umask 95 166,
# memory and threads
munmap 11 215, mremap 25 216, brk 12 214, madvise 28 233, msync 26 227, futex 202 98,
set_robust_list 273 99, get_robust_list 274 100, rseq 334 293, exit 60 93, exit_group 231 94,
sched_yield 24 124, sched_getaffinity 204 123, restart_syscall 219 128, membarrier 324 283,
# signals of its own
rt_sigaction 13 134, rt_sigprocmask 14 135, rt_sigreturn 15 139, rt_sigpending 127 136,
rt_sigtimedwait 128 137, sigaltstack 131 132, alarm 37 -, setitimer 38 103, getitimer 36 102,
# who and when
getpid 39 172, gettid 186 178, getppid 110 173, getuid 102 174, geteuid 107 175,
getgid 104 176, getegid 108 177, getgroups 115 158, getpgrp 111 -, getpgid 121 155,
getresuid 118 148, getresgid 120 150, getrusage 98 165, getrlimit 97 163, setrlimit 160 164,
times 100 153, uname 63 160, time 201 -, gettimeofday 96 169,
clock_gettime 228 113, clock_getres 229 114, clock_nanosleep 230 115, nanosleep 35 101,
getrandom 318 278,
# the channel, and sockets joined to each other
recvfrom 45 207, recvmsg 47 212, shutdown 48 210, getsockopt 55 209, getsockname 51 204,
"""
#: Allowed for the arguments that ``_conditions`` names.
CONDITIONAL = """
mmap 9 222, mprotect 10 226, clone 56 220, fcntl 72 25, ioctl 16 29, prctl 157 167,
prlimit64 302 261, kill 62 129, tgkill 234 131, socketpair 53 199, sendto 44 206,
"""
CLONE3 = 435  # ENOSYS makes the C library fall back to clone, whose flags a filter can read
AUDIT_ARCH = {"x86_64": 0xC000003E, "aarch64": 0xC00000B7}
_X32_BIT = 0x40000000


@dataclass(frozen=True)
class Policy:
    """What the parent of the workers enforces, given as JSON on its command line.

    ``features``: any of ``landlock``, ``seccomp``, ``namespaces``. ``packages``: directories of
    the packages that code may import beside the standard library.
    """

    features: tuple[str, ...]
    packages: tuple[str, ...]
    memory_mb: int
    file_mb: int
    cpu_seconds: int
    open_files: int


# -- seccomp -----------------------------------------------------------------------------------


@dataclass(frozen=True)
class OneOf:
    """``argument & mask`` must be one of ``values``; 32 bits, the low ones unless ``high``."""

    index: int
    values: tuple[int, ...]
    mask: int = 0xFFFFFFFF
    high: bool = False


def _conditions(pid: int) -> Mapping[str, tuple[OneOf, ...]]:
    prot_exec, thread_flags = 4, 0x10900  # CLONE_VM | CLONE_SIGHAND | CLONE_THREAD
    # No F_SETOWN, F_SETSIG: with O_ASYNC they send signals to other processes. No locks, leases,
    # notices or pipe sizes, which others see that have the same file or user.
    fcntl = (0, 1, 2, 3, 4, 1030, 1032)
    tcgets, tiocgwinsz, fionbio, fionclex, fioclex = 0x5401, 0x5413, 0x5421, 0x5450, 0x5451
    set_name, get_name, name_memory = 15, 16, 0x53564D41
    return {
        "mmap": (OneOf(2, (0,), prot_exec),),
        "mprotect": (OneOf(2, (0,), prot_exec),),
        "clone": (OneOf(0, (thread_flags,), thread_flags | linux.CLONE_NEW_ALL),),
        "fcntl": (OneOf(1, fcntl),),
        "ioctl": (OneOf(1, (tcgets, tiocgwinsz, fionbio, fionclex, fioclex)),),
        "prctl": (OneOf(0, (set_name, get_name, name_memory)),),
        "prlimit64": (OneOf(0, (0,)),),
        "kill": (OneOf(0, (pid,)),),
        "tgkill": (OneOf(0, (pid,)),),
        "socketpair": (OneOf(0, (1,)), OneOf(1, (1,), 0xF)),  # AF_UNIX, SOCK_STREAM
        "sendto": (OneOf(4, (0,)), OneOf(4, (0,), high=True)),  # to the peer, to no address
    }


def system_calls(table: str, machine: str) -> dict[str, int]:
    """The numbers a table gives for ``machine``."""
    column = {"x86_64": 1, "aarch64": 2}[machine]
    lines = [line for line in table.splitlines() if line and not line.startswith("#")]
    rows = [row.split() for line in lines for row in line.split(",") if row.strip()]
    return {row[0]: int(row[column]) for row in rows if row[column] != "-"}


def seccomp_filter(pid: int, machine: str = linux.MACHINE) -> list[linux.Instruction]:
    """The filter of a worker whose process id (in its own namespace) is ``pid``."""
    deny = (linux.RETURN, 0, 0, linux.ERRNO | errno.EPERM)
    allow = (linux.RETURN, 0, 0, linux.ALLOW)
    program = right_machine(machine)
    for number in system_calls(ALLOWED, machine).values():
        program += [(linux.EQUAL, 0, 1, number), allow]
    for name, tests in _conditions(pid).items():
        block = [step for test in tests for step in checked(test, deny)] + [allow]
        program += [(linux.EQUAL, 0, len(block), system_calls(CONDITIONAL, machine)[name]), *block]
    program += [(linux.EQUAL, 0, 1, CLONE3), (linux.RETURN, 0, 0, linux.ERRNO | errno.ENOSYS)]
    return [*program, deny]


def right_machine(machine: str) -> list[linux.Instruction]:
    """Kills who makes another machine's system calls; else the call's number is loaded."""
    kill = (linux.RETURN, 0, 0, linux.KILL)
    return [
        *((linux.LOAD, 0, 0, linux.ARCH_OFFSET), (linux.EQUAL, 1, 0, AUDIT_ARCH[machine]), kill),
        *((linux.LOAD, 0, 0, linux.NUMBER_OFFSET), (linux.GREATER_EQUAL, 0, 1, _X32_BIT), kill),
    ]


def checked(test: OneOf, deny: linux.Instruction) -> list[linux.Instruction]:
    count = len(test.values)
    equal = [(linux.EQUAL, count - i, 0, value) for i, value in enumerate(test.values)]
    load = linux.argument(test.index, high=test.high)
    return [load, (linux.AND, 0, 0, test.mask), *equal, deny]


# -- files -------------------------------------------------------------------------------------


def library_paths() -> list[str]:
    """The standard library and the time zones: all of the machine that code may read."""
    paths = (os.path.dirname(os.__file__), "/usr/share/zoneinfo")
    return [path for path in paths if os.path.isdir(path)]


def installed(directory: str) -> list[str]:
    """Directories of installed packages inside the standard library's."""
    names = ("site-packages", "dist-packages")
    return [path for name in names if os.path.isdir(path := os.path.join(directory, name))]


def package_paths(policy: Policy) -> list[str]:
    """The allowed packages' own directories (with the shared libraries wheels put beside them)."""
    paths = [path for folder in policy.packages for path in (folder, f"{folder}.libs")]
    return [path for path in paths if os.path.isdir(path)]


def _landlock_rules(policy: Policy) -> Iterable[tuple[str, int]]:
    if "namespaces" in policy.features:  # the root holds what may be read, and no more
        yield "/", _READ
        yield SCRATCH, _WRITE
    else:
        for library in library_paths():  # not to be listed: that would list the packages too
            excluded = installed(library)
            entries = (os.path.join(library, name) for name in os.listdir(library))
            kept = (entry for entry in entries if entry not in excluded and os.path.exists(entry))
            yield from ((entry, _READ) for entry in kept)
        yield from ((path, _READ) for path in package_paths(policy))
    if os.path.exists(os.devnull):
        yield os.devnull, linux.READ_FILE | linux.WRITE_FILE


def landlock_ruleset(policy: Policy) -> int:
    """The descriptor of the rules a worker puts on. Raises OSError where there is no Landlock."""
    abi = linux.landlock_abi()
    if not abi:
        raise OSError(errno.ENOSYS, "this kernel has no Landlock")
    handled = (1 << min(13 + (abi >= 2) + (abi >= 3), 15)) - 1
    ruleset = linux.landlock_ruleset(abi)
    for path, access in _landlock_rules(policy):
        linux.landlock_allow(ruleset, path, access & handled)
    return ruleset


# -- namespaces --------------------------------------------------------------------------------


def enter_namespaces(policy: Policy) -> None:
    """New namespaces and a new root for this process and its children; those forked from now on
    are in the new pid namespace, the first of them as its process 1."""
    be_no_root()
    uid, gid = os.geteuid(), os.getegid()
    linux.unshare(linux.CLONE_NEW_ALL)
    Path("/proc/self/setgroups").write_text("deny")
    Path("/proc/self/uid_map").write_text(f"{uid} {uid} 1")
    Path("/proc/self/gid_map").write_text(f"{gid} {gid} 1")
    _change_root([*library_paths(), *package_paths(policy)])


def _change_root(shown: list[str]) -> None:
    root = SCRATCH
    linux.mount("none", "/", None, linux.MS_REC | linux.MS_PRIVATE)
    # Opened before the new root hides what may lie below its mount point.
    sources = {path: os.open(path, os.O_PATH | os.O_CLOEXEC) for path in [*shown, os.devnull]}
    linux.mount("tmpfs", root, "tmpfs", linux.MS_NOSUID | linux.MS_NODEV, "size=1m,mode=755")
    os.makedirs(f"{root}{SCRATCH}", exist_ok=True)
    os.makedirs(f"{root}/dev")
    Path(f"{root}{os.devnull}").touch()
    for path in shown:
        target = f"{root}{path}"
        os.makedirs(target, exist_ok=True)
        source = f"/proc/self/fd/{sources[path]}"
        linux.mount(source, target, None, linux.MS_BIND | linux.MS_REC)
        for hidden in installed(target):
            linux.mount("tmpfs", hidden, "tmpfs", linux.MS_NOSUID | linux.MS_NODEV, "size=4k")
    linux.make_readonly(root)
    null = f"/proc/self/fd/{sources[os.devnull]}"
    linux.mount(null, f"{root}{os.devnull}", None, linux.MS_BIND)
    for descriptor in sources.values():
        os.close(descriptor)
    linux.pivot_root(root)


def own_scratch(policy: Policy) -> None:
    """A scratch directory of this worker's own, in memory, gone with it."""
    linux.unshare(linux.CLONE_NEWNS)
    flags = linux.MS_NOSUID | linux.MS_NODEV | linux.MS_NOEXEC
    options = f"size={policy.file_mb}m,nr_inodes=1024,mode=777"
    linux.mount("tmpfs", SCRATCH, "tmpfs", flags, options)
    os.chdir(SCRATCH)


# -- the worker --------------------------------------------------------------------------------

#: Address space kept back to report that the rest is spent.
RESERVE_MB = 64
#: Threads of one worker.
MOST_THREADS = 256


def limit_resources(policy: Policy) -> None:
    mebibyte = 1 << 20
    wanted = {
        resource.RLIMIT_CORE: (0, 0),
        resource.RLIMIT_CPU: (policy.cpu_seconds, policy.cpu_seconds + 1),
        resource.RLIMIT_FSIZE: (policy.file_mb * mebibyte,) * 2,
        resource.RLIMIT_NOFILE: (policy.open_files,) * 2,
    }
    if sys.platform == "linux":
        soft, hard = policy.memory_mb, policy.memory_mb + RESERVE_MB
        wanted[resource.RLIMIT_AS] = (soft * mebibyte, hard * mebibyte)
        wanted[resource.RLIMIT_MEMLOCK] = (0, 0)
    for which, (soft, hard) in wanted.items():
        ceiling = resource.getrlimit(which)[1]
        if ceiling != resource.RLIM_INFINITY:
            soft, hard = min(soft, ceiling), min(hard, ceiling)
        resource.setrlimit(which, (soft, hard))


def be_no_root() -> None:
    """By its real user no longer root, on whom the kernel puts no limit of processes; by the
    effective one, who owns its files, it still is. A user of no one else, so nobody counts too."""
    if os.geteuid() == 0:
        with contextlib.suppress(OSError):  # where its user namespace has no such user
            os.setresuid(linux.unused_uid(), -1, -1)


def limit_threads() -> None:
    """Has this process's threads counted apart from all others', as those of a user or of a user
    namespace of its own, and limited; where it can have neither, they are not."""
    try:
        linux.unshare(linux.CLONE_NEWUSER)
    except OSError:
        if os.getuid() == os.geteuid():
            return
    if linux.counts_by_namespace():
        resource.setrlimit(resource.RLIMIT_NPROC, (MOST_THREADS, MOST_THREADS))


def confine(policy: Policy) -> None:
    """Puts this process, which then only runs model code, under the policy. Not reversible."""
    os.chdir("/")
    if "namespaces" in policy.features:
        own_scratch(policy)
    ruleset = landlock_ruleset(policy) if "landlock" in policy.features else None
    limit_resources(policy)
    if sys.platform != "linux":
        return
    if policy.features:
        be_no_root()
        limit_threads()
    linux.drop_capabilities()
    linux.set_dumpable(0)
    linux.no_new_privileges()
    if ruleset is not None:
        linux.landlock_restrict(ruleset)
        os.close(ruleset)
    if "seccomp" in policy.features:
        linux.install_filter(seccomp_filter(os.getpid()))
