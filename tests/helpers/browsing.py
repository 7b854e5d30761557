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
def report_page(
    browser: Any, run: Path, *, width: int = 1280, scheme: str = "light"
) -> Iterator[Any]:
    """The report in ``run`` opened at its summary; an error on the page fails the test."""
    context = browser.new_context(
        viewport={"width": width, "height": 900 if width > 800 else 740}, color_scheme=scheme
    )
    opened = context.new_page()
    problems: list[str] = []
    opened.on("pageerror", lambda error: problems.append(str(error)))
    opened.on("console", lambda m: problems.append(m.text) if m.type == "error" else None)
    opened.goto(f"file://{run}/report.html")
    opened.wait_for_selector("[data-view=summary]")
    yield opened
    context.close()
    assert not problems


_PALE = """() => {
  const pen = document.createElement("canvas").getContext("2d", { willReadFrequently: true });
  const light = ([r, g, b]) => [r, g, b].map((c) => c / 255)
    .map((c) => (c <= 0.04045 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4))
    .reduce((sum, c, i) => sum + c * [0.2126, 0.7152, 0.0722][i], 0);
  const paint = (colours) => {
    pen.fillStyle = "#fff";
    pen.fillRect(0, 0, 1, 1);
    for (const colour of colours) { pen.fillStyle = colour; pen.fillRect(0, 0, 1, 1); }
    return light(pen.getImageData(0, 0, 1, 1).data);
  };
  const found = new Map();
  for (const el of document.querySelectorAll("body *")) {
    const own = [...el.childNodes].filter((n) => n.nodeType === 3);
    const text = own.map((n) => n.data).join("").trim();
    if (!text || !el.checkVisibility() || el.disabled) continue;
    const behind = [];
    for (let e = el; e; e = e.parentElement) behind.unshift(getComputedStyle(e).backgroundColor);
    const [a, b] = [paint(behind), paint([...behind, getComputedStyle(el).color])];
    const ratio = (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05);
    if (ratio < 4.5) found.set(`${el.tagName}.${el.className} ${text.slice(0, 40)}`, ratio);
  }
  return Object.fromEntries(found);
}"""


def too_pale(page: Any) -> dict[str, float]:
    """The texts shown whose contrast is below 4.5, each with it."""
    found: dict[str, float] = page.evaluate(_PALE)
    return found


def go(page: Any, route: str) -> None:
    page.evaluate("(hash) => { location.hash = hash; }", route)
    page.wait_for_selector(f"[data-view={route.removeprefix('#/').partition('?')[0]}]")


def column(page: Any, head: str, table: str = "main") -> list[str]:
    """The texts of the first column under ``head``."""
    heads = [text.strip() for text in page.locator(f"{table} thead th").all_inner_texts()]
    number = 1 + heads.index(head)
    return page.locator(f"{table} tbody td:nth-child({number})").all_inner_texts()
