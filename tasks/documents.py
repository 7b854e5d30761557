"""What files on this machine say: text and source code in UTF-8, HTML as the text that it shows,
PDF by an extra."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path

from rlm_eval.errors import ConfigError
from rlm_eval.records import storable

#: The most bytes of a file, and the most characters of a folder.
MOST = 100_000_000
#: Folders without documents, beside hidden ones, and what makes a folder the record of a run.
JUNK, RECORD = ("__pycache__", "node_modules"), ("journal.jsonl", "journal.jsonl.gz")
#: Elements of HTML within a line, and what parts the cells of a table. All others begin a line.
INLINE = """a abbr b bdi bdo cite code data del dfn em font i img ins kbd label mark q rb rp rt ruby
    s samp small span strong sub sup time tt u var wbr"""
PARTS = {**dict.fromkeys(INLINE.split(), ""), "td": " | ", "th": " | "}


def read_file(path: Path) -> str:
    """The text of a file. Raises ConfigError, in one line, for one that can't be read as text."""
    if (text := _text(path)) is None:
        raise ConfigError(f"{path} is neither text nor HTML nor PDF: convert it, or leave it out")
    return text


def read_folder(folder: Path, leave_out: Path) -> tuple[dict[str, str], list[str]]:
    """The texts of all files below ``folder`` by their paths in it, in sorted order, and the paths
    of those that are skipped: binary ones, and links out of it. Hidden files, runs' records and
    ``leave_out`` are no documents. Raises ConfigError as :func:`read_file` does, and for nothing or
    too much to read."""
    inside = [path for path in _files(folder) if path.resolve() != leave_out.resolve()]
    names = {storable(path.relative_to(folder).as_posix()): path for path in inside}
    root = folder.resolve()
    below = {name: path for name, path in names.items() if path.resolve().is_relative_to(root)}
    texts = {name: text for name, path in below.items() if (text := _text(path)) is not None}
    if not 0 < (size := sum(map(len, texts.values()))) <= MOST:
        told = f"{folder} holds {size:,} characters of text; it must be 1 to {MOST:,}"
        links = f"; {len(names) - len(below)} links out of it are left out"
        raise ConfigError(told + links * (len(below) < len(names)))
    return texts, [name for name in names if name not in texts]


def _files(folder: Path) -> Iterator[Path]:
    try:
        inside = sorted(folder.iterdir())
    except OSError as error:
        raise ConfigError(f"{folder} can't be read: {error.strerror}") from error
    for path in inside:
        recorded = any(os.path.exists(path / name) for name in RECORD)  # False where it is locked
        hidden = path.name.startswith(".") or path.name in JUNK or recorded
        if path.is_file() and not hidden:
            yield path
        elif path.is_dir() and not hidden and not path.is_symlink():
            yield from _files(path)


def _text(path: Path) -> str | None:
    """None for a binary file: one that begins with what no text has. UTF-16 says what it is."""
    kind = path.suffix.lower()
    try:
        with path.open("rb") as stream:
            data = stream.read(8192)
            if kind == ".pdf":
                return _pdf_text(path)
            if b"\0" in data and not data.startswith((b"\xff\xfe", b"\xfe\xff")):
                return None
            data += stream.read(MOST)
        text = data.decode("utf-8-sig").replace("\r\n", "\n")
    except OSError as error:
        raise ConfigError(f"{path} can't be read: {error.strerror}") from error
    except UnicodeDecodeError as error:
        why = f"({error.reason}): convert it, as with iconv -f ENCODING -t UTF-8"
        raise ConfigError(f"{path} is not in UTF-8 {why}") from error
    if len(data) > MOST:
        raise ConfigError(f"{path} is too large: the most is {MOST:,} bytes")
    return html_text(text) if kind in (".html", ".htm") else text


def _pdf_text(path: Path) -> str:
    try:
        import pypdf
        from pypdf.errors import DependencyError, DeprecationError, PyPdfError
    except ImportError as error:
        raise ConfigError(f'{path}: PDF needs pip install -e ".[pdf]"') from error
    logging.getLogger("pypdf").setLevel(logging.CRITICAL)
    broken = (PyPdfError, DependencyError, DeprecationError, AttributeError, LookupError)
    try:
        text = "\n\n".join(page.extract_text() for page in pypdf.PdfReader(path).pages)
    except (*broken, ArithmeticError, RuntimeError, TypeError, ValueError) as error:
        raise ConfigError(f"{path} can't be read as PDF: {error}") from error
    if not text.strip():
        raise ConfigError(f"{path} has no text, as scans haven't: OCR it, or leave it out")
    return storable(text)


class _Shown(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.parts: list[str] = []
        self.as_written = 0  # how many <pre> are open
        self.row, self.cells = 0, 0  # where the open row began, and how many cells it has

    def handle_starttag(self, tag: str, attrs: object) -> None:
        self._end_row(tag)
        self.as_written += tag == "pre"
        self.cells += tag in ("td", "th")
        self.parts.append(PARTS.get(tag, "\n"))

    def handle_endtag(self, tag: str) -> None:
        self._end_row(tag)
        self.as_written = max(0, self.as_written - (tag == "pre"))
        self.parts.append("" if tag in PARTS else "\n")

    def _end_row(self, tag: str) -> None:
        """A row is a line, whatever its cells hold; a page that is laid out in one cell is none."""
        if tag in ("tr", "table"):
            if self.cells > 1:
                row = [" " if part == "\n" else part for part in self.parts[self.row :]]
                self.parts[self.row :] = row
            self.row, self.cells = len(self.parts) + 1, 0

    def handle_data(self, data: str) -> None:
        if self.cdata_elem not in ("script", "style"):  # a newer Python has others, which are shown
            self.parts.append(data if self.as_written else data.replace("\n", " "))


def html_text(page: str) -> str:
    """What an HTML page shows: a block, or a row of a table, a line."""
    reader = _Shown()
    reader.feed(page)
    reader.close()
    lines = (" ".join(line.split()) for line in "".join(reader.parts).split("\n"))
    return "\n".join(line.removeprefix("| ") for line in lines if line)
