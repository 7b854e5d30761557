"""Samples × arms × repeats, side by side, each result written down as it ends."""

from __future__ import annotations

import errno
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass, field, replace
from functools import partial
from typing import TYPE_CHECKING, Any

from rlm_eval.errors import (
    CONTENT_FILTER,
    ConfigError,
    ProviderError,
    RunBudgetExceeded,
    SampleFailure,
    is_the_machines,
)
from rlm_eval.ledger import Budget, Ledger
from rlm_eval.methods.fitting import offline_tokens
from rlm_eval.methods.method import Forecast, Method
from rlm_eval.methods.prompts import load_prompt
from rlm_eval.models.client import LM, CallTags, Completion, ModelClient
from rlm_eval.records import PENDING, SCORED, Answer, Context, Problem, Result, Sample, Score

if TYPE_CHECKING:
    from rlm_eval.journal.journal import Journal
    from rlm_eval.runs.progress import Progress


class Judge:
    """Grades answers of a task whose official rule is a model's verdict. It is called after the
    answer, through the same client and under its own role. The run's budget pays for it, the
    sample's cap does not, and a row's sums leave it out (``judge_cost_usd`` has it): what grading
    takes says nothing about the method. Raises ConfigError for a prompt that is not there."""

    def __init__(self, task: Any, prompt: str) -> None:
        self._task = task
        self._prompt = load_prompt("judge", prompt)
        #: Results graded by another prompt are other results.
        self.source = self._prompt.source

    def forecast(self, sample: Sample) -> Forecast:
        """What grading the longest answer to ``sample`` will take, by sizes alone."""
        messages = self._prompt.messages(**self._task.judge_values(sample, ""))
        prompt = offline_tokens(messages) + sample.max_answer_tokens
        n, tokens = self._task.judge_repeats, self._task.judge_tokens
        return Forecast(n, n * prompt, n * tokens, "judge", repeated_tokens=(n - 1) * prompt)

    def score(self, sample: Sample, answer: str, lm: LM, ledger: Ledger) -> Score:
        """The score by the judge's verdicts. Raises a failed one's failure, and ProviderError where
        none can be read: a judge that fails makes an answer neither right nor wrong."""
        messages = self._prompt.messages(**self._task.judge_values(sample, answer))
        tokens, asked = self._task.judge_tokens, [messages] * self._task.judge_repeats
        tags = CallTags("judge")
        replies = lm.complete_batch(asked, ledger=ledger, max_tokens=tokens, tags=tags)
        scores = []
        for reply in replies:
            if isinstance(reply, SampleFailure):
                raise reply
            score = self._task.judged(sample, answer, reply.text)
            if score is None:
                raise ProviderError(
                    f"no verdict in the reply of {lm.info('judge').name} ({reply.finish_reason}):"
                    " take another judge_model, or raise task.judge_tokens or"
                    " judge_model.reasoning_tokens",
                    kind="no verdict",
                    retryable=False,
                )
            scores.append(score)
        return majority(scores)


def majority(scores: Sequence[Score]) -> Score:
    """The middle one of ``scores``, an odd number, one a verdict, in whatever order they came."""
    middle = sorted(scores, key=lambda score: (score.value, score.parsed))[len(scores) // 2]
    dissents = sum(score.value != middle.value for score in scores)
    return replace(middle, verdicts=len(scores), dissents=dissents)


def judge_of(task: Any) -> Judge | None:
    """The judge a task asks for, None where its answers are scored by rule."""
    return Judge(task, task.judge) if task.judge is not None else None


#: Results in a row that fail at the provider, each with all its retries, and end the run.
FAILED_IN_A_ROW = 8


@dataclass(frozen=True)
class Arm:
    """A named method. ``fingerprint`` is the part of its results' keys that its configuration and
    its sources decide; ``sources`` hashes the latter alone."""

    name: str
    method: Method
    fingerprint: str
    sources: str


@dataclass(frozen=True, slots=True)
class Work:
    """One result to be made. ``restart`` counts how often it was begun before."""

    key: str
    arm: Arm
    sample: Sample
    context: Context
    repeat: int
    constant_score: float | None
    restart: int = 0
    query: str = ""


@dataclass(frozen=True)
class RunOutcome:
    """How a run ended: results made now and pending, why it stopped early, errors with counts."""

    finished: int
    pending: int
    stopped: str = ""
    errors: Mapping[str, int] = field(default_factory=dict)


@dataclass
class Runner:
    """Carries out a list of work. ``stop()`` lets what is in flight end and starts no more.
    ``about`` is what every result says of the run: its run_id, model, sub_model and scripted."""

    about: Mapping[str, Any]
    task: Any
    client: ModelClient
    ledger: Ledger
    sample_budget: Budget
    journal: Journal
    progress: Progress

    def __post_init__(self) -> None:
        self._judge = judge_of(self.task)
        self._stopped = threading.Event()
        self._why = ""

    def stop(self, why: str) -> None:
        self._why = self._why or why
        self._stopped.set()

    def run(self, work: Sequence[Work], concurrency: int) -> RunOutcome:
        """Do all of ``work``, ``concurrency`` at once and in order."""
        finished = in_a_row = 0
        try:
            for result in self._results(iter(work), concurrency):
                finished += result.answer.outcome not in PENDING
                self.progress.finished(result)
                in_a_row = in_a_row + 1 if result.answer.outcome == "provider_error" else 0
                if in_a_row >= FAILED_IN_A_ROW:
                    self.stop(
                        f"{in_a_row} results in a row failed at the provider, the last with: "
                        f"{result.answer.error}"
                    )
        except (MemoryError, RuntimeError) as error:
            if not is_the_machines(error):
                raise
            # No memory or thread is left: told as a full disk is.
            raise OSError(errno.ENOMEM, str(error) or "no memory is left") from error
        return RunOutcome(finished, len(work) - finished, self._why)

    def _results(self, work: Iterator[Work], concurrency: int) -> Iterator[Result]:
        """Results as they come. No more is handed to the pool than it can work on."""
        running: set[Future[Result | None]] = set()
        with ThreadPoolExecutor(concurrency, thread_name_prefix="sample") as pool:
            while True:
                while len(running) < concurrency and not self._stopped.is_set():
                    item = next(work, None)
                    if item is None:
                        break
                    running.add(pool.submit(self._one, item))
                if not running:
                    return
                done, running = wait(running, return_when=FIRST_COMPLETED)
                for future in done:
                    result = future.result()
                    if result is not None:
                        yield result

    def _one(self, work: Work) -> Result | None:
        """One result, written to the journal; None when a spent run cap leaves it pending."""
        self.journal.begin(work.key, work.restart)
        scope = f"{work.arm.name}|{work.repeat}"
        lm = self.client.lm(work.key, memory_scope=scope, restart=work.restart)
        started = time.perf_counter()
        try:
            answer = self._answer(work, lm)
            wall_s = round(time.perf_counter() - started, 6)
            answer, score = self._scored(work.sample, answer, lm)
        except RunBudgetExceeded as spent:
            self.stop(str(spent))
            return None
        result = Result(
            **self.about,
            key=work.key,
            restart=work.restart,
            sample=work.sample,
            method=work.arm.name,
            prompt=work.arm.method.prompt_name(),
            repeat=work.repeat,
            answer=answer,
            score=score,
            constant_score=work.constant_score,
            wall_s=wall_s,
            code_revision=work.arm.sources,
        )
        return self.journal.result(result)

    def _answer(self, work: Work, lm: LM) -> Answer:
        """The sample boundary: what fails here is this sample's outcome, never the run's end, but
        for a spent run cap, a wrong setting and a machine that fails: they are the run's own."""
        ledger = self.ledger.child(self.sample_budget)
        sample = work.sample
        watch = self.progress.watch and partial(self.progress.watch, work.arm.name)
        asked = sample.id, sample.question, work.context, sample.max_answer_tokens, work.query
        problem = Problem(*asked, watch)
        try:
            answer = work.arm.method.answer(problem, lm, ledger)
        except SampleFailure as failure:
            return Answer(None, failure.outcome, error=str(failure))
        except (RunBudgetExceeded, ConfigError):
            raise
        except Exception as error:  # the one place where a method's bug is caught
            if is_the_machines(error):
                raise
            return Answer(None, "invalid_answer", error=f"{type(error).__name__}: {error}")
        empty = answer.outcome in SCORED and not (answer.text or "").strip()
        if not empty and answer.outcome != "no_answer":
            return answer
        nothing = lm.last.no_reply if isinstance(lm.last, Completion) else None
        if nothing is None:
            return replace(answer, text=None, outcome="no_answer")
        return replace(answer, text=None, outcome=nothing.outcome, error=str(nothing))

    def _scored(self, sample: Sample, answer: Answer, lm: LM) -> tuple[Answer, Score | None]:
        """The answer with its score, by rule or by the task's judge. Where the judge fails, the
        answer is neither right nor wrong but pending; one that a filter keeps from the judge would
        be that for ever."""
        if answer.outcome not in SCORED or answer.text is None:
            return answer, None
        if self._judge is None:
            return answer, self.task.score(sample, answer.text)
        try:
            return answer, self._judge.score(sample, answer.text, lm, self.ledger)
        except SampleFailure as failure:
            why, outcome = f"the judge failed: {failure}", failure.outcome
            outcome = outcome if outcome == CONTENT_FILTER else "provider_error"
            return replace(answer, text=None, outcome=outcome, error=why), None
