"""Starts an engine's process, waits for it, and ends it with everything it started.
``confinement`` has what a confined one can reach."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory, TemporaryFile
from typing import IO

from rlm_eval.errors import SandboxError
from rlm_eval.methods.foreign.confinement import HOME, PROBE, confined, engine_filter
from rlm_eval.repl import linux
from rlm_eval.repl.launch import shut_harness

#: This Python by its folder's real path; the link itself says which environment it is.
PYTHON = str(Path(sys.executable).parent.resolve() / Path(sys.executable).name)
#: Of an engine's output, what is read.
MOST_OUTPUT_BYTES = 16 << 20
#: What there must be in memory for an engine that is not confined to have its home there.
UNCONFINED_BYTES = 1 << 30
_STARTER = os.path.join(os.path.dirname(os.path.realpath(__file__)), "starter.py")
_START_SECONDS = 30.0
_END_SECONDS = 20.0


@cache
def memory_folder(least: int = 0) -> str | None:
    """Where files are kept in memory, so that what an engine reads and writes is on no disk; None
    where the system has no such place of so many bytes (in containers it is mostly small)."""
    if not os.access("/dev/shm", os.W_OK | os.X_OK):
        return None
    size = os.statvfs("/dev/shm")
    return "/dev/shm" if size.f_blocks * size.f_frsize >= least else None


@contextmanager
def running(
    command: Sequence[str],
    files: Mapping[str, str],
    environment: Mapping[str, str],
    readable: Iterable[str] | None,
) -> Iterator[EngineProcess]:
    """``command`` started in a folder with these ``files``, with ``environment``, a variable for
    each file's path, and nothing of the harness's; at the block's end nothing of it is left.
    ``readable``: what it sees beside the system when it is confined, and then the folder is its
    only place to write; None leaves it the user's rights.

    From then on no process of the same user can look into this one. Raises SandboxError when the
    engine's process can't be started.
    """
    with ExitStack() as stack:
        shut_harness()
        out, err = (stack.enter_context(TemporaryFile(dir=memory_folder())) for _ in range(2))
        mine, theirs = map(stack.enter_context, socket.socketpair())
        home = HOME
        if readable is None:
            prefix, place = "rlm_eval-engine-", memory_folder(UNCONFINED_BYTES)
            made = TemporaryDirectory(prefix=prefix, dir=place, ignore_cleanup_errors=True)
            home = stack.enter_context(made)
        paths = {name: os.path.join(home, name.lower()) for name in files}
        texts = {paths[name]: t.encode("utf-8", "surrogatepass") for name, t in files.items()}
        passed: dict[str, int] = {}
        starter = [PYTHON, "-P", _STARTER, str(theirs.fileno())]
        if readable is None:
            command = [*starter, "--watch", home, *command]
            for path, text in texts.items():
                Path(path).write_bytes(text)
        else:
            passed = {path: _in_memory(text) for path, text in texts.items()}
            rules = _in_memory(linux.pack(engine_filter(linux.MACHINE)))
            user = linux.unused_uid() if linux.is_machines_root() else 0
            its_files = [path for path in readable if user and os.path.isfile(path)]
            shut = [path for path in its_files if not os.stat(path).st_mode & 0o004]
            passed |= {path: _in_memory(Path(path).read_bytes()) for path in shut}
            readable = [path for path in readable if path not in shut]
            command = [*starter, "--confined", str(user), *command]
            command = confined(command, [_STARTER, *readable], passed, rules)
            passed["seccomp"] = rules
        try:
            process = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=err,
                cwd=home if readable is None else "/",
                env={**environment, **paths, "HOME": home, "TMPDIR": home},
                pass_fds=[theirs.fileno(), *passed.values()],
                start_new_session=True,
            )
        except OSError as error:
            raise SandboxError(f"can't start {command[0]}: {error}") from None
        finally:
            theirs.close()
            for descriptor in passed.values():
                os.close(descriptor)
        engine = EngineProcess(process, mine, readable is None, out, err)
        stack.callback(engine.close)
        yield engine


@dataclass(frozen=True)
class EngineProcess:
    """A started engine that writes to the files ``out`` and ``err``. ``control`` is the socket to
    its starter, ``watched``: which kills it when that is closed."""

    process: subprocess.Popen[bytes]
    control: socket.socket
    watched: bool
    out: IO[bytes]
    err: IO[bytes]

    def listener(self) -> socket.socket:
        """The socket on which the engine will look for its models."""
        self.control.settimeout(_START_SECONDS)
        try:
            _, descriptors, _, _ = socket.recv_fds(self.control, 16, 1)
        except OSError:
            descriptors = []
        if not descriptors:
            self.close()
            raise SandboxError(f"the engine's process did not start: {self._last_words()}")
        return socket.socket(fileno=descriptors[0])

    def wait(self, seconds: float) -> tuple[int | None, bytes, str]:
        """Its exit code, None when it ran longer than ``seconds`` and was killed; what it wrote to
        standard output; the last lines of its standard error."""
        try:
            code: int | None = self.process.wait(timeout=seconds)
        except subprocess.TimeoutExpired:
            code = None
        self.close()
        self.out.seek(0)
        return code, self.out.read(MOST_OUTPUT_BYTES), self._last_words()

    def kill(self) -> None:
        """End the engine and all it started. From any thread, at any time."""
        if self.watched:
            self.control.close()  # the starter sees that and kills; it alone knows whom
        else:
            self.process.kill()  # bubblewrap: its process namespace ends with it

    def close(self) -> None:
        self.kill()
        try:
            self.process.wait(timeout=_END_SECONDS)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        self.control.close()

    def _last_words(self) -> str:
        self.err.seek(max(0, self.err.seek(0, os.SEEK_END) - 4096))
        lines = self.err.read().decode(errors="replace").strip().splitlines()
        return " | ".join(map(str.strip, lines[-3:]))[-300:] or "no error message"


def _in_memory(data: bytes) -> int:
    """A descriptor of a file in memory, to be read from its beginning."""
    descriptor = linux.memfd_create("input")
    with os.fdopen(descriptor, "wb", closefd=False) as file:
        file.write(data)
        file.seek(0)
    return descriptor


@cache
def why_not_confined() -> str:
    """Empty when this machine confines a process as ``confinement`` says, else the reason."""
    if shutil.which("bwrap") is None:
        return "bwrap (bubblewrap) is not installed"
    try:
        with running([PYTHON, "-c", PROBE], {}, {}, []) as probe:
            probe.listener()
            code, output, last_words = probe.wait(_START_SECONDS)
    except SandboxError as error:
        return str(error)
    found = output.decode(errors="replace").strip()
    return found and f"a confined process {found}" if code == 0 else last_words
