"""What the escape suite tries from inside a worker or a foreign engine: each attempt is the body of
a function that returns something true when it succeeded. ``PREAMBLE`` stands before every one."""

from __future__ import annotations

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

def writable(*paths):
    # Whether one may be opened to be written, which nothing is.
    for path in paths:
        try: os.close(os.open(path, os.O_WRONLY)); return True
        except FileNotFoundError: pass
    raise FileNotFoundError(paths)

def locked(command):
    # Whether a lock of a library file is there for another process that has the file open.
    import fcntl, struct
    lock = lambda kind: struct.pack('hhqqi4x', kind, 0, 0, 0, 0)
    mine = open(os.__file__)
    fcntl.fcntl(mine, command, lock(fcntl.F_RDLCK))
    r, w = os.pipe()
    if not os.fork():
        seen = fcntl.fcntl(open(os.__file__), fcntl.F_GETLK, lock(fcntl.F_WRLCK))
        os.write(w, seen[:2])
        os._exit(0)
    return struct.unpack('h', os.read(r, 2))[0] != fcntl.F_UNLCK

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
    "read the kernel's keys and memory": (
        "for n in ('/proc/keys', '/proc/kallsyms', '/proc/timer_list', '/proc/kcore'):\n"
        "  try:\n    if open(n, 'rb').read(1): return n\n  except FileNotFoundError: pass\n"
        "raise FileNotFoundError(n)"
    ),
    "list the installed packages": "return os.listdir(PACKAGES)",
    # the machine
    "write the kernel's settings": (
        "return writable('/proc/sys/kernel/core_pattern', '/proc/sys/kernel/hostname')"
    ),
    "write the memory's settings": (
        "return writable('/proc/sys/vm/drop_caches', '/proc/sys/vm/overcommit_memory')"
    ),
    "write limits that all share": (
        "return writable('/proc/sys/kernel/pid_max', '/proc/sys/fs/pipe-max-size')"
    ),
    "write switches in /proc": (
        "return writable('/proc/sysrq-trigger', '/proc/irq/default_smp_affinity', '/proc/mtrr',"
        " '/proc/scsi/scsi', '/proc/acpi/wakeup')"
    ),
    "write pressure triggers": "return writable('/proc/pressure/cpu', '/proc/pressure/memory')",
    "write in /sys": (
        "return writable('/sys/power/state', '/sys/kernel/mm/ksm/run', '/sys/kernel/profiling')"
    ),
    "write to control groups": (
        "return writable('/sys/fs/cgroup/cgroup.procs', '/sys/fs/cgroup/pids/cgroup.procs',"
        " '/sys/fs/cgroup/unified/cgroup.procs', '/sys/fs/cgroup/cpu/tasks')"
    ),
    "mount over the kernel's settings": (
        "if libc.unshare(0x10020000): raise PermissionError\n"
        "libc.mount(b'proc', b'/proc', b'proc', 0, None)\n"
        "libc.mount(b'', b'/proc', b'', 0x1020, None)\n"
        "return writable('/proc/sys/kernel/core_pattern')"
    ),
    "change a device's mode": "os.chmod('/dev/null', 0o666)\nreturn True",
    "change a device's times": (
        "before = os.stat('/dev/null').st_mtime_ns\n"
        "now = (ctypes.c_long * 4)(0, (1 << 30) - 1, 0, (1 << 30) - 1)\n"
        "libc.utimensat(-100, b'/dev/null', now, 0)\n"
        "try: os.utime('/dev/null')\nexcept OSError: pass\n"
        "return os.stat('/dev/null').st_mtime_ns != before"
    ),
    "make a device": "os.mknod(os.path.join(scratch(), 'null'), 0o20666, 0x103)\nreturn True",
    "2,000 threads": (
        "import threading\nthreading.stack_size(1 << 16)\nover, threads = threading.Event(), []\n"
        "try:\n"
        "  for _ in range(2000):\n"
        "    threads.append(threading.Thread(target=over.wait))\n    threads[-1].start()\n"
        "except RuntimeError: threads.pop()\n"
        "over.set()\nfor thread in threads: thread.join()\nreturn len(threads) == 2000"
    ),
    # what samples could tell each other by
    "flock on a library file": (
        "import fcntl\nfcntl.flock(open(os.__file__), fcntl.LOCK_EX | fcntl.LOCK_NB)\nreturn True"
    ),
    "flock on /dev/null": (
        "import fcntl\nfcntl.flock(open(os.devnull), fcntl.LOCK_EX | fcntl.LOCK_NB)\nreturn True"
    ),
    "fcntl lock on a library file": "return locked(6)",
    "open file's lock on a library file": "return locked(37)",
    "lease on a library file": (
        "import fcntl\nfcntl.fcntl(open(os.__file__), 1024, fcntl.F_RDLCK)\nreturn True"
    ),
    "notice of a folder's use": (
        "import fcntl\n"
        "folder = os.open(os.path.dirname(os.__file__), os.O_RDONLY)\n"
        "try: fcntl.fcntl(folder, 1026, 1)\nfinally: os.close(folder)\nreturn True"
    ),
    "watch a library file": (
        "fd = libc.inotify_init1(0)\n"
        "return fd >= 0 and libc.inotify_add_watch(fd, os.__file__.encode(), 0x20) >= 0"
    ),
    "a key in the user's keyring": (
        "return libc.syscall(217 if ARM else 248, b'user', TOKEN.encode(), b'x', 1, -4) >= 0"
    ),
    "counts of the whole machine": "return libc.sysinfo(ctypes.create_string_buffer(1024)) == 0",
    "System V messages": "return libc.msgget(0x5a5a, 0o1666) >= 0",
    "System V semaphores": "return libc.semget(0x5a5a, 1, 0o1666) >= 0",
    "files in memory": "return os.memfd_create('x') >= 0",
    # writing
    "write beside the secret": "open(SECRET + '.new', 'w').write('x')\nreturn True",
    "append to a file": "open(VICTIM, 'a').write('x')\nreturn True",
    "truncate a file": "os.truncate(VICTIM, 0)\nreturn True",
    "change a file's mode": "os.chmod(VICTIM, 0o600)\nreturn True",
    "change a file's times": "os.utime(VICTIM, (1, 1))\nreturn os.stat(VICTIM).st_mtime == 1",
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
    "ptrace the harness": "return libc.ptrace(0x4206, HARNESS, 0, 0) >= 0",
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

#: What an engine may do and code in a worker may not: start programs, use its network, which is a
#: loopback of its own, and namespaces of its own (processes, shared memory, messages); write in its
#: own folder; read what all users of the machine can read. Some of it means something else there:
#: its parent and "every process" are its own, and other users are none that its namespace has.
ENGINES_OWN = {
    *("command lines of other processes", "read the kernel's settings", "signal its parent"),
    *("signal every process", "signal the worker of another session", "signal by queue"),
    *("signal by tkill", "become dumpable", "outlive its parent", "raise its memory limit"),
    *("TCP server", "IPv6", "UDP", "netlink", "name resolution", "address given to a stream pair"),
    *("fork", "clone by system call", "vfork", "execve", "execveat", "subprocess", "os.system"),
    *("posix_spawn", "multiprocessing", "__builtins__ and subclasses", "another seccomp filter"),
    *("become another user", "POSIX message queues", "System V messages", "System V semaphores"),
    *("System V shared memory", "files in memory", "a file larger than its limit"),
    *("executable memfd", "mprotect to executable", "writable and executable memory"),
    *("load a shared library", "import an installed package", "list the installed packages"),
    "counts of the whole machine",
}

#: Runs all attempts in an engine, each in a process of its own, and prints what came of them.
IN_ENGINE = """
import json, signal
def tried(body):
    r, w = os.pipe()
    os.set_blocking(r, False)
    pid = os.fork()
    if not pid:
        signal.alarm(20)
        scope = {**globals()}
        try:
            exec('def attempt():\\n' + ''.join(f'  {x}\\n' for x in body.splitlines()), scope)
            got = 'open' if scope['attempt']() else 'blocked: no effect'
        except BaseException as error:
            got = f'blocked: {type(error).__name__}: {error}'
        os.write(w, got[:500].encode())
        os._exit(0)
    status = os.waitpid(pid, 0)[1]
    try: return os.read(r, 1000).decode()
    except BlockingIOError: return f'blocked: ended with {status}'
    finally: os.close(r); os.close(w)
print(json.dumps({name: tried(body) for name, body in ATTEMPTS.items()}))
"""
