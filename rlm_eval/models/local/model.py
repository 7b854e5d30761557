"""``model=local``: a GGUF model served by llama.cpp in a child process of the run.

One run at a time serves on a machine, since two on one laptop's cores crawl: it holds a lock that
the kernel gives back when the run ends, however it ends, and another run waits for it. A server
that dies is started again, and the call that met its death is retried by the model client.
"""

from __future__ import annotations

import fcntl
import importlib.util
import json
import os
import secrets
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TextIO

from rlm_eval.errors import ConfigError, ProviderError, at_least
from rlm_eval.models.chat_wire import as_sent
from rlm_eval.models.litellm_client import LitellmModel, check_params
from rlm_eval.models.local.weights import (
    cache_dir,
    check_embedded_weights,
    embedded_weights,
    file_sha256,
)
from rlm_eval.models.protocol import FREE, NO_OPTIONS, Message, ModelInfo, Options, Reply, shown

EMBEDDED_NAME = "Qwen2.5-Coder-1.5B-Instruct-Q4_K_M"
_DYING_S = 2.0


@dataclass
class LocalModel:
    """llama.cpp behind an OpenAI-compatible loopback port. Settings: conf/model/local.yaml."""

    name: str = EMBEDDED_NAME
    gguf: str | None = None
    gguf_sha256: str | None = None
    context_window: int = 8192
    reasoning_tokens: int = 0
    slots: int = 4
    pool_windows: int = 2
    threads: int = 0
    gpu_layers: int = 0
    cache_mb: int = 2048
    repack: bool = False
    start_timeout_s: float = 180.0
    timeout_s: float = 600.0
    params: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.name == EMBEDDED_NAME and self.gguf:
            self.name = Path(self.gguf).stem
        self._lock = threading.Lock()
        self._machine: TextIO | None = None
        self._server: subprocess.Popen[str] | None = None
        self._died: subprocess.Popen[str] | None = None
        self._client: LitellmModel | None = None
        self._http: Any = None
        self._window = self.context_window
        self._pool = _Pool(self.context_window * self.pool_windows)

    @property
    def info(self) -> ModelInfo:
        hidden = self.reasoning_tokens
        return ModelInfo(self.name, "local", self._window - hidden, FREE, reasoning_tokens=hidden)

    def check(self) -> None:
        if self.gguf is None and self.name != EMBEDDED_NAME:
            raise ConfigError(
                f"{self.name!r} is not what the embedded model is: give model.gguf=FILE, or "
                "model=litellm (vllm, ollama, ...) for one that a server has",
                key="name",
            )
        if importlib.util.find_spec("xllamacpp") is None:
            raise ConfigError(
                'model=local needs llama.cpp: pip install -e ".[local]" '
                "(or model=litellm model.name=PROVIDER/MODEL for a hosted model)"
            )
        at_least(0, reasoning_tokens=self.reasoning_tokens)
        at_least(self.reasoning_tokens + 1, context_window=self.context_window)
        at_least(1, slots=self.slots, pool_windows=self.pool_windows)
        at_least(0, above=True, timeout_s=self.timeout_s, start_timeout_s=self.start_timeout_s)
        at_least(0, threads=self.threads)
        check_params(self.params)
        if self.gguf is None:
            check_embedded_weights()
        elif not Path(self.gguf).is_file():
            raise ConfigError(f"must be a file: there is no file {self.gguf}", key="gguf")
        elif self.gguf_sha256:
            found = file_sha256(Path(self.gguf))
            if found != self.gguf_sha256.lower():
                raise ConfigError(
                    f"is not the SHA-256 of {self.gguf}, which is {found}: correct it, or fetch "
                    "the file again",
                    key="gguf_sha256",
                )

    def open(self) -> None:
        """Wait for the machine where another run has it, then start the server."""
        folder = cache_dir() / "server"
        self._machine = _wait_for_machine(folder)
        self._path = Path(self.gguf) if self.gguf else embedded_weights()
        self._log = folder / f"{self._path.stem}.{socket.gethostname()}.log"
        self._serve()

    def _serve(self) -> None:
        import httpx

        api_key = secrets.token_hex(16)
        settings = {
            "path": str(self._path.resolve()),
            "api_key": api_key,
            "context_window": self.context_window,
            "slots": self.slots,
            "pool_tokens": self.context_window * self.pool_windows,
            "threads": self.threads or _cores(),
            "gpu_layers": self.gpu_layers,
            "cache_mb": self.cache_mb,
            "repack": self.repack,
        }
        self._server, address = _start(settings, self._log, self.start_timeout_s)
        self._http = httpx.Client(
            base_url=address,
            headers={"Authorization": f"Bearer {api_key}"},
            timeout=self.timeout_s,
            trust_env=False,
        )
        self._client = LitellmModel(
            f"openai/{self.name}",
            self.context_window,
            f"{address}/v1",
            fixed_api_key=api_key,
            timeout_s=self.timeout_s,
            params=self.params,
        )
        self._client.open()
        try:
            settings = self._http.get("/props").json()["default_generation_settings"]
            self._window = int(settings["n_ctx"])
        except (httpx.HTTPError, ValueError, KeyError) as error:
            raise ConfigError(
                f"the local server started but does not answer ({error}): see {self._log}"
            ) from error
        if self._window < self.context_window:
            told = f"must be at most {self._window}, for which {self._path.name} was made"
            raise ConfigError(f"{told}, got {self.context_window}", key="context_window")

    def complete(
        self,
        messages: Sequence[Message],
        *,
        max_tokens: int,
        temperature: float | None,
        options: Options = NO_OPTIONS,
    ) -> Reply:
        client = self._client
        assert client is not None, "open() comes before complete()"
        asked: dict[str, Any] = {"max_tokens": max_tokens, "temperature": temperature}
        with self._pool.hold(self.count_tokens(shown(messages, options)) + max_tokens):
            try:
                return client.complete(messages, **asked, options=options)
            except ProviderError as error:
                if error.kind in ("connection", "timeout", "server_error"):
                    self._revive(client)
                if error.kind == "timeout":  # it would take as long again
                    error.retryable = False
                raise

    def count_tokens(self, messages: Sequence[Message]) -> int:
        """Tokens of the rendered prompt in the served model's own template and vocabulary."""
        sent = {"messages": [as_sent(m) for m in messages]}
        prompt = self._post("/apply-template", sent)["prompt"]
        special = {"add_special": True, "parse_special": True}
        return len(self._post("/tokenize", {"content": prompt, **special})["tokens"])

    def close(self) -> None:
        """End the server and let the next run have the machine."""
        with self._lock:
            if self._server is not None:
                self._server.kill()  # it has nothing to save
                self._server.communicate()
            for held in (self._http, self._machine):
                if held is not None:
                    held.close()
            self._http = self._client = self._server = self._machine = None

    def _post(self, path: str, body: dict[str, Any]) -> dict[str, Any]:
        """A question to the server that is free to repeat: asked again once if it had died."""
        import httpx

        for _ in range(2):
            client = self._client
            try:
                return dict(self._http.post(path, json=body).raise_for_status().json())
            except (httpx.HTTPError, ValueError) as error:
                failure = error
            if client is not None:
                self._revive(client)
        message = f"the local server does not answer {path}: {failure}"
        raise ProviderError(message, kind="connection", retryable=True) from failure

    def _revive(self, failed: LitellmModel) -> None:
        """Start the server again unless it lives or another thread has done it."""
        with self._lock:
            server = self._server
            if self._client is not failed or server is None:
                return
            try:
                server.wait(_DYING_S)  # its connections may end before it does
            except subprocess.TimeoutExpired:
                return
            server.communicate()
            try:
                if self._died is not server:  # else the log is of a start that failed
                    self._died, kept = server, self._log.replace(self._log.with_suffix(".died"))
                    how = f"exit code {server.returncode}, log {kept}"
                    told = f"the local model's server died ({how}); starting it again"
                    print(told, file=sys.stderr)
                self._serve()
            except (ConfigError, OSError) as error:
                raise ProviderError(str(error), kind="connection", retryable=False) from error


def _wait_for_machine(folder: Path) -> TextIO:
    """The right to serve on this machine, until the file is closed or the process ends. (The lock
    is the process's: all models of a run have it together. Other machines may share the folder.)"""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        file = (folder / f"{socket.gethostname()}.lock").open("a+")
        try:
            fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except (BlockingIOError, PermissionError):
            file.seek(0)
            print(
                f"waiting: another run (pid {file.read()}) has the local model; "
                "this one goes on when that one ends",
                file=sys.stderr,
            )
            fcntl.lockf(file, fcntl.LOCK_EX)
    except OSError as error:
        raise ConfigError(f"{error}: set RLM_EVAL_CACHE to another folder") from error
    file.truncate(0)
    file.write(str(os.getpid()))
    file.flush()
    return file


def _start(
    settings: Mapping[str, Any], log: Path, timeout_s: float
) -> tuple[subprocess.Popen[str], str]:
    """The server's process and address. Its standard input stays open as long as this process
    lives. Raises ConfigError when it can't be started."""
    with log.open("w") as file:
        child = subprocess.Popen(
            [sys.executable, "-m", "rlm_eval.models.local.llama_server"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=file,
            text=True,
            start_new_session=True,
            env=_child_environment(),
        )
    assert child.stdin is not None
    assert child.stdout is not None
    began, timer = time.monotonic(), threading.Timer(timeout_s, child.kill)
    timer.start()
    try:
        child.stdin.write(json.dumps(settings) + "\n")
        child.stdin.flush()
        address = child.stdout.readline().strip()
    except BrokenPipeError:
        address = ""
    finally:
        timer.cancel()
    if address:
        return child, address
    child.kill()
    child.communicate()
    lines = [line for line in log.read_text(errors="replace").splitlines() if line.strip()]
    errors = [line.partition(" E ")[2] for line in lines if " E " in line]
    reason = (errors or lines[-1:] or ["it wrote nothing"])[0].strip()[:300]
    late, killed = time.monotonic() - began >= timeout_s, child.returncode == -9
    how = f"not within {timeout_s:g} s" if late else f"exit code {child.returncode}"
    how += ": killed, as for lack of memory" if killed and not late else ""
    raise ConfigError(f"llama.cpp could not serve {settings['path']} ({how}; log {log}): {reason}")


def _child_environment() -> dict[str, str]:
    """No keys; which GPU to take; and threads that look for a few microseconds at a barrier before
    they sleep: waking costs generation speed, and OpenMP's own longer spinning costs more as soon
    as anything else runs on the same cores (results/published/benchmarks/waiting.md)."""
    kept = ("PATH", "HOME", "LANG", "LD_LIBRARY_PATH", "PYTHONPATH", "VIRTUAL_ENV", "SYSTEMROOT")
    gpus = ("VISIBLE_DEVICES", "DEVICE_ORDER", "DEVICE_SELECTOR")  # of CUDA, HIP, Vulkan, SYCL
    environment = {k: v for k, v in os.environ.items() if k in kept or k.endswith(gpus)}
    return environment | {"GOMP_SPINCOUNT": "1000"}


def _cores() -> int:
    """Cores this process may use (not every system can tell)."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


class _Pool:
    """Keeps the requests in flight within the server's shared key-value memory."""

    def __init__(self, tokens: int) -> None:
        self._size = self._free = tokens
        self._changed = threading.Condition()

    @contextmanager
    def hold(self, tokens: int) -> Iterator[None]:
        tokens = min(tokens, self._size)
        with self._changed:
            self._changed.wait_for(lambda: self._free >= tokens)
            self._free -= tokens
        try:
            yield
        finally:
            with self._changed:
                self._free += tokens
                self._changed.notify_all()
