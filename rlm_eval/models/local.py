"""``model=local``: a GGUF model served by llama.cpp in a child process shared by all runs here.

Two servers at once on one laptop's cores crawl, so a machine has one: a second run with the same
settings shares it, one with other settings waits and says so. A server that dies is started again
and the call that met the death is retried by the door.
"""

from __future__ import annotations

import fcntl
import json
import os
import secrets
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TextIO

from rlm_eval.errors import ConfigError, ProviderError
from rlm_eval.models.litellm_client import LitellmModel
from rlm_eval.models.protocol import Message, ModelInfo, Price, Reply
from rlm_eval.models.weights import (
    cache_dir,
    check_embedded_weights,
    check_sha256,
    embedded_weights,
)

EMBEDDED_NAME = "Qwen2.5-Coder-1.5B-Instruct-Q4_K_M"


@dataclass
class LocalModel:
    """llama.cpp behind an OpenAI-compatible loopback port.

    ``gguf`` is a file of your own, or ``gguf_repo`` + ``gguf_file`` one on the Hugging Face Hub;
    with neither, the embedded weights. ``context_window`` tokens per request, ``slots`` requests
    at once, which together may hold ``pool_windows`` windows; ``cache_mb`` of RAM keeps prompt
    prefixes that left their slot. ``threads`` 0 takes every core.
    """

    name: str = EMBEDDED_NAME
    gguf: str | None = None
    gguf_sha256: str | None = None
    gguf_repo: str | None = None
    gguf_file: str | None = None
    context_window: int = 8192
    slots: int = 4
    pool_windows: int = 2
    threads: int = 0
    gpu_layers: int = 0
    cache_mb: int = 2048
    start_timeout_s: float = 180.0
    timeout_s: float = 600.0
    params: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self._lock = threading.Lock()
        self._users: TextIO | None = None
        self._client: LitellmModel | None = None
        self._http: Any = None
        self._window = self.context_window
        self._pool = _Pool(self.context_window * self.pool_windows)

    @property
    def info(self) -> ModelInfo:
        return ModelInfo(
            self.name, "local", self._window, Price(0.0, 0.0, 0.0, as_of="runs on this machine")
        )

    def check(self) -> None:
        import importlib.util

        if importlib.util.find_spec("xllamacpp") is None:
            raise ConfigError(
                'model=local needs llama.cpp: pip install -e ".[local]" '
                "(or model=litellm model.name=PROVIDER/MODEL for a hosted model)"
            )
        if min(self.context_window, self.slots, self.pool_windows) < 1:
            raise ConfigError("model.context_window, slots and pool_windows must be at least 1")
        if self.gguf_repo and not self.gguf_file:
            raise ConfigError("model.gguf_repo also needs model.gguf_file, the file's name in it")
        if self.gguf is None and self.gguf_repo is None:
            check_embedded_weights()
        if self.gguf is not None:
            path = Path(self.gguf)
            if not path.is_file():
                raise ConfigError(f"model.gguf: there is no file {path}")
            if self.gguf_sha256:
                check_sha256(path, self.gguf_sha256)

    def weights(self) -> Path:
        """The GGUF file, joined or downloaded when it isn't there yet."""
        if self.gguf is not None:
            return Path(self.gguf)
        if self.gguf_repo is None:
            return embedded_weights()
        from huggingface_hub import hf_hub_download
        from huggingface_hub.errors import HfHubHTTPError

        try:
            path = Path(hf_hub_download(self.gguf_repo, str(self.gguf_file)))
        except (HfHubHTTPError, OSError) as error:
            raise ConfigError(
                f"could not fetch {self.gguf_file} from {self.gguf_repo}: {error}"
            ) from error
        if self.gguf_sha256:
            check_sha256(path, self.gguf_sha256)
        return path

    def open(self) -> None:
        import httpx

        path = self.weights()
        folder = cache_dir() / "server"
        folder.mkdir(parents=True, exist_ok=True)
        state = self._join_or_start(folder, path)
        self._http = httpx.Client(
            base_url=state["address"],
            headers={"Authorization": f"Bearer {state['api_key']}"},
            timeout=self.timeout_s,
            trust_env=False,
        )
        self._client = LitellmModel(
            name=f"openai/{self.name}",
            context_window=self.context_window,
            api_base=f"{state['address']}/v1",
            fixed_api_key=state["api_key"],
            timeout_s=self.timeout_s,
            params=self.params,
        )
        self._client.open()
        props = self._http.get("/props").json()
        self._window = int(props["default_generation_settings"]["n_ctx"])

    def complete(
        self, messages: Sequence[Message], *, max_tokens: int, temperature: float | None
    ) -> Reply:
        client = self._client
        if client is None:
            raise RuntimeError("open() comes before complete()")
        with self._pool.hold(self.count_tokens(messages) + max_tokens):
            try:
                return client.complete(messages, max_tokens=max_tokens, temperature=temperature)
            except ProviderError as error:
                if error.kind in ("connection", "timeout", "server_error"):
                    self._revive(client)
                raise

    def count_tokens(self, messages: Sequence[Message]) -> int:
        """Tokens of the rendered prompt in the served model's own template and vocabulary."""
        prompt = self._post("/apply-template", {"messages": [dict(m) for m in messages]})["prompt"]
        body = {"content": prompt, "add_special": True, "parse_special": True}
        return len(self._post("/tokenize", body)["tokens"])

    def close(self) -> None:
        """Let go of the server; it ends itself when nobody uses it."""
        with self._lock:
            if self._http is not None:
                self._http.close()
            if self._users is not None:
                self._users.close()
            self._http = self._client = self._users = None

    def _post(self, path: str, body: dict[str, Any]) -> dict[str, Any]:
        import httpx

        client = self._client
        try:
            response = self._http.post(path, json=body)
            response.raise_for_status()
        except httpx.HTTPError as error:
            if client is not None:
                self._revive(client)
            raise ProviderError(
                f"the local server does not answer {path}: {error}",
                kind="connection",
                retryable=True,
            ) from error
        data: dict[str, Any] = response.json()
        return data

    def _revive(self, failed: LitellmModel) -> None:
        """Start the server again unless it lives or another thread has done it."""
        with self._lock:
            if self._client is not failed or _alive(self._read_state()):
                return
            print("the local model's server died; starting it again", file=sys.stderr)
            if self._users is not None:
                self._users.close()
            self.open()

    # -- one server per machine ------------------------------------------------------------

    def _settings(self, path: Path) -> dict[str, Any]:
        return {
            "path": str(path.resolve()),
            "context_window": self.context_window,
            "slots": self.slots,
            "pool_tokens": self.context_window * self.pool_windows,
            "threads": self.threads or len(os.sched_getaffinity(0)),
            "gpu_layers": self.gpu_layers,
            "cache_mb": self.cache_mb,
        }

    @staticmethod
    def _read_state() -> dict[str, Any]:
        try:
            state: dict[str, Any] = json.loads((cache_dir() / "server" / "server.json").read_text())
        except (FileNotFoundError, json.JSONDecodeError):
            return {}
        return state

    def _join_or_start(self, folder: Path, path: Path) -> dict[str, Any]:
        settings, told = self._settings(path), False
        while True:
            with _locked(folder / "start.lock"):
                state = self._read_state()
                if not _alive(state):
                    self._users = _share(folder / "users.lock")
                    return self._start(folder, settings)
                if state["settings"] == settings:
                    self._users = _share(folder / "users.lock")
                    return state
            if not told:
                print(
                    f"waiting: another run's local model (pid {state['pid']}) has other settings; "
                    "this run starts its own when that one ends",
                    file=sys.stderr,
                )
                told = True
            time.sleep(2)

    def _start(self, folder: Path, settings: dict[str, Any]) -> dict[str, Any]:
        api_key = secrets.token_hex(16)
        message = json.dumps({**settings, "api_key": api_key, "folder": str(folder)})
        log_path = folder / "server.log"
        with log_path.open("w") as log:
            child = subprocess.Popen(
                [sys.executable, "-m", "rlm_eval.models.llama_server"],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                text=True,
                start_new_session=True,
                env=_child_environment(),
            )
        assert child.stdin is not None
        child.stdin.write(message)
        child.stdin.close()
        address = _first_line(child, self.start_timeout_s)
        if not address:
            child.kill()
            tail = " | ".join(log_path.read_text(errors="replace").strip().splitlines()[-3:])
            raise ConfigError(
                f"llama.cpp could not serve {settings['path']} "
                f"(exit code {child.wait()}; log {log_path}): {tail}"
            )
        state = {
            "pid": child.pid,
            "address": json.loads(address)["address"],
            "api_key": api_key,
            "settings": settings,
        }
        temporary = folder / f"server.{os.getpid()}.tmp"
        temporary.touch(mode=0o600)
        temporary.write_text(json.dumps(state))
        temporary.replace(folder / "server.json")
        return state


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


def _child_environment() -> dict[str, str]:
    """No keys, and threads that sleep at a barrier: spinning ones slow the model a hundredfold
    as soon as anything else runs on the same cores."""
    kept = ("PATH", "HOME", "LANG", "LD_LIBRARY_PATH", "PYTHONPATH", "VIRTUAL_ENV", "SYSTEMROOT")
    environment = {k: v for k, v in os.environ.items() if k in kept}
    return environment | {"OMP_WAIT_POLICY": "passive"}


def _first_line(child: subprocess.Popen[str], timeout_s: float) -> str:
    """The child's first line of output; empty when it ended or took too long."""
    timer = threading.Timer(timeout_s, child.kill)
    timer.start()
    try:
        assert child.stdout is not None
        return child.stdout.readline().strip()
    finally:
        timer.cancel()


def _alive(state: Mapping[str, Any]) -> bool:
    """Whether the process of ``state`` runs and is still a server of ours."""
    if not state:
        return False
    try:
        command = Path(f"/proc/{state['pid']}/cmdline").read_bytes()
    except (FileNotFoundError, ProcessLookupError):
        return _alive_without_proc(int(state["pid"]))
    return b"llama_server" in command


def _alive_without_proc(pid: int) -> bool:
    if Path("/proc/self").exists():
        return False
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


def _share(path: Path) -> TextIO:
    file = path.open("a")
    fcntl.flock(file, fcntl.LOCK_SH)
    return file


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    with path.open("a") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield
