"""Runs in shards whose workers are killed, and what their records then say."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
import uuid
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import pandas as pd

from helpers.billing_provider import INPUT_PRICE, OUTPUT_PRICE, BillingProvider
from helpers.kill_and_resume import Accounts, accounts

#: Questions at once of each shard; a question has one call in flight.
QUESTIONS = 2
#: What the command line of a worker holds, by launcher, and that of all that Ray has on a machine.
WORKERS = {"joblib": "popen_loky_posix", "ray": "ray::_run_job"}
RAYLET = "/raylet "


@dataclass
class Sharded:
    """A run of ``n`` questions in ``shards``, by one of Hydra's launchers."""

    folder: Path
    provider: BillingProvider
    n: int
    shards: int
    launcher: str = ""
    settings: Sequence[str] = ()
    kills: int = 0
    seconds: float = 0.0
    mark: str = field(default_factory=lambda: uuid.uuid4().hex)

    def arguments(self) -> list[str]:
        return [
            *("task=needle", "task.lengths=[300]", "task.variant=single_1", f"task.n={self.n}"),
            *("method=[direct]", f"concurrency={QUESTIONS}", f"shards={self.shards}"),
            *("model=litellm", "model.name=openai/fake", "model.tokenizer=cl100k_base"),
            *(f"model.price.input={INPUT_PRICE}", f"model.price.output={OUTPUT_PRICE}"),
            *(f"model.api_base={self.provider.api_base}", f"results_dir={self.folder}"),
            *("retry.base_s=0.01", "retry.max_s=0.05"),
            *([f"hydra/launcher={self.launcher}"] if self.launcher else []),
            *self.settings,
        ]

    def run(self, chance: random.Random | None = None, victim: str = "") -> int:
        """Once, to its end; with ``chance`` a worker (or the process whose command line holds
        ``victim``) is killed at a random point of it. The exit code; ``log`` has what it
        printed."""
        self.folder.mkdir(parents=True, exist_ok=True)
        command = [sys.executable, "-m", "rlm_eval", *self.arguments()]
        environment = {**os.environ, "OPENAI_API_KEY": "none", "SHARDS_MARK": self.mark}
        before, begun = self.provider.requests, time.perf_counter()
        with self.log.open("ab") as log:
            child = subprocess.Popen(command, stdout=log, stderr=log, env=environment)
            if chance is not None:
                after = before + chance.randint(1, max(1, self.n - 1))
                while child.poll() is None and self.provider.requests < after:
                    time.sleep(0.005)
                found = self._workers(victim or WORKERS[self.launcher])
                for pid in chance.sample(found, min(1, len(found))):
                    os.kill(pid, signal.SIGKILL)
                    self.kills += 1
            code = child.wait()
        self.seconds = time.perf_counter() - begun
        self.provider.wait_idle()
        return code

    def _workers(self, holding: str) -> list[int]:
        """This run's own processes whose command line holds these words."""
        found = []
        for entry in Path("/proc").glob("[0-9]*"):
            try:
                words = entry.joinpath("cmdline").read_bytes().decode(errors="replace")
                mine = self.mark.encode() in entry.joinpath("environ").read_bytes()
            except OSError:
                continue
            if mine and holding in words.replace("\0", " "):
                found.append(int(entry.name))
        return found

    @property
    def log(self) -> Path:
        return self.folder / "log"

    @property
    def joined(self) -> Path:
        (found,) = self.folder.glob("needle-*/results.parquet")
        return found.parent

    def rows(self) -> pd.DataFrame:
        """What the joined table says, but for times."""
        columns = ["result_key", "run_id", "outcome", "score", "answer", "calls", "context_id"]
        return pd.read_parquet(self.joined / "results.parquet")[columns].reset_index(drop=True)

    def accounts(self) -> tuple[Accounts, Accounts]:
        """The bills beside the shards' journals, and beside the joined one."""
        (shards,) = self.folder.glob("*.shards")
        return accounts(self.provider, shards), accounts(self.provider, self.folder)
