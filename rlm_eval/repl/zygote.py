"""The warmed parent of the workers: imports once what code may import, then forks on request.

Started by ``launch`` with a clean environment. Never runs model code. Its standard input is the
control socket: JSON requests ``{"op", "id"}``, a ``fork`` with the worker's end of its channel.

    harness ── control ──▶ zygote ── fork ──▶ worker ◀── channel ── harness
"""

from __future__ import annotations

import contextlib
import errno
import gc
import importlib.util
import json
import os
import random
import signal
import socket
import sys
import time
from pathlib import Path
from typing import Any

from rlm_eval.repl import isolation, linux
from rlm_eval.repl.channel import Channel, encode
from rlm_eval.repl.worker import Worker

#: What model code finds imported. Pure-Python modules of the standard library beyond these load
#: from disk; ones with a shared library must be here, since workers can map no code.
PRELOADED = """
abc array ast asyncio base64 binascii bisect bz2 calendar cmath codecs collections collections.abc
colorsys concurrent.futures concurrent.futures.thread contextlib contextvars copy csv dataclasses
datetime decimal difflib enum fnmatch fractions functools hashlib heapq hmac html html.parser
inspect io itertools json keyword locale logging lzma math numbers operator os pathlib pickle
pprint queue random re reprlib sched secrets select shlex signal statistics string struct sys
tempfile textwrap threading time timeit tokenize traceback types typing unicodedata urllib.parse
uuid warnings weakref xml.etree.ElementTree zlib zoneinfo encodings.ascii encodings.latin_1
encodings.utf_16 encodings.utf_32 encodings.cp1252 encodings.idna _strptime
"""
#: What the harness sends is trusted.
MAX_BYTES = 1 << 40
#: Parts of packages that come with shared libraries of their own.
SUBMODULES = {"numpy": ("fft", "linalg", "ma", "polynomial", "random")}


def main() -> None:
    """``python -c BOOT POLICY``: serves until the harness goes away."""
    policy = isolation.Policy(**json.loads(sys.argv[1]))
    control = socket.socket(fileno=0)
    try:
        preload(policy)
        prepare(policy)
    except OSError as error:
        control.send(json.dumps({"error": str(error)}).encode())
        return
    control.send(json.dumps({"pid": os.getpid()}).encode())
    serve(control, policy)


def preload(policy: isolation.Policy) -> None:
    """Imports, then forgets where this harness's own code lies."""
    for name in PRELOADED.split():
        with contextlib.suppress(ImportError):  # some builds of Python lack bz2 or lzma
            importlib.import_module(name)
    root = sys.path.pop()
    library = [path for path in sys.path if path != root]
    sys.path[:] = [*library, *map(os.path.dirname, policy.packages)]
    for name in map(os.path.basename, policy.packages):
        importlib.import_module(name)
        for part in SUBMODULES.get(name, ()):
            importlib.import_module(f"{name}.{part}")
    sys.path[:] = library
    sys.path_importer_cache.clear()
    importlib.util.find_spec("_")  # what lies in each folder, since workers may not list them all
    os.environ.clear()
    sys.argv[:] = [""]


def prepare(policy: isolation.Policy) -> None:
    """Everything of the policy that all workers share. With namespaces, returns in the first
    process of the new pid namespace."""
    if sys.platform != "linux":
        return
    if policy.features and linux.MACHINE not in isolation.AUDIT_ARCH:
        raise OSError(errno.ENOSYS, f"the policy knows no system calls of {linux.MACHINE}")
    with contextlib.suppress(OSError):
        Path("/proc/self/oom_score_adj").write_text("1000")
    if "namespaces" in policy.features:
        isolation.enter_namespaces(policy)
        if child := os.fork():
            os.waitpid(child, 0)
            os._exit(0)
        linux.die_with_parent(signal.SIGKILL)


def serve(control: socket.socket, policy: isolation.Policy) -> None:
    """Forks workers, signals them and collects what they leave, until the harness closes the socket
    or dies, which closes it. What can't be done is the answer to that request alone."""
    workers: dict[int, int] = {}
    leaving: set[int] = set()
    gc.collect()
    gc.freeze()
    while True:
        data, descriptors, _, _ = socket.recv_fds(control, 4096, 1)
        if not data:
            break
        request = json.loads(data)
        op, number = request["op"], request["id"]
        reply: dict[str, Any] = {}
        try:
            if op == "fork":
                workers[number] = _fork(descriptors, policy)
            elif op in ("SIGINT", "SIGKILL"):
                os.kill(workers[number], signal.Signals[op])
            elif op == "status":  # its channel is closed: it ends now, by itself or by us
                reply["status"] = _exit_status(workers.pop(number))
            elif op == "leave":
                os.kill(workers[number], signal.SIGKILL)
                leaving.add(workers.pop(number))
        except OSError as error:
            reply["error"] = f"the sandbox can't {op}: {error}"
        leaving = {pid for pid in leaving if os.waitpid(pid, os.WNOHANG)[0] == 0}
        control.send(json.dumps(reply).encode())
    for pid in workers.values():
        os.kill(pid, signal.SIGKILL)


def _exit_status(pid: int) -> int | None:
    """The exit status of a worker (negative: the signal); None for one that closed its channel and
    went on for 50 ms: it is killed."""
    until = time.monotonic() + 0.05
    while time.monotonic() < until:
        ended, status = os.waitpid(pid, os.WNOHANG)
        if ended:
            return os.waitstatus_to_exitcode(status)
        time.sleep(0.001)
    os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)
    return None


def _fork(descriptors: list[int], policy: isolation.Policy) -> int:
    """A new worker on the channel that came with the request. Raises OSError."""
    if not descriptors:
        raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))
    channel, parent = descriptors[0], os.getpid()
    try:
        if pid := os.fork():
            return pid
    finally:
        if os.getpid() == parent:
            os.close(channel)
    try:
        os.setsid()
        os.closerange(3, channel)
        os.closerange(channel + 1, 1 << 20)
        linux.die_with_parent(signal.SIGKILL)
        if os.getppid() == parent:  # else it died before that could be noticed
            start(Channel(channel, channel, MAX_BYTES), policy)
    finally:
        os._exit(1)  # a worker that served ends itself


def solo() -> None:
    """``python -c BOOT POLICY``: one worker on standard input and output (macOS)."""
    policy = isolation.Policy(**json.loads(sys.argv[1]))
    channel = Channel(os.dup(0), os.dup(1), MAX_BYTES)
    preload(policy)
    start(channel, policy)


def start(channel: Channel, policy: isolation.Policy) -> None:
    """The worker's last steps: confined, the same random numbers in every session, no harness in
    sight. Serves while the harness lives."""
    null = os.open(os.devnull, os.O_RDWR)
    for standard in (0, 1, 2):
        os.dup2(null, standard)
    os.close(null)
    try:
        isolation.confine(policy)
    except (OSError, ValueError) as error:
        channel.send(encode({"op": "failed", "error": str(error)}))
        return
    random.seed(0)
    if "numpy" in sys.modules:
        sys.modules["numpy"].random.seed(0)
    for name in [name for name in sys.modules if name.split(".")[0] == "rlm_eval"]:
        del sys.modules[name]
    Worker(channel).serve()
