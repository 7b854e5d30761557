"""The first program in an engine's process: opens the port its models answer on, hands it to the
harness through the socket ``CONTROL``, and becomes the engine (or watches over it).

    python starter.py CONTROL (--watch FOLDER | --confined USER) COMMAND…

``--watch``: the engine and whatever it started are killed, and its folder is removed, when it ends
and when the harness closes its end. ``--confined``: inside bubblewrap; the engine is ``USER``
unless that is 0, and its processes and threads are limited. Standard library only: the harness's
packages are hidden from this process.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import resource
import shutil
import signal
import socket
import subprocess
import sys
import threading
from pathlib import Path

_PR_SET_CHILD_SUBREAPER = 36
_FILE_BYTES = 1 << 30
_MOST_PROCESSES = 1024


def main() -> None:
    control = socket.socket(fileno=int(sys.argv[1]))
    mode, given, *command = sys.argv[2:]
    with socket.create_server(("127.0.0.1", 0), backlog=1024) as listener:
        os.environ["OPENAI_BASE_URL"] = "http://{}:{}/v1".format(*listener.getsockname())
        socket.send_fds(control, [b"listening"], [listener.fileno()])
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    resource.setrlimit(resource.RLIMIT_FSIZE, (_FILE_BYTES, _FILE_BYTES))
    try:
        if mode == "--watch":
            sys.exit(watch(command, given, control))
        control.close()
        become(int(given))
        os.execvp(command[0], command)
    except OSError as error:
        sys.exit(f"can't start {command[0]}: {error.strerror}")


def become(user: int) -> None:
    """This process as ``user`` from here on, with its processes counted as far as they are apart
    from those of others: they have a user of their own or (Linux 5.14) a user namespace."""
    if user:
        for place in ("/tmp", os.environ["HOME"], "/dev/shm", 1, 2):
            os.chown(place, user, user)
        os.setgroups([])
        os.setgid(user)
        os.setuid(user)
    if user or tuple(map(int, os.uname().release.split(".")[:2])) >= (5, 14):
        resource.setrlimit(resource.RLIMIT_NPROC, (_MOST_PROCESSES, _MOST_PROCESSES))


def watch(command: list[str], folder: str, control: socket.socket) -> int:
    """Run the engine; its exit code, 128 and more for a signal."""
    if sys.platform == "linux":  # what the engine's children leave behind becomes ours, not init's
        ctypes.CDLL(None).prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    engine = subprocess.Popen(command, start_new_session=True)
    threading.Thread(target=_end_with_harness, args=(control, engine.pid), daemon=True).start()
    code = engine.wait()
    _kill_group(engine.pid)
    while left := _children():
        for pid in left:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
            with contextlib.suppress(ChildProcessError):
                os.waitpid(pid, 0)
    shutil.rmtree(folder, ignore_errors=True)
    return code if code >= 0 else 128 - code


def _end_with_harness(control: socket.socket, pid: int) -> None:
    with contextlib.suppress(OSError):
        control.recv(1)
    _kill_group(pid)


def _kill_group(pid: int) -> None:
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(pid, signal.SIGKILL)


def _children() -> list[int]:
    """This process's children, as far as the system tells."""
    out: list[int] = []
    for path in Path("/proc/self/task").glob("*/children"):
        with contextlib.suppress(OSError):  # a thread that ended at this moment
            out += map(int, path.read_text().split())
    return out


if __name__ == "__main__":
    main()
