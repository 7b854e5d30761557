"""``model=local``: a GGUF model served by llama.cpp in a child process shared by all runs here.

A server that dies is started again, and the call that met the death is retried by the door.
"""

from __future__ import annotations

import importlib.util
import os
import sys
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from rlm_eval.errors import ConfigError, ProviderError
from rlm_eval.models.litellm_client import LitellmModel, check_params
from rlm_eval.models.machine_server import Lease, alive, join_or_start
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
    with neither, the embedded weights. ``name`` is that file's where no other is given.
    ``context_window`` tokens per request, ``slots`` requests at once, which together may hold
    ``pool_windows`` windows; ``cache_mb`` of RAM keeps prompt prefixes that left their slot.
    ``threads`` 0 takes every core.
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
        if self.name == EMBEDDED_NAME and (own := self.gguf or self.gguf_file):
            self.name = Path(own).stem
        self._lock = threading.Lock()
        self._lease: Lease | None = None
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
        if importlib.util.find_spec("xllamacpp") is None:
            raise ConfigError(
                'model=local needs llama.cpp: pip install -e ".[local]" '
                "(or model=litellm model.name=PROVIDER/MODEL for a hosted model)"
            )
        if min(self.context_window, self.slots, self.pool_windows) < 1:
            raise ConfigError("model.context_window, slots and pool_windows must be at least 1")
        if min(self.timeout_s, self.start_timeout_s) <= 0 or self.threads < 0:
            raise ConfigError("model.timeout_s, start_timeout_s must be above 0, threads 0 or more")
        check_params(self.params)
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

        lease = join_or_start(_folder(), self._settings(self.weights()), self.start_timeout_s)
        self._lease = lease
        self._http = httpx.Client(
            base_url=lease.address,
            headers={"Authorization": f"Bearer {lease.api_key}"},
            timeout=self.timeout_s,
            trust_env=False,
        )
        self._client = LitellmModel(
            name=f"openai/{self.name}",
            context_window=self.context_window,
            api_base=f"{lease.address}/v1",
            fixed_api_key=lease.api_key,
            timeout_s=self.timeout_s,
            params=self.params,
        )
        self._client.open()
        try:
            props = self._http.get("/props").json()
            self._window = int(props["default_generation_settings"]["n_ctx"])
        except (httpx.HTTPError, ValueError, KeyError) as error:
            raise ConfigError(
                f"the local server started but does not answer ({error}): see {_folder()}"
            ) from error

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
            if self._client is not None:
                self._client.close()
            if self._lease is not None:
                self._lease.release()
            self._http = self._client = self._lease = None

    def _post(self, path: str, body: dict[str, Any]) -> dict[str, Any]:
        """A question to the server that is free to repeat: asked again once if it had died."""
        import httpx

        for last in (False, True):
            client = self._client
            try:
                response = self._http.post(path, json=body)
                response.raise_for_status()
                data: dict[str, Any] = response.json()
                return data
            except (httpx.HTTPError, ValueError) as error:
                if last or client is None:
                    raise ProviderError(
                        f"the local server does not answer {path}: {error}",
                        kind="connection",
                        retryable=True,
                    ) from error
                self._revive(client)
        raise AssertionError("unreachable: the second time returns or raises")

    def _revive(self, failed: LitellmModel) -> None:
        """Start the server again unless it lives or another thread has done it."""
        with self._lock:
            if self._client is not failed:
                return
            if self._lease is not None:
                if alive(self._lease.pid):
                    return
                self._lease.release()
            print("the local model's server died; starting it again", file=sys.stderr)
            try:
                self.open()
            except ConfigError as error:
                raise ProviderError(str(error), kind="connection", retryable=False) from error

    def _settings(self, path: Path) -> dict[str, Any]:
        """What a server must have in common to be shared; a file written anew is another one."""
        file = path.stat()
        return {
            "path": str(path.resolve()),
            "file": [file.st_size, file.st_mtime_ns],
            "context_window": self.context_window,
            "slots": self.slots,
            "pool_tokens": self.context_window * self.pool_windows,
            "threads": self.threads or _cores(),
            "gpu_layers": self.gpu_layers,
            "cache_mb": self.cache_mb,
        }


def _folder() -> Path:
    return cache_dir() / "server"


def _cores() -> int:
    """Cores this process may use (not every system can say which)."""
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
