"""litellm's own proxy, from the registry, as a process in front of other servers."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import httpx
import yaml

MASTER_KEY = "sk-master-0123456789"
#: It imports for ten seconds of CPU time.
START_S = 240.0


@contextmanager
def litellm_proxy(folder: Path, upstreams: Mapping[str, Mapping[str, str]]) -> Iterator[str]:
    """The address of a proxy whose models are ``upstreams``: litellm's parameters by name. It does
    not retry, nor leave a model that failed alone for a while."""
    models = [{"model_name": n, "litellm_params": dict(p)} for n, p in upstreams.items()]
    config = {
        "model_list": models,
        "litellm_settings": {"num_retries": 0, "telemetry": False},
        "router_settings": {"num_retries": 0, "disable_cooldowns": True},
        "general_settings": {"master_key": MASTER_KEY},
    }
    path, log = folder / "proxy.yaml", folder / "proxy.log"
    path.write_text(yaml.safe_dump(config), encoding="utf-8")
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = str(free.getsockname()[1])
    command = [sys.executable, "-m", "litellm.proxy.proxy_cli", "--config", str(path)]
    environment = {name: os.environ[name] for name in ("PATH", "HOME") if name in os.environ}
    environment |= {"LITELLM_LOCAL_MODEL_COST_MAP": "True"}
    with log.open("w") as file:
        process = subprocess.Popen(
            [*command, "--host", "127.0.0.1", "--port", port],
            stdout=file,
            stderr=subprocess.STDOUT,
            env=environment,
            cwd=folder,
        )
    try:
        _wait_for(f"http://127.0.0.1:{port}/health/liveliness", process, log)
        yield f"http://127.0.0.1:{port}/v1"
    finally:
        process.kill()
        process.wait()


def _wait_for(url: str, process: subprocess.Popen[bytes], log: Path) -> None:
    deadline = time.monotonic() + START_S
    while process.poll() is None and time.monotonic() < deadline:
        try:
            if httpx.get(url, timeout=5.0, trust_env=False).is_success:
                return
        except httpx.HTTPError:
            pass
        time.sleep(0.25)
    raise RuntimeError(f"litellm's proxy did not start: {log.read_text()[-1500:]}")
