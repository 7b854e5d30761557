"""The REPL's tests: one sandbox for each file, one session for each test."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from helpers.repl_host import HOST, LIMITS
from rlm_eval.repl.session import ReplSession, Sandbox


@pytest.fixture(scope="module")
def sandbox() -> Iterator[Sandbox]:
    with Sandbox("auto", LIMITS) as made:
        yield made


@pytest.fixture
def repl(sandbox: Sandbox) -> Iterator[ReplSession]:
    with sandbox.session(HOST) as session:
        yield session
