"""A headless Chromium for the tests of the report's page."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

FLAGS = [
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    path = shutil.which("chromium") or shutil.which("chromium-browser")
    try:
        from playwright.sync_api import sync_playwright
    except ImportError:
        path = None
    if path is None:
        message = "needs Chromium (apt-get install chromium) and pip install playwright"
        if os.environ.get("CI") == "true":
            pytest.fail(message)
        pytest.skip(message)
    with sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path=path, args=FLAGS)
        yield chromium
        chromium.close()


@contextmanager
def report_page(browser: Any, run: Path) -> Iterator[Any]:
    """The report in ``run`` opened at its summary; an error on the page fails the test."""
    context = browser.new_context(viewport={"width": 1280, "height": 900})
    opened = context.new_page()
    problems: list[str] = []
    opened.on("pageerror", lambda error: problems.append(str(error)))
    opened.on("console", lambda m: problems.append(m.text) if m.type == "error" else None)
    opened.goto(f"file://{run}/report.html")
    opened.wait_for_selector("[data-view=summary]")
    yield opened
    context.close()
    assert not problems


def go(page: Any, route: str) -> None:
    page.evaluate("(hash) => { location.hash = hash; }", route)
    page.wait_for_selector(f"[data-view={route.removeprefix('#/').partition('?')[0]}]")


def column(page: Any, head: str, table: str = "main") -> list[str]:
    """The texts of the first column under ``head``."""
    heads = [text.strip() for text in page.locator(f"{table} thead th").all_inner_texts()]
    number = 1 + heads.index(head)
    return page.locator(f"{table} tbody td:nth-child({number})").all_inner_texts()
