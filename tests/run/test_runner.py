"""The runner's own part: what is scored by a judge, who pays for it, and what is written down."""

from __future__ import annotations

import errno
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import ClassVar

import pandas as pd
import pytest

from helpers.some_records import some_call, some_result, tables
from rlm_eval.errors import ConfigError, ContextOverflow, ProviderError, SampleFailure
from rlm_eval.journal.journal import Journal, read_events
from rlm_eval.journal.redaction import Redactor
from rlm_eval.ledger import Budget, Ledger
from rlm_eval.methods.method import Method
from rlm_eval.models.client import LM, CallTags, ModelClient, RetryPolicy
from rlm_eval.models.protocol import Message, Prefixes, user
from rlm_eval.models.scripted import ScriptedModel
from rlm_eval.records import Answer, Context, Problem, Result, Sample, Score
from rlm_eval.runs.runner import FAILED_IN_A_ROW, Arm, Runner, RunOutcome, Work, judge_of

CONTEXT = Context.of("a secret text about Rome")
SAMPLE = Sample.of(
    task="capitals",
    context_id=CONTEXT.id,
    question="secret question?",
    gold=("secret Rome",),
    scorer="judge",
    question_group="g",
    target_tokens=100,
    length_tokens=10,
)


@dataclass
class Capitals:
    """A task that is graded by a model."""

    judge: str | None = "equivalence"
    judge_tokens: int = 50
    judge_repeats: int = 1
    seal: ClassVar[Callable[..., str] | None] = None

    def score(self, sample: Sample, answer: str) -> Score:
        value = float(answer in sample.gold)
        return Score(value, answer)

    def judge_values(self, sample: Sample, answer: str) -> Mapping[str, object]:
        return {"question": sample.question, "gold": sample.gold, "answer": answer}

    def judged(self, sample: Sample, answer: str, verdict: str) -> Score | None:
        if verdict not in ("yes", "no"):
            return None
        return Score(float(verdict == "yes"), "secret parse", {"exact_match": 0.0})


class SecretCapitals(Capitals):
    """Its text may not be stored in the clear."""

    def seal(self, text: str) -> str:
        return f"<{len(text)} characters>"


@dataclass
class OneCall(Method):
    """Answers with one call's reply, and tells of it in a trajectory."""

    error: SampleFailure | None = None

    def answer(self, problem: Problem, lm: LM, ledger: Ledger) -> Answer:
        if self.error is not None:
            raise self.error
        reply = lm.complete([user(problem.question)], ledger=ledger, max_tokens=20)
        event = {"type": "turn", "call_id": reply.call_id, "reply": reply.text, "at_s": 0.5}
        event |= {"notes": ["secret note", 3], "inner": {"prompt": "secret", "role": "sub"}}
        return Answer(reply.text, "answered", iterations=1, trajectory=(event,))


class OneSubCall(Method):
    """Asks one sub-call, always the same, so long that a prompt cache would keep it."""

    def answer(self, problem: Problem, lm: LM, ledger: Ledger) -> Answer:
        tags, prompt = CallTags("sub", depth=1, from_repl=True), [user("the same " * 1000)]
        reply = lm.complete(prompt, ledger=ledger, max_tokens=20, tags=tags)
        return Answer(reply.text, "answered")


@dataclass
class Seen:
    """Progress that keeps what it is told."""

    results: list[Result] = field(default_factory=list)
    watch = None

    def finished(self, result: Result) -> None:
        self.results.append(result)


def judge_says(*verdicts: str) -> Callable[[Sequence[Message]], str]:
    left = list(verdicts)

    def script(messages: Sequence[Message]) -> str:
        return left.pop(0)

    return script


def run(
    run_dir: Path,
    task: Capitals,
    judge: ScriptedModel,
    *,
    run_budget: Budget | None = None,
    sample_budget: Budget | None = None,
    method: Method | None = None,
    arms: Sequence[str] = ("one_call",),
    repeats: int = 1,
) -> tuple[RunOutcome, list[Result], Ledger]:
    """``repeats`` results of one sample for each of ``arms``, written down in ``run_dir``."""
    root = ScriptedModel(script=lambda messages: "a secret reply")
    ledger, seen = Ledger(run_budget), Seen()
    made = [Arm(name, method or OneCall(), "f", "revision") for name in arms]
    each = enumerate((arm, i) for arm in made for i in range(repeats))
    work = [Work(f"key{n}", arm, SAMPLE, CONTEXT, i, None) for n, (arm, i) in each]
    names = {"run_id": "capitals-1", "model": "scripted", "sub_model": "scripted"}
    about = {**names, "scripted": True}
    with Journal(run_dir, seal=task.seal) as journal:
        models = {"root": root, "judge": judge}
        client = ModelClient(models, journal.call, retry=RetryPolicy(attempts=1))
        runner = Runner(about, task, client, ledger, sample_budget or Budget(), journal, seen)
        return runner.run(work, 1), seen.results, ledger


def priced(script: Callable[[Sequence[Message]], str]) -> ScriptedModel:
    return ScriptedModel(name="judge", script=script)


def test_the_judges_verdict_is_the_score(tmp_path: Path) -> None:
    outcome, _, _ = run(tmp_path, Capitals(), priced(judge_says("yes", "no")), repeats=2)
    assert outcome == RunOutcome(2, 0, "")
    results, calls = tables(tmp_path)
    assert results.score.tolist() == [1.0, 0.0]
    assert results.score_exact_match.tolist() == [0.0, 0.0]
    assert calls.role.tolist() == ["root", "judge"] * 2
    assert calls.model.tolist() == ["scripted", "judge"] * 2


def test_the_judge_is_on_the_runs_bill_and_not_on_the_samples(tmp_path: Path) -> None:
    once = Budget(calls=1)
    _, _, ledger = run(tmp_path, Capitals(), priced(judge_says("yes")), sample_budget=once)
    assert ledger.spent.calls == 2
    results, calls = tables(tmp_path)
    (row,) = results.itertuples()
    (root,) = calls[calls.role == "root"].itertuples()
    assert row.outcome == "answered"
    assert (row.calls, row.prompt_tokens, row.lm_s) == (1, root.prompt_tokens, root.latency_s)
    assert ledger.spent.tokens == calls.prompt_tokens.sum() + calls.completion_tokens.sum()


def test_what_the_judge_costs_is_kept_apart(tmp_path: Path) -> None:
    judge = {"role": "judge", "prompt_tokens": 900, "latency_s": 9.0}
    for folder, price in (("priced", 0.5), ("unpriced", None)):
        with Journal(tmp_path / folder) as journal:
            journal.call(some_call("a"), "x")
            journal.call(some_call("j", cost_usd=price, **judge), "yes")
            journal.result(some_result())
    (row,) = tables(tmp_path / "priced")[0].itertuples()
    assert (row.calls, row.prompt_tokens, row.lm_s) == (1, 100, 2.0)
    assert (row.cost_usd, row.judge_cost_usd) == (0.25, 0.5)
    (row,) = tables(tmp_path / "unpriced")[0].itertuples()
    assert row.cost_usd == 0.25
    assert pd.isna(row.judge_cost_usd)


def test_a_run_cap_that_the_judge_would_pass_leaves_the_row_pending(tmp_path: Path) -> None:
    outcome, results, _ = run(
        tmp_path, Capitals(), priced(judge_says()), run_budget=Budget(calls=1), repeats=2
    )
    assert outcome.pending == 2
    assert "calls=1 is spent" in outcome.stopped
    assert not results


def fails(messages: Sequence[Message]) -> str:
    raise ProviderError("no luck", kind="server", retryable=False)


@pytest.mark.parametrize(
    ("script", "told"),
    [(fails, "no luck"), (judge_says("perhaps"), "no verdict in the reply of judge (stop)")],
)
def test_a_judge_that_fails_leaves_the_answer_pending(
    tmp_path: Path, script: Callable[[Sequence[Message]], str], told: str
) -> None:
    outcome, (result,), _ = run(tmp_path, Capitals(), priced(script))
    assert outcome == RunOutcome(0, 1, "")
    assert (result.answer.outcome, result.answer.text) == ("provider_error", None)
    assert result.answer.error.startswith("the judge failed: ")
    assert told in result.answer.error
    assert result.score is None


@pytest.mark.parametrize(
    ("verdicts", "score"), [(("yes", "no", "yes"), 1.0), (("no", "yes", "no"), 0.0)]
)
def test_of_three_verdicts_the_most_are_the_score(
    tmp_path: Path, verdicts: tuple[str, ...], score: float
) -> None:
    """All of them asked, recorded and on the run's bill, also at temperature 0."""
    task = Capitals(judge_repeats=3)
    outcome, _, ledger = run(tmp_path, task, priced(judge_says(*verdicts)))
    assert (outcome.finished, ledger.spent.calls) == (1, 4)
    results, calls = tables(tmp_path)
    (row,) = results.itertuples()
    assert (row.score, row.judge_verdicts, row.judge_dissents, row.calls) == (score, 3, 1, 1)
    assert calls.role.tolist().count("judge") == 3
    assert calls.prompt_sha256.nunique() == 2
    assert ledger.spent.tokens == calls.prompt_tokens.sum() + calls.completion_tokens.sum()


def test_one_verdict_of_three_that_fails_is_a_judge_that_fails(tmp_path: Path) -> None:
    judge = priced(judge_says("yes", "perhaps", "yes", "yes", "yes", "yes"))
    outcome, (lost, kept), _ = run(tmp_path, Capitals(judge_repeats=3), judge, repeats=2)
    assert (outcome.finished, outcome.pending) == (1, 1)
    assert (lost.answer.outcome, lost.score) == ("provider_error", None)
    assert "no verdict in the reply of judge" in lost.answer.error
    assert kept.score == Score(1.0, "secret parse", {"exact_match": 0.0}, verdicts=3)
    assert tables(tmp_path)[1].role.tolist().count("judge") == 6


def test_where_not_all_verdicts_fit_the_runs_cap_none_is_asked_for(tmp_path: Path) -> None:
    outcome, results, ledger = run(
        *(tmp_path, Capitals(judge_repeats=3), priced(judge_says())), run_budget=Budget(calls=3)
    )
    assert (outcome.pending, results, ledger.spent.calls) == (1, [], 1)


def test_a_judge_with_too_small_a_window_is_no_wrong_answer(tmp_path: Path) -> None:
    small = ScriptedModel(name="judge", context_window=60)
    _, (result,), _ = run(tmp_path, Capitals(), small)
    assert result.answer.outcome == "provider_error"
    assert "the window of 60 of judge" in result.answer.error


class Bothered(Method):
    """Meets an error of the operating system, or of Python."""

    def __init__(self, error: Exception) -> None:
        self._error = error

    def answer(self, problem: Problem, lm: LM, ledger: Ledger) -> Answer:
        raise self._error


def test_a_methods_own_trouble_with_files_is_its_samples(tmp_path: Path) -> None:
    """Not the run's: the other arms go on. A full disk or no file left to open is the run's."""
    lost = Bothered(FileNotFoundError(errno.ENOENT, "no such file"))
    _, results, _ = run(tmp_path / "a", Capitals(), priced(judge_says()), method=lost, repeats=2)
    assert [r.answer.outcome for r in results] == ["invalid_answer"] * 2
    for number in (errno.ENOSPC, errno.EMFILE):
        full = Bothered(OSError(number, "no more"))
        with pytest.raises(OSError, match="no more"):
            run(tmp_path / str(number), Capitals(), priced(judge_says()), method=full)


@pytest.mark.parametrize(
    ("error", "told"),
    [
        (RuntimeError("can't start new thread"), "can't start new thread"),
        (MemoryError(), "no memory is left"),
    ],
)
def test_a_machine_without_threads_or_memory_makes_no_wrong_answers(
    tmp_path: Path, error: Exception, told: str
) -> None:
    with pytest.raises(OSError, match=told) as stopped:
        run(tmp_path, Capitals(), priced(judge_says()), method=Bothered(error))
    assert stopped.value.errno == errno.ENOMEM
    assert not [event for event in read_events(tmp_path) if event["type"] == "result"]


def test_what_was_not_answered_is_not_judged(tmp_path: Path) -> None:
    failing = OneCall(ProviderError("down", kind="server", retryable=False))
    _, (result,), ledger = run(tmp_path, Capitals(), priced(judge_says()), method=failing)
    assert result.answer.error == "down"
    assert ledger.spent.calls == 0


def test_without_a_judge_the_tasks_rule_scores(tmp_path: Path) -> None:
    _, (result,), ledger = run(tmp_path, Capitals(judge=None), priced(judge_says()))
    assert result.score == Score(0.0, "a secret reply")
    assert ledger.spent.calls == 1


def test_a_prompt_that_is_not_there_is_told_before_anything_is_asked() -> None:
    with pytest.raises(ConfigError, match="judge has no prompt 'nope'; choose equivalence"):
        judge_of(Capitals(judge="nope"))


def test_nothing_of_a_sealing_task_is_written_in_the_clear(tmp_path: Path) -> None:
    run(tmp_path, SecretCapitals(), priced(judge_says("yes")))
    written = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert not [path for path in written if b"secret" in path.read_bytes()]
    results, calls = tables(tmp_path)
    (row,) = results.itertuples()
    assert (row.question, row.answer) == ("<16 characters>", "<14 characters>")
    assert json.loads(row.gold) == ["<11 characters>"]
    assert (row.score, row.outcome, row.error) == (1.0, "answered", "")
    turn, answer = (
        json.loads(line)
        for line in (tmp_path / "trajectories" / "key0.jsonl").read_text().splitlines()
    )
    assert turn == {
        "type": "turn",
        "call_id": calls.call_id[0],
        "reply": "<14 characters>",
        "at_s": 0.5,
        "notes": ["<11 characters>", 3],
        "inner": {"prompt": "<6 characters>", "role": "sub"},
    }
    assert answer == {"type": "answer", "text": "<14 characters>", "outcome": "answered"}


def test_keys_are_cut_out_before_a_text_is_sealed(tmp_path: Path) -> None:
    with Journal(tmp_path, Redactor({"sk-canary-1"}), lambda text: text[::-1]) as journal:
        journal.call(some_call("a", error="server: it is sk-canary-1"), "")
    (row,) = tables(tmp_path)[1].itertuples()
    assert row.error == "server: ]yek[ si ti"


def test_no_arm_and_no_repeat_is_answered_or_made_cheaper_by_another(tmp_path: Path) -> None:
    task, judge = Capitals(judge=None), priced(judge_says())
    run(tmp_path, task, judge, method=OneSubCall(), arms=("one", "other"), repeats=2)
    _, calls = tables(tmp_path)
    assert calls.prompt_tokens.min() > 2 * Prefixes.LEAST
    assert (len(calls), calls.cached_response.any(), calls.reused_tokens.sum()) == (4, False, 0)


@pytest.mark.parametrize("between", [(), ("context_overflow",)])
def test_a_provider_that_fails_throughout_ends_the_run(
    tmp_path: Path, between: tuple[str, ...]
) -> None:
    """A bad stretch, with another outcome in it, does not."""
    failing, left = ProviderError("overloaded", kind="server", retryable=False), list[int]()

    class Failing(OneCall):
        def answer(self, problem: Problem, lm: LM, ledger: Ledger) -> Answer:
            left.append(1)
            if between and len(left) == FAILED_IN_A_ROW:
                raise ContextOverflow("too long")
            raise failing

    outcome, results, _ = run(
        tmp_path, Capitals(), priced(judge_says()), method=Failing(), repeats=FAILED_IN_A_ROW + 2
    )
    why = f"{FAILED_IN_A_ROW} results in a row failed at the provider, the last with: overloaded"
    assert outcome.stopped == ("" if between else why)
    assert len(results) == FAILED_IN_A_ROW + 2 * bool(between)


def test_an_error_is_sealed_but_its_kind(tmp_path: Path) -> None:
    def refuses(messages: Sequence[Message]) -> str:
        raise ProviderError("secret prompt refused", kind="content", retryable=False)

    _, (result,), _ = run(tmp_path, SecretCapitals(), priced(refuses))
    assert "secret" not in result.answer.error
    _, calls = tables(tmp_path)
    assert calls.error.tolist() == ["", "content: <21 characters>"]


def test_other_tasks_are_written_as_they_are(tmp_path: Path) -> None:
    _, (result,), _ = run(tmp_path, Capitals(judge=None), priced(judge_says()))
    assert result.sample == SAMPLE
    results, _ = tables(tmp_path)
    assert isinstance(results, pd.DataFrame)
    assert results.question.tolist() == ["secret question?"]
