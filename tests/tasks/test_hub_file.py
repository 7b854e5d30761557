"""A set that is one file of a hub repository, fetched at its revision from a server that speaks as
the hub does."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from helpers.dataset_rows import longmemeval

REVISION = "98d7416c24c778c2fee6e6f3006e7a073259d48f"
PATH = f"/datasets/xiaowu0162/longmemeval-cleaned/resolve/{REVISION}/longmemeval_s_cleaned.json"
SCRIPT = """
from rlm_eval.errors import ConfigError
from rlm_eval.commands.export import make_task
_, task = make_task(["task=longmemeval"])
print(task.source["file"], task.source["revision"])
try:
    print([sample.gold for _, sample in task.build()])
except ConfigError as error:
    print(error)
"""


@pytest.fixture
def hub() -> Iterator[tuple[str, dict[str, bytes]]]:
    """The address of a hub, and its files."""
    files: dict[str, bytes] = {}

    class Hub(BaseHTTPRequestHandler):
        def do_HEAD(self) -> None:
            self.answer(body=False)

        def do_GET(self) -> None:
            self.answer(body=True)

        def answer(self, body: bool) -> None:
            data = files.get(self.path.partition("?")[0])
            self.send_response(404 if data is None else 200)
            self.send_header("ETag", '"0123"')
            self.send_header("X-Repo-Commit", REVISION)
            self.send_header("Content-Length", str(len(data or b"")))
            self.end_headers()
            if body:
                self.wfile.write(data or b"")

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Hub)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}", files
    server.shutdown()
    server.server_close()


def output(address: str, folder: Path) -> list[str]:
    env = {**os.environ, "HF_ENDPOINT": address, "HF_HOME": str(folder), "HF_HUB_OFFLINE": "0"}
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT], env=env, capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()


@pytest.mark.slow
def test_the_file_is_fetched_and_checked(hub: tuple[str, dict[str, bytes]], tmp_path: Path) -> None:
    address, files = hub
    files[PATH] = json.dumps([longmemeval(0), longmemeval(1)]).encode()
    said = output(address, tmp_path / "one")
    assert said == [f"longmemeval_s_cleaned.json {REVISION}", "[('red',), ('red',)]"]
    files[PATH] = json.dumps([longmemeval(0), {**longmemeval(1), "answer": None}]).encode()
    said = output(address, tmp_path / "two")
    assert "row 2: answer: expected a non-empty text, got null" in said[1]


@pytest.mark.slow
def test_a_file_that_is_not_there_is_one_line(
    hub: tuple[str, dict[str, bytes]], tmp_path: Path
) -> None:
    said = output(hub[0], tmp_path)
    assert len(said) == 2
    assert said[1].startswith(f"hub xiaowu0162/longmemeval-cleaned at {REVISION} can't be read (")
