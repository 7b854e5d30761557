"""Tasks that read rows of published data sets: a local file, or a pinned revision on the Hugging
Face hub.

Local files: JSONL, JSON (a list of rows, or an object whose ``data`` is one), CSV, parquet, or a
folder of parquet files, all in UTF-8. Hub sets are streamed, but a ``file`` is fetched as a whole.
Every row is checked against the set's ``schema``: a file's when the task is made, a hub set's as
they are read.
"""

from __future__ import annotations

import csv
import hashlib
import io
import json
import re
from abc import abstractmethod
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from itertools import chain
from pathlib import Path
from typing import Annotated, Any, BinaryIO, ClassVar

from pydantic import AfterValidator, BeforeValidator, ConfigDict, Field, TypeAdapter
from pydantic import ValidationError as Misfit
from typing_extensions import TypedDict

from rlm_eval.errors import ConfigError, at_least
from rlm_eval.records import Context, Scalar

from ..task import Pair, Task, check_lengths

Row = Mapping[str, Any]
#: What :meth:`Task.pair` takes.
Fields = dict[str, Any]


# --- What a row may hold -------------------------------------------------------------------------


def shape(check: Callable[[Any], Any] | None = None, /, **columns: Any) -> Any:
    """A row with these columns, nothing converted, more let be. ``check`` looks at all of it:
    it raises ValueError with what was expected, as the columns' own validators do."""
    make: Any = TypedDict
    made = make("Row", columns)
    made.__pydantic_config__ = ConfigDict(strict=True, extra="allow")
    return Annotated[made, AfterValidator(check)] if check else made


def many(item: Any, least: int = 0) -> Any:
    """A list of at least so many of these."""
    return Annotated[list[item], Field(min_length=least)]


def utf8(value: str) -> str:
    try:
        value.encode()
    except UnicodeEncodeError as error:
        raise ValueError("text without half a surrogate pair") from error
    return value


def _filled(value: object) -> object:
    if isinstance(value, str) and value.strip():
        return value
    raise ValueError("a non-empty text")


#: A text that may be empty; one that may not; base64; a text or whole number, taken as text.
AnyText = Annotated[str, AfterValidator(utf8)]
Text = Annotated[AnyText, BeforeValidator(_filled)]
Sealed = Annotated[str, Field(pattern=r"^[A-Za-z0-9+/]+={0,2}$")]
Name = Annotated[Text, BeforeValidator(lambda value: str(value) if type(value) is int else value)]

_EXPECTED = {
    "string_type": "a text",
    "int_type": "a whole number",
    "bool_type": "true or false",
    "list_type": "a list",
    "tuple_type": "a list",
    "dict_type": "an object",
    "too_short": "a list of at least {min_length}",
    "json_type": "a text that is JSON",
    "json_invalid": "a text that is JSON",
    "string_pattern_mismatch": "a text encrypted as published, in base64",
}
_adapter = cache(TypeAdapter[Any])


def checked(schema: Any, raw: Any, place: str) -> Row:
    """``raw`` as ``schema`` reads it. Raises ConfigError that says of ``place`` which column is
    wrong, what was expected and what is there."""
    try:
        found: Row = _adapter(schema).validate_python(raw)
        return found
    except Misfit as error:
        problems = error.errors(include_url=False)
    # Tags of alternatives are in angle brackets.
    places = [[part for part in p["loc"] if not str(part).startswith("<")] for p in problems]
    missing = [at for p, at in zip(problems, places, strict=True) if p["type"] == "missing"]
    if lost := [at[0] for at in missing if len(at) == 1]:
        raise _lacks(place, lost, raw)
    first = problems[0]
    where = "".join(f"[{at}]" if isinstance(at, int) else f".{at}" for at in places[0])
    if first["type"] == "missing":
        raise ConfigError(f"{place}: {where[1:]}: is missing")
    message = first["msg"].removeprefix("Value error, ").removeprefix("Input should be ")
    known = _EXPECTED.get(first["type"], "").format_map(first.get("ctx", {}))
    expected = f"expected {known or message}"
    if where and first["type"] != "string_pattern_mismatch":  # which may be in the clear
        expected += f", got {shorten(json.dumps(first['input'], default=str), 60)}"
    raise ConfigError(f"{place}: {where[1:]}{': ' if where else ''}{expected}")


def _lacks(place: str, columns: Iterable[object], raw: Row) -> ConfigError:
    lost = ", ".join(map(str, columns))
    return ConfigError(f"{place}: no column {lost}; it has {shorten(', '.join(raw), 300)}")


def shorten(text: str, size: int) -> str:
    text = " ".join(text.split())
    return text if len(text) <= size else f"{text[:size]}…"


# --- Where rows come from ------------------------------------------------------------------------


@dataclass(kw_only=True, eq=False)
class DataSet(Task):
    """A task whose rows come from ``path``, or else from ``hub`` at ``revision``: ``split`` of its
    table, or one ``file`` of its repository."""

    path: str | None = None
    hub: str | None = None
    config: str | None = None
    split: str = "test"
    file: str | None = None
    revision: str | None = None

    #: What its rows look like, and columns that they must have beside.
    schema: ClassVar[Any] = shape()
    columns = tuple[str, ...]()

    def __post_init__(self) -> None:
        """Raises ConfigError for a file that is missing or has a wrong row (all are read), or a hub
        set that is not pinned. Fetches nothing."""
        super().__post_init__()
        if self.path is not None:
            deque(self.rows(), maxlen=0)
            self.source = {
                "path": self.path,
                "sha256": _sha256(_files(Path(self.path), self.config, self.split)),
            }
            return
        if not self.hub:
            raise ConfigError("is missing: give a file (.jsonl or .parquet)", key="path")
        if not self.revision:
            told = f"must be a commit of {self.hub}: pin it, or give path=FILE"
            raise ConfigError(told, key="revision")
        part = {"file": self.file} if self.file else {"config": self.config, "split": self.split}
        parts = {"hub": self.hub, **part, "revision": self.revision}
        self.source = {key: value for key, value in parts.items() if value}

    def rows(self) -> Iterator[Row]:
        """The rows in order, checked, of those that are wanted."""
        return (row for _, row in self.placed_rows())

    def placed_rows(self) -> Iterator[tuple[str, Row]]:
        """The same, each with its place, as in ``FILE line 17``."""
        place, key = "", "hub" if self.path is None else "path"
        try:
            for place, raw in self._raw():
                if not isinstance(raw, dict):
                    raise ConfigError(f"{place}: must be a JSON object")
                found = checked(self.schema, raw, place)
                if lost := [column for column in self.columns if column not in found]:
                    raise _lacks(place, lost, found)
                if self.wanted(raw):
                    yield place, found
        except ConfigError as error:
            raise ConfigError(error.message, key=error.key or key) from error
        if not place:
            raise ConfigError(f"{self.path or self.hub} holds no rows", key=key)

    def wanted(self, raw: Row) -> bool:
        """Whether a row is taken, by what it says before anything is made of it."""
        return True

    def _raw(self) -> Iterator[tuple[str, Any]]:
        if self.path is not None:
            yield from _read(_files(Path(self.path), self.config, self.split))
            return
        import datasets  # type: ignore[import-untyped]
        import httpx
        from datasets.exceptions import DatasetsError  # type: ignore[import-untyped]
        from huggingface_hub import hf_hub_download

        hub, at = str(self.hub), self.revision
        try:
            if self.file:
                file = hf_hub_download(hub, self.file, repo_type="dataset", revision=at)
                yield from _read([Path(file)])
                return
            builder = datasets.load_dataset_builder(hub, self.config, revision=at)
            if builder.hash != at:  # a folder here, or what is cached of another revision
                raise ValueError(f"within reach is {builder.hash} alone")
            rows = builder.as_streaming_dataset(split=self.split)
            yield from ((f"{hub} row {i}", raw) for i, raw in enumerate(rows, 1))
        except (OSError, ValueError, RuntimeError, httpx.HTTPError, DatasetsError) as error:
            told = f"{hub} at {at} can't be read ({_first_line(error)}); give path=FILE instead"
            raise ConfigError(told) from error


def _files(path: Path, config: str | None, split: str | None) -> list[Path]:
    """The file, or those of a folder: of the config and the split alone where files or folders are
    called by them."""
    found = sorted(path.glob("**/*.parquet")) if path.is_dir() else [path]
    found = [file for file in found if config in file.relative_to(path).parts] or found
    named = [file for file in found if split in (re.split("[-.]", file.name)[0], file.parent.name)]
    found = named or found
    if not found or not found[0].is_file():
        what = "holds no .parquet file" if path.is_dir() else "is no file"
        raise ConfigError(f"{path} {what}", key="path")
    return found


def _sha256(files: Iterable[Path]) -> str:
    """The hash of one file, or of several joined in order."""
    digest = hashlib.sha256()
    for file in files:
        with file.open("rb") as stream:
            hashlib.file_digest(stream, lambda: digest)
    return digest.hexdigest()


def _read(files: Iterable[Path]) -> Iterator[tuple[str, Any]]:
    """Each row with its place, as in ``FILE row 17``, or ``line 17`` where rows are lines."""
    for file in files:
        unit = "line" if file.suffix in (".jsonl", ".csv") else "row"
        number = int(file.suffix == ".csv")  # the header
        if file.suffix not in READERS:
            raise ConfigError(f"{file} can't be read: it is none of {', '.join(READERS)}")
        try:
            with file.open("rb") as stream:
                for number, raw in READERS[file.suffix](stream):
                    if raw is not ...:
                        yield f"{file} {unit} {number}", raw
        except UNREADABLE as error:
            if isinstance(error, UnicodeDecodeError) and file.suffix == ".csv":  # read as a whole
                number = error.object[: error.start].count(b"\n")
            at = f" line {number + 1}" if unit == "line" else ""
            if isinstance(error, UnicodeDecodeError):
                why = f"({error.reason}): convert it, as with iconv -f ENCODING -t UTF-8"
                raise ConfigError(f"{file}{at} is not in UTF-8 {why}") from error
            raise ConfigError(f"{file}{at} can't be read: {_first_line(error)}") from error


def _parquet(stream: BinaryIO) -> Iterator[tuple[int, Any]]:
    import pyarrow.parquet  # type: ignore[import-untyped]

    batches = pyarrow.parquet.ParquetFile(stream).iter_batches(batch_size=16)
    yield from enumerate(chain.from_iterable(batch.to_pylist() for batch in batches), 1)


def _jsonl(stream: BinaryIO) -> Iterator[tuple[int, Any]]:
    for number, line in enumerate(stream, 1):
        text = line.decode("utf-8-sig" if number == 1 else "utf-8")
        yield number, json.loads(text) if text.strip() else ...


def _json(stream: BinaryIO) -> Iterator[tuple[int, Any]]:
    data = json.loads(stream.read().decode("utf-8-sig"))
    rows = data.get("data") if isinstance(data, dict) else data
    if not isinstance(rows, list):
        raise ValueError("it is neither a list of rows nor an object whose 'data' is one")
    yield from enumerate(rows, 1)


def _csv(stream: BinaryIO) -> Iterator[tuple[int, Any]]:
    """Rows without their empty cells; what parts most of the header parts them all."""
    csv.field_size_limit(1 << 30)  # a cell may hold a context
    text = stream.read().decode("utf-8-sig")
    parting = max(",;\t", key=text.partition("\n")[0].count)
    rows = csv.DictReader(io.StringIO(text, newline=""), delimiter=parting, strict=True)
    for row in rows:
        if None in row:
            raise ValueError("it has more cells than the header")
        yield rows.line_num, {name: _cell(cell) for name, cell in row.items() if cell} or ...


def _cell(text: str) -> Any:
    """The text of a cell, or the list that it holds in JSON."""
    try:
        return json.loads(text) if text.startswith("[") else text
    except ValueError:
        return text


UNREADABLE = (OSError, ValueError, TypeError, RecursionError, NotImplementedError, csv.Error)
READERS = {".jsonl": _jsonl, ".json": _json, ".csv": _csv, ".parquet": _parquet}


def _first_line(error: Exception) -> str:
    return str(error).splitlines()[0] if str(error) else type(error).__name__


#: Text takes fewer characters a token than this: a bound that spares counting.
MOST_CHARS_PER_TOKEN = 12


@dataclass(kw_only=True, eq=False)
class Fixed(DataSet):
    """Rows that bring their own context, as they are, of those whose columns have the values of
    ``where``: no padding, samples sorted into lengths. ``lengths`` are upper bounds: a row belongs
    to the smallest that holds its context, question and, where a task counts it, answer, and up to
    ``n`` rows of each are taken in the source's order; rows larger than all of them are left out,
    and those that come again."""

    lengths: Sequence[int]
    n: int
    where: Mapping[str, Scalar] | None = None

    def __post_init__(self) -> None:
        at_least(1, n=self.n)
        self.lengths = check_lengths(self.name, self.lengths, self.answer_room + 1)
        self.columns = (*self.columns, *(self.where or ()))
        super().__post_init__()

    def wanted(self, raw: Row) -> bool:
        return all(raw[key] == value for key, value in (self.where or {}).items())

    @abstractmethod
    def item(self, row: Row) -> Fields:
        """The question of a row: what :meth:`pair` takes, and the ``content`` of the context."""

    def size(self, row: Row) -> int:
        """The tokens that sort a row, where the benchmark counts in a way of its own; else 0."""
        return 0

    def build(self) -> Iterator[Pair]:
        found: dict[int, dict[str, Pair]] = {bound: {} for bound in self.lengths}
        contexts: dict[str, Context] = {}
        for row in self.rows():
            asked = self.item(row)
            room = [bound for bound, pairs in found.items() if len(pairs) < self.n]
            context = Context.of(asked.pop("content"))
            if len(context.text) // MOST_CHARS_PER_TOKEN > room[-1]:
                continue
            used, length = self.size(row), 0
            if not used:
                length = self._tok.count(context.text)
                used = length + self._tok.count(asked["question"]) + self.answer_room
            target = next((bound for bound in self.lengths if used <= bound), None)
            if target in room:
                context = contexts.setdefault(context.id, context)
                made = self.pair(context, target, length=length, used=used, **asked)
                found[target].setdefault(made[1].id, made)
                if room == [target] and len(found[target]) == self.n:
                    break
        if not any(found.values()):
            raise ConfigError("no row of the source matches task.where and fits task.lengths")
        for by_id in found.values():
            pairs = [*by_id.values()]
            order = {context.id: i for i, (context, _) in reversed(list(enumerate(pairs)))}
            yield from sorted(pairs, key=lambda pair: order[pair[0].id])
