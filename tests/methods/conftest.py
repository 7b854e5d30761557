"""One sandbox for all tests of methods: a session in it is new each time."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from rlm_eval.repl.session import Sandbox


@pytest.fixture(scope="session")
def sandbox() -> Iterator[Sandbox]:
    with Sandbox() as made:
        yield made
