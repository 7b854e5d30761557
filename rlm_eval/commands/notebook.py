"""rlm_eval from Python: ``rlm_eval.run`` and ``rlm_eval.ask``, as in a notebook.

Settings are those of the command line, ``python -m rlm_eval --help``; a name with a dot comes in a
dict: ``run(task="needle", **{"task.n": 5})``. What is wrong with them is a ConfigError of one line,
before anything has started. Progress goes to standard error. What failed, or was interrupted (by
Ctrl-C, once what is in flight has ended), stays pending: the same call does it.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property, partial
from numbers import Real
from pathlib import Path
from typing import Any

import pandas as pd
from hydra.core.override_parser.types import Quote, QuotedString

from rlm_eval.analysis.aggregate import summarize
from rlm_eval.analysis.figures import draw_all
from rlm_eval.analysis.figures.drawing import Plot
from rlm_eval.analysis.load import load_results, load_run
from rlm_eval.analysis.paired import paired_table
from rlm_eval.analysis.report.page import write_report
from rlm_eval.commands.ask import Answer, answered, asked, read_documents
from rlm_eval.commands.cli import composed, in_one_line
from rlm_eval.commands.report import contexts
from rlm_eval.config.check import check_config, targets
from rlm_eval.errors import ConfigError
from rlm_eval.runs.assemble import assemble
from rlm_eval.runs.progress import Watched
from rlm_eval.runs.run import Host, carry_out_parts


@dataclass(frozen=True)
class Run:
    """What a run left in its ``folder``, read when it is asked for."""

    folder: Path

    @cached_property
    def results(self) -> pd.DataFrame:
        """A row per sample, arm and repeat, as ``rlm_eval.load_results`` gives them."""
        return load_results(self.folder)

    @cached_property
    def calls(self) -> pd.DataFrame:
        """A row per call of each result's last try."""
        return load_run(self.folder).calls

    @cached_property
    def verdicts(self) -> pd.DataFrame:
        """A row per RLM arm and length; ``text`` says it in words. Empty before any result."""
        path = self.folder / "verdicts.csv"
        return pd.read_csv(path) if path.is_file() else pd.DataFrame(columns=["text"])

    @cached_property
    def figures(self) -> Mapping[str, Plot]:
        """The report's figures that have something to show, by name."""
        if self.results.empty:
            return {}
        frames = self.results, self.calls, summarize(self.results), paired_table(self.results)
        return {name: plot for name, _, plot in draw_all(*frames)}

    def figure(self, name: str) -> Plot:
        """One of :attr:`figures`, which a notebook shows; ``.figure`` is matplotlib's, ``.data``
        has its numbers."""
        if name not in self.figures:
            raise ConfigError(f"there is no figure {name!r}: choose {', '.join(self.figures)}")
        return self.figures[name]

    def report(self) -> Path:
        """Write the report into the folder; its page. What the task takes is allowed."""
        loaded = load_run(self.folder)
        allowed = [name.rpartition(".")[0] for name in targets(loaded.config.get("task"))]
        return write_report([loaded], partial(contexts, allowed))

    def __repr__(self) -> str:
        return "\n".join([*self.verdicts["text"], f"Run({str(self.folder)!r})"])


@contextmanager
def _refusing() -> Iterator[None]:
    """A ConfigError within says what the command line would say."""
    try:
        yield
    except ConfigError as error:
        raise ConfigError(in_one_line(error)) from None


@_refusing()
def run(**settings: Any) -> Run:
    """Do a run, or what is left of it. Raises ConfigError, and OSError where the machine fails."""
    parts = assemble(check_config(composed(overrides_of(settings))))
    carry_out_parts(parts, host=Host(prints=False, exits=False))
    return Run(parts.folder)


@_refusing()
def ask(
    about: str | Path | Mapping[str, str] | Sequence[str | Path],
    question: str,
    *,
    method: str = "rlm",
    **settings: Any,
) -> Answer:
    """Have an RLM, or another ``method``, answer a question about a text, texts by name, a file (a
    Path) or a list of files; turns are shown as they come. Raises as :func:`run` does."""
    if isinstance(about, str) and os.path.exists(about):
        raise ConfigError(f"a str is the text itself: for what is there write Path({about!r})")
    if not isinstance(method, str):
        raise ConfigError(f"method={method!r}: one method answers; ask again for another")
    files = [about] if isinstance(about, Path) else about
    content = files if isinstance(files, str | Mapping) else read_documents(files)
    parts = asked(content, question, overrides_of({"method": [method], **settings}))
    _, answers = answered(parts, Host(Watched, prints=False, exits=False))
    return answers[0] if answers else Answer(method, parts.folder)


def overrides_of(settings: Mapping[str, Any]) -> list[str]:
    """Settings as the words of a command line. Raises ConfigError."""
    if isinstance(settings.get("model"), list | tuple):
        told = "one model a run: call run for each, and load_results with all their folders"
        raise ConfigError(f"model={settings['model']}: {told}")
    return [f"{key}={_written(key, value)}" for key, value in settings.items()]


def _written(key: str, value: Any) -> str:
    match value:
        case None:
            return "null"
        case Real():  # a bool and numpy's numbers too
            return str(value).lower()
        case str() | Path():
            return QuotedString(str(value), Quote.single).with_quotes()
        case list() | tuple():
            return f"[{','.join(_written(key, part) for part in value)}]"
    raise ConfigError(f"{key}={value!r} is no text, number or list of them")
