"""What a run is expected to take: from sizes by hand, from past runs by their means,
from limits as bounds; and how far each may be off."""

from __future__ import annotations

import csv
import json
import sys
from collections.abc import Mapping
from dataclasses import replace
from math import exp
from pathlib import Path
from random import Random
from statistics import mean, stdev
from typing import Any

import pandas as pd
import pytest

from helpers.commands import run_tree
from helpers.fake_provider import FakeProvider
from rlm_eval.config.check import check_config
from rlm_eval.config.compose import compose_tree
from rlm_eval.errors import ConfigError
from rlm_eval.journal.tables import MEASURES
from rlm_eval.ledger import Budget
from rlm_eval.methods.direct import Direct
from rlm_eval.methods.method import Bounds, Forecast, Method, Shape
from rlm_eval.methods.tries import Tries
from rlm_eval.models.protocol import ModelInfo, Price
from rlm_eval.models.scripted import ScriptedModel
from rlm_eval.records import Role, Sample, Score
from rlm_eval.runs.assemble import Parts, all_work, assemble
from rlm_eval.runs.experience import Experience, Past, Speeds, _past
from rlm_eval.runs.forecast import JUDGE, Expected, expected, refuse_over_cap, together
from rlm_eval.runs.plan import in_one_line, published_runs
from rlm_eval.runs.runner import Arm
from rlm_eval.tasks.task import Task

SMALL = ["task=needle", "task.lengths=[600,900]", "task.n=2", "model=scripted"]


class Sized(Method):
    """A root call over the whole input and two notes of 10 tokens by another model."""

    roles = ("root", "summarize")

    def forecast(self, shape: Shape, models: Mapping[Role, ModelInfo]) -> tuple[Forecast, ...]:
        return (
            Forecast(1, shape.context_tokens, shape.max_answer_tokens),
            Forecast(2, 100, 20, role="summarize"),
        )


class Greedy(Sized):
    """Spends up to its cap."""

    matched = True


class Priced(ScriptedModel):
    """A scripted model that costs."""

    def __init__(self, price: Price, reasoning_tokens: int = 0) -> None:
        super().__init__()
        self._price = price
        self._thinks = reasoning_tokens

    @property
    def info(self) -> ModelInfo:
        return replace(super().info, price=self._price, reasoning_tokens=self._thinks)


class JudgedNeedle:
    """A task whose answers a model grades, in 7 tokens."""

    judge = "equivalence"
    judge_tokens = 7
    judge_repeats = 1

    def __init__(self, task: Task) -> None:
        self._task = task

    def __getattr__(self, name: str) -> Any:
        return getattr(self._task, name)

    def judge_values(self, sample: Sample, answer: str) -> Mapping[str, object]:
        return {"question": sample.question, "gold": sample.gold, "answer": answer}

    def judged(self, sample: Sample, answer: str, verdict: str) -> Score | None:
        return None


class Known(Experience):
    """No past results, and known speeds."""

    def __init__(self, parts: Parts, folder: Path, speeds: Speeds) -> None:
        super().__init__(parts.config.tree, [folder], {})
        self.speeds = speeds


class Unknown(Method):
    """Can't say what it takes."""


def parts_of(tmp_path: Path, *methods: Method, **changes: Any) -> Parts:
    tree = compose_tree([*SMALL, "method=[direct]", f"results_dir={tmp_path}"])
    parts = assemble(check_config(tree))
    arms = tuple(Arm(type(m).__name__.lower(), m, str(i), "r") for i, m in enumerate(methods))
    return replace(parts, arms=arms, **changes)


def rows_of(parts: Parts, tmp_path: Path) -> list[Expected]:
    experience = Experience(parts.config.tree, [tmp_path], {})
    return expected(parts, all_work(parts, list(parts.task.build())), experience)


def test_sizes_add_up_over_the_results_of_a_length(tmp_path: Path) -> None:
    parts = parts_of(tmp_path, Sized())
    first, second = rows_of(parts, tmp_path)
    sizes = [s.length_tokens for _, s in parts.task.build() if s.target_tokens == 600]
    assert (first.arm, first.target_tokens, first.results) == ("sized", 600, 2)
    assert first.calls == 2 * (1 + 2)
    assert first.prompt_tokens == sum(sizes) + 2 * 100
    assert first.source == "sizes"
    assert second.target_tokens == 900


def test_each_role_costs_what_its_own_model_costs(tmp_path: Path) -> None:
    dear = Priced(price=Price(input=1000.0, output=0.0))
    cheap = Priced(price=Price(input=0.0, output=500.0))
    parts = parts_of(tmp_path, Sized(), models={"root": dear, "summarize": cheap})
    row = rows_of(parts, tmp_path)[0]
    sizes = [s.length_tokens for _, s in parts.task.build() if s.target_tokens == 600]
    assert row.usd == pytest.approx(sum(sizes) * 1000 / 1e6 + 2 * 20 * 500 / 1e6)


def test_prompts_are_reckoned_as_put_into_a_cache_that_has_a_price(tmp_path: Path) -> None:
    dear = {"root": Priced(price=Price(input=1000.0, output=0.0, cache_write=1250.0))}
    row = rows_of(parts_of(tmp_path, Sized(), models=dear), tmp_path)[0]
    assert row.usd == pytest.approx((row.prompt_tokens or 0) * 1250 / 1e6)


def test_a_reply_from_sizes_counts_all_that_may_be_thought_unseen(tmp_path: Path) -> None:
    root = Priced(price=Price(input=0.0, output=1000.0), reasoning_tokens=300)
    notes = Priced(price=Price(input=0.0, output=500.0), reasoning_tokens=40)
    parts = parts_of(tmp_path, Sized(), models={"root": root, "summarize": notes})
    row = rows_of(parts, tmp_path)[0]
    answers = [s.max_answer_tokens for _, s in parts.task.build() if s.target_tokens == 600]
    written = sum(answers) + 2 * 300, 2 * (20 + 2 * 40)
    assert row.completion_tokens == sum(written)
    assert row.usd == pytest.approx((written[0] * 1000 + written[1] * 500) / 1e6)


def test_the_plan_says_what_it_counts_for_thinking(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "sk-of-no-use")
    monkeypatch.setenv("COLUMNS", "200")
    arguments = [*SMALL, "method=[direct]", "model=gpt-5", f"results_dir={tmp_path}"]
    for changes, told in (([], True), (["model.reasoning_tokens=0"], False)):
        assert run_tree(compose_tree([*arguments, *changes, "dry_run=true"])) == 0
        shown = capsys.readouterr().out
        assert ("reasoning_tokens there may be (4,096 a call of openai/gpt-5)" in shown) == told


def test_a_temperature_that_a_model_is_not_sent_is_said_to_have_no_effect(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "sk-of-no-use")
    arguments = [
        *SMALL,
        "method=[direct]",
        "model=gpt-5",
        f"results_dir={tmp_path}",
        "dry_run=true",
    ]
    assert run_tree(compose_tree([*arguments, "temperature=0.7"])) == 0
    shown = " ".join(capsys.readouterr().out.split())
    assert "temperature=0.7 has no effect on openai/gpt-5, which takes no temperature" in shown
    assert run_tree(compose_tree([*arguments, "temperature=null", "memoize=false"])) == 0
    assert "has no effect" not in capsys.readouterr().out


def test_what_cannot_be_sized_is_unknown_and_never_zero(tmp_path: Path) -> None:
    row = rows_of(parts_of(tmp_path, Unknown()), tmp_path)[0]
    assert (row.source, row.calls, row.usd, row.seconds) == ("unknown", None, None, None)


def test_past_runs_come_first_and_a_near_length_helps_where_sizes_cannot(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arm = [*SMALL, "method=[rlm]", f"results_dir={tmp_path}"]
    assert run_tree(compose_tree([*arm, "task.lengths=[600]", "seed=1"])) == 0
    assert run_tree(compose_tree([*arm, "task.lengths=[600,5000]", "dry_run=true"])) == 0
    shown = capsys.readouterr().out.splitlines()
    rows = {cells[1]: cells for line in shown if (cells := line.split())[:1] == ["rlm"]}
    assert rows["600"][-1] == "past"
    assert rows["5,000"][-3:] == ["past", "at", "600"]


def test_past_inputs_of_another_length_are_no_measure_whatever_their_target(tmp_path: Path) -> None:
    """Own documents have one target, however long each is."""
    words = {"short": "It is red. " * 30, "long": "It is blue. " * 600}
    rows = [{"question": "Which?", "answer": "red", "context": text} for text in words.values()]
    (tmp_path / "rows.jsonl").write_text("\n".join(map(json.dumps, rows)))
    arm = ["task=own", f"task.path={tmp_path}/rows.jsonl", "model=scripted", "method=[direct,rlm]"]
    arm.append(f"results_dir={tmp_path}/runs")
    assert run_tree(compose_tree([*arm, "task.n=1", "stop_on_forecast=false"])) == 0
    parts = assemble(check_config(compose_tree(arm)))
    left = [
        work for work in all_work(parts, list(parts.task.build())) if "blue" in work.context.text
    ]
    direct, rlm = expected(parts, left, Experience(parts.config.tree, [tmp_path / "runs"], {}))
    assert direct.source == "sizes"
    assert (rlm.source[:7], rlm.high["prompt_tokens"] > 10 * rlm.low["prompt_tokens"]) == (
        "past at",
        True,
    )


def test_a_method_that_spends_up_to_its_cap_is_expected_to(tmp_path: Path) -> None:
    dear = {"root": Priced(price=Price(input=1000.0, output=0.0))}
    methods, capped = (Greedy(), Sized()), Budget(tokens=5000, usd=0.25)
    rows = rows_of(parts_of(tmp_path, *methods, sample_budget=capped, models=dear), tmp_path)
    assert (rows[0].source, rows[0].prompt_tokens, rows[0].usd) == ("cap", 10_000, 0.5)
    assert (rows[0].seconds, rows[0].high["usd"]) == (None, 0.5)
    assert rows[2].source == "sizes"
    tokens = Budget(tokens=5000)
    rows = rows_of(parts_of(tmp_path, Greedy(), sample_budget=tokens, models=dear), tmp_path)
    assert (rows[0].usd, rows[0].high["usd"]) == (10.0, 10.0), "what its tokens cost at most"
    assert all(low <= rows[0].high.get(name, low) for name, low in rows[0].low.items())
    with pytest.raises(ConfigError, match=r"up to \$20.00 more"):
        refuse_over_cap(rows, cap_usd=19.0, spent_usd=0.0)
    uncapped = rows_of(parts_of(tmp_path, Greedy(), sample_budget=Budget(calls=3)), tmp_path)
    assert uncapped[0].source == "sizes", "a cap on calls buys nothing"


def test_what_was_spent_up_to_another_cap_says_nothing(tmp_path: Path) -> None:
    past = [*SMALL, "method=[self_consistency]", f"results_dir={tmp_path}", "budget.matched=true"]
    assert run_tree(compose_tree([*past, "budget.sample.tokens=9000"])) == 0
    for tokens, known in ((9000, True), (5000, False)):
        tree = check_config(compose_tree([*past, f"budget.sample.tokens={tokens}"])).tree
        found = Experience(tree, [tmp_path], {}).nearest("self_consistency", 600)
        assert (found is not None) == known


def past_of(tmp_path: Path, arguments: list[str]) -> tuple[int, Past] | None:
    tree = check_config(compose_tree([*arguments, f"results_dir={tmp_path}"])).tree
    return Experience(tree, [tmp_path], {}).nearest("direct", 600)


def test_what_ran_under_other_caps_or_at_another_temperature_says_nothing(tmp_path: Path) -> None:
    past = [*SMALL, "method=[direct]"]
    capped = [*past, "budget.sample.tokens=30"]
    assert run_tree(compose_tree([*capped, f"results_dir={tmp_path}"])) == 0
    assert past_of(tmp_path, past) is None
    assert past_of(tmp_path, capped) is not None
    assert past_of(tmp_path, [*capped, "temperature=1"]) is None


def test_a_past_run_knew_no_setting_of_the_model_that_is_new(tmp_path: Path) -> None:
    tree = compose_tree([*SMALL, "method=[direct]", f"results_dir={tmp_path}"])
    model = {key: value for key, value in tree["model"].items() if key != "latency_s"}
    assert run_tree({**tree, "model": model}) == 0
    assert past_of(tmp_path, [*SMALL, "method=[direct]"]) is not None
    assert past_of(tmp_path, [*SMALL, "method=[direct]", "model.latency_s=0.1"]) is None


def test_owed_results_say_nothing(tmp_path: Path) -> None:
    with FakeProvider(["401"] * 20) as provider:
        hosted = [
            *("task=needle", "task.lengths=[600]", "task.n=2", "method=[direct]", "model=litellm"),
            *("model.name=openai/fake", f"model.api_base={provider.api_base}"),
        ]
        assert run_tree(compose_tree([*hosted, f"results_dir={tmp_path}"])) == 3
        assert past_of(tmp_path, hosted) is None


def test_no_row_passes_the_samples_caps(tmp_path: Path) -> None:
    cap = Budget(calls=2, tokens=300)
    row = rows_of(parts_of(tmp_path, Sized(), sample_budget=cap), tmp_path)[0]
    assert row.calls == 2 * 2
    assert row.prompt_tokens is not None
    assert row.completion_tokens is not None
    assert row.prompt_tokens + row.completion_tokens == 2 * 300


def test_what_an_index_takes_is_under_no_samples_cap(tmp_path: Path) -> None:
    class Indexed(Method):
        roles = ("root", "embed")

        def forecast(self, shape: Shape, models: Mapping[Role, ModelInfo]) -> tuple[Forecast, ...]:
            return (Forecast(1, 900, 9), Forecast(3, 50_000, 0, "embed"))

    method, cap = Indexed(), Budget(calls=1, tokens=300)
    index, price = 2 * 50_000 / 0.86, Priced(price=Price(input=1000.0, output=0.0))
    for method.matched, calls in ((False, 2 * (1 + 3)), (True, None)):
        parts = parts_of(tmp_path, method, sample_budget=cap, models={"root": price})
        row = rows_of(parts, tmp_path)[0]
        assert row.calls == calls
        assert row.high["prompt_tokens"] == pytest.approx(2 * 300 + index)
        assert row.high["usd"] == pytest.approx((2 * 300 + index) * 1000 / 1e6)


def test_the_judge_is_the_root_where_none_is_set(tmp_path: Path) -> None:
    task = JudgedNeedle(parts_of(tmp_path).task)
    parts = parts_of(tmp_path, Unknown(), task=task)
    assert [row.arm for row in rows_of(parts, tmp_path)] == ["unknown", "unknown", JUDGE, JUDGE]


def test_the_judge_has_rows_of_its_own(tmp_path: Path) -> None:
    task = JudgedNeedle(parts_of(tmp_path).task)
    judge = Priced(price=Price(input=0.0, output=1000.0))
    parts = parts_of(tmp_path, Sized(), Unknown(), task=task)
    parts = replace(parts, models={**parts.models, "judge": judge})
    rows = rows_of(parts, tmp_path)
    assert [(r.arm, r.target_tokens, r.results) for r in rows[4:]] == [
        (JUDGE, 600, 4),
        (JUDGE, 900, 4),
    ]
    assert rows[4].calls == 4
    assert rows[4].completion_tokens == 4 * 7
    assert rows[4].usd == pytest.approx(4 * 7 * 1000 / 1e6)
    assert rows[4].prompt_tokens is not None
    assert rows[4].prompt_tokens > 4 * 50


def test_a_judge_that_is_asked_three_times_takes_three_times_as_much(tmp_path: Path) -> None:
    once, thrice = JudgedNeedle(parts_of(tmp_path).task), JudgedNeedle(parts_of(tmp_path).task)
    thrice.judge_repeats = 3
    one, three = (
        rows_of(parts_of(tmp_path, Unknown(), task=task), tmp_path)[-1] for task in (once, thrice)
    )
    assert one.calls is not None
    assert one.prompt_tokens is not None
    assert one.completion_tokens is not None
    assert (three.calls, three.results) == (3 * one.calls, one.results)
    assert three.prompt_tokens == 3 * one.prompt_tokens
    assert three.completion_tokens == 3 * one.completion_tokens


def test_tries_on_one_prompt_take_the_time_to_read_it_once(tmp_path: Path) -> None:
    speeds = Speeds(prompt_s=0.01, completion_s=0.0)
    (one, *_), (five, *_) = (
        expected(parts, all_work(parts, list(parts.task.build())), Known(parts, tmp_path, speeds))
        for parts in (parts_of(tmp_path, Tries(Direct(), tries=tries)) for tries in (1, 5))
    )
    assert one.prompt_tokens is not None
    assert five.prompt_tokens == 5 * one.prompt_tokens
    assert five.seconds == one.seconds == pytest.approx(0.01 * one.prompt_tokens)


def test_what_may_pass_the_cap_stops_the_run_and_says_what_to_do() -> None:
    sized = Expected("a", 1000, 2, "sizes", usd=0.5, high={"usd": 0.6})
    refuse_over_cap([sized], cap_usd=1.0, spent_usd=0.4)
    told = r"usd=1 \(\$0.50 spent\): up to \$0.60 more is estimated. See dry_run=true; ask for less"
    with pytest.raises(ConfigError, match=told):
        refuse_over_cap([sized], cap_usd=1.0, spent_usd=0.5)
    bounded = Expected("b", 1000, 2, "limits", high={"usd": 7.0})
    told = r"\$0.60 .*estimated, and \$7.00 is what the limits of b allow \(a bound, no estimate\)"
    with pytest.raises(ConfigError, match=rf"{told}.*pilot \(.*task.n=2 .*budget.sample.usd=N"):
        refuse_over_cap([sized, bounded], cap_usd=1.0, spent_usd=0.0)
    unpriced = Expected("c", 1000, 2, "past", high={"calls": 4.0})
    for endless in (Expected("c", 1000, 2, "limits"), Expected("c", 1000, 2), unpriced):
        with pytest.raises(ConfigError, match="anything is what the limits of c allow"):
            refuse_over_cap([endless], cap_usd=1e9, spent_usd=0.0)


def test_sizes_state_how_far_they_are_off(tmp_path: Path) -> None:
    parts = parts_of(tmp_path, Sized(), models={"root": Priced(Price(input=1000.0, output=500.0))})
    experience = Experience(parts.config.tree, [tmp_path], {})
    work = all_work(parts, list(parts.task.build()))
    row = expected(parts, work, experience)[0]
    prompt, reply = row.prompt_tokens or 0, row.completion_tokens or 0
    dollars = prompt / 0.86 * 1000 / 1e6 + reply * 500 / 1e6
    high = {"calls": 6, "prompt_tokens": prompt / 0.86, "completion_tokens": reply, "usd": dollars}
    assert row.high == pytest.approx(high)
    assert row.low["prompt_tokens"] == pytest.approx(prompt / 1.51)
    assert row.low["completion_tokens"] == pytest.approx(reply / 25)


def test_past_results_state_their_spread() -> None:
    two = Past(2, 99.0, 1, {"calls": 5.0, "usd": 1.0}, {"calls": 0.0, "usd": 1.0})
    assert two.times("usd", 2) == pytest.approx(exp(3.0777), rel=1e-4)
    assert 1.1 < replace(two, results=200, freedom=199).times("usd", 200) < 1.2
    assert two.times("calls", 2) == 1


@pytest.mark.parametrize(("past", "n"), [(2, 2), (2, 20), (10, 20), (50, 10)])
@pytest.mark.parametrize("sigma", [0.1, 0.3, 0.6])
def test_ranges_from_past_results_hold_8_of_10(past: int, n: int, sigma: float) -> None:
    """What answers take is skewed; four such rows together are held as often."""
    draw, rows, single, total = Random(f"{past} {n} {sigma}"), 4, 0, 0
    for _ in range(500):
        said, took = [], 0.0
        for _ in range(rows):
            before, after = (
                [draw.lognormvariate(0, sigma) for _ in range(count)] for count in (past, n)
            )
            middle = mean(before)
            times = Past(past, 99.0, past - 1, {}, {"calls": stdev(before) / middle}).times(
                "calls", n
            )
            ends = {"low": {"calls": n * middle / times}, "high": {"calls": n * middle * times}}
            said.append(Expected("a", 600, n, "past", calls=n * middle, **ends))
            took += sum(after)
            single += ends["low"]["calls"] <= sum(after) <= ends["high"]["calls"]
        all_ = together(said)
        total += all_.low["calls"] <= took <= all_.high["calls"]
    assert 0.75 < single / (500 * rows) < 0.86
    assert total / 500 > 0.75


def test_rows_that_are_off_by_chance_even_out_and_others_do_not() -> None:
    ends = {"low": {"calls": 6.0, "usd": 1.0}, "high": {"calls": 14.0, "usd": 5.0}}
    past = [Expected("a", n, 2, "past", calls=10.0, usd=2.0, **ends) for n in (600, 900)]
    bound = Expected("b", 600, 2, "limits", low={"calls": 2.0}, high={"calls": 20.0})
    all_ = together([*past, bound])
    assert all_.high == {"calls": pytest.approx(20 + 32**0.5 + 20)}
    assert all_.low["calls"] == pytest.approx(20 - 32**0.5 + 2)
    refuse_over_cap(past, cap_usd=4 + 18**0.5 + 0.01, spent_usd=0.0)
    with pytest.raises(ConfigError, match=r"up to \$8.24 more is estimated"):
        refuse_over_cap(past, cap_usd=4 + 18**0.5 - 0.01, spent_usd=0.0)


def test_after_a_run_one_sees_what_stayed_within_its_forecast(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with FakeProvider() as provider:
        hosted = [
            *("task=needle", "task.lengths=[600]", "task.n=2", "method=[direct]", "model=litellm"),
            *("model.name=openai/fake", f"model.api_base={provider.api_base}"),
        ]
        assert run_tree(compose_tree([*hosted, f"results_dir={tmp_path}"])) == 0
    assert "within the forecast's ranges: calls 1 of 1, " in capsys.readouterr().out
    (path,) = tmp_path.glob("*/forecast.csv")
    (row,) = csv.DictReader(path.open(encoding="utf-8"))
    assert (row["method"], row["target_tokens"], row["from"]) == ("direct", "600", "sizes")
    shown = [row[f"calls_{which}"] for which in ("forecast", "low", "high", "took", "within")]
    assert shown == ["2", "2", "2", "2.0", "True"]


def test_all_lengths_of_an_arm_tell_how_much_its_answers_vary() -> None:
    columns = [column for name, column in MEASURES.items() if name not in ("calls", "usd")]
    took = {600: (8, 12), 900: (100, 100), 1200: (7,)}
    rows = [
        {"result_key": f"{length} {i}", "target_tokens": length, "calls": calls, "cost_usd": None}
        | dict.fromkeys(columns, 1)
        | {"length_tokens": length}
        for length, values in took.items()
        for i, calls in enumerate(values)
    ]
    past = _past([pd.DataFrame(rows[:2]), pd.DataFrame(rows)])
    assert [(p.results, p.freedom, p.mean["calls"]) for p in past.values()] == [
        (2, 2, 10),
        (2, 2, 100),
        (1, 2, 7),
    ]
    for p in past.values():
        assert p.variation["calls"] == pytest.approx(((0.2**2 + 0.2**2) / 2) ** 0.5)
        assert "usd" not in p.mean, "unpriced"
    (alone,) = _past([pd.DataFrame(rows[-1:])]).values()
    assert (alone.freedom, alone.variation["calls"]) == (0, 1)


def test_limits_bound_what_no_size_tells(tmp_path: Path) -> None:
    class Open(Method):
        most: tuple[Forecast, ...] | None = (Forecast(9, 900, 90),)

        def bounds(self, shape: Shape, models: Mapping[Role, ModelInfo]) -> Bounds:
            return (Forecast(1, 10, 1),), self.most

    root = {"root": Priced(Price(input=1000.0, output=0.0), reasoning_tokens=100)}
    method = Open()
    parts = parts_of(tmp_path, method, models=root)
    row = rows_of(parts, tmp_path)[0]
    assert (row.source, row.calls, row.usd) == ("limits", None, None)
    assert (row.low["calls"], row.high["calls"]) == (2, 18)
    assert (row.low["completion_tokens"], row.high["completion_tokens"]) == (2, 2 * (90 + 900))
    assert row.high["usd"] == pytest.approx(1.8)
    capped = replace(parts, sample_budget=Budget(usd=0.5, tokens=200))
    assert rows_of(capped, tmp_path)[0].high["usd"] == pytest.approx(0.4)
    method.most = (Forecast(9, 900, 90, assumed=True),)
    assert rows_of(parts, tmp_path)[0].source == "assumed"
    row = rows_of(replace(parts, sample_budget=Budget(calls=3)), tmp_path)[0]
    assert (row.source, row.high["calls"], row.high["prompt_tokens"]) == ("limits", 6, 600)
    method.most = None
    assert "usd" not in rows_of(parts, tmp_path)[0].high
    assert rows_of(capped, tmp_path)[0].high["usd"] == pytest.approx(0.4)


def test_a_dry_run_needs_no_key_and_names_the_pilot(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    given = ["task=needle", "task.n=50", "task.lengths=[600]", "method=[rlm]", "model=gpt-5"]
    monkeypatch.setattr(sys, "argv", ["rlm_eval", *given, "dry_run=true"])
    arguments = [*given, f"results_dir={tmp_path}"]
    assert run_tree(compose_tree([*arguments, "dry_run=true"])) == 0
    shown = capsys.readouterr().out.splitlines()
    assert "no key: set OPENAI_API_KEY before the run" in shown
    pilot = "task=needle 'task.lengths=[600]' 'method=[rlm]' model=gpt-5 task.n=2"
    assert any(f"rlm_eval {pilot} stop_on_forecast=false" in line for line in shown)
    assert not list(tmp_path.iterdir())
    with pytest.raises(ConfigError, match="OPENAI_API_KEY"):
        run_tree(compose_tree(arguments))


def test_a_dry_run_says_what_would_not_begin(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    given = ["task=needle", "task.lengths=[60000]", "method=[direct]", "model=gpt-5"]
    given += [f"results_dir={tmp_path}", "dry_run=true"]
    for more, refused in (([], False), (["budget.run.usd=0.1"], True)):
        assert run_tree(compose_tree([*given, *more])) == 0
        told = "it would not begin: this run may pass budget.run.usd=0.1" in capsys.readouterr().out
        assert told is refused


def test_inputs_are_cut_in_the_plan_by_the_margin_that_the_run_cuts_them_by(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    server = ["model=vllm", "model.name=x", "model.api_base=http://127.0.0.1:9/v1"]
    given = [*server, "task=needle", "task.lengths=[28000]", "method=[direct]", "dry_run=true"]
    for margin, cut in ((1.0, False), (1.3, True)):
        words = [*given, f"model.token_margin={margin}", f"results_dir={tmp_path}"]
        assert run_tree(compose_tree(words)) == 0
        assert ("inputs are too large: cut to some" in capsys.readouterr().out) is cut


def test_a_seed_that_draws_nothing_is_said_to_have_no_effect(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = [{"question": "Which?", "answer": "red", "context": "It is red."}]
    (tmp_path / "rows.jsonl").write_text("\n".join(map(json.dumps, rows)))
    own = ["task=own", f"task.path={tmp_path}/rows.jsonl"]
    for task, idle in ((own, True), (["task=needle"], False)):
        words = [*task, "model=scripted", "method=[direct]", "seed=7", "dry_run=true"]
        assert run_tree(compose_tree([*words, f"results_dir={tmp_path}"])) == 0
        shown = " ".join(capsys.readouterr().out.split())
        assert ("seed=7 has no effect on task own" in shown) is idle


def test_results_that_are_there_are_not_forecast_again(tmp_path: Path) -> None:
    arguments = [*SMALL, "method=[direct]", f"results_dir={tmp_path}"]
    assert run_tree(compose_tree(arguments)) == 0
    tree = check_config(compose_tree(arguments))
    experience = Experience(tree.tree, [tmp_path], {})
    past = experience.nearest("direct", 600)
    assert past is not None
    assert (past[0], past[1].mean["calls"]) == (600, 1)
    config = json.loads(json.dumps(tree.tree))
    config["method"]["direct"]["prompt"] = "another"
    assert Experience(config, [tmp_path], {}).nearest("direct", 600) is None


def test_what_another_run_of_the_same_setting_holds_is_not_planned_again(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    into = f"results_dir={tmp_path}"
    assert run_tree(compose_tree([*SMALL, "method=[direct]", into])) == 0
    capsys.readouterr()
    assert run_tree(compose_tree([*SMALL, "method=[direct,no_context]", into, "dry_run=true"])) == 0
    shown = capsys.readouterr().out
    assert "4 results to make (4 are there, 4 of them in other runs)" in shown
    arms = {line.split()[0] for line in shown.splitlines() if line.strip()}
    assert "no_context" in arms
    assert "direct" not in arms


def test_the_line_at_the_start_has_no_upper_end_that_is_a_mere_limit() -> None:
    sized = {"calls": 2.0, "prompt_tokens": 900.0, "completion_tokens": 40.0, "seconds": 8.0}
    own = {name: 2 * value for name, value in sized.items()}
    direct = Expected("direct", 600, 2, "sizes", low=sized, high=own)
    rlm = Expected("rlm", 600, 2, "limits", low=sized, high={**own, "seconds": 9e6})
    assert in_one_line([direct], 1) == (
        "forecast: 2 – 4 calls, 900 – 1.8k prompt tokens, 40 – 80 reply tokens, – USD, 0:08 – 0:16"
    )
    assert in_one_line([direct], 16).endswith("0:04 – 0:08")  # there are but two
    assert in_one_line([direct, rlm], 1) == (
        "forecast: ≥ 4 calls, ≥ 1.8k prompt tokens, ≥ 80 reply tokens, – USD, ≥ 0:16; no more than "
        "limits is known of rlm (dry_run=true)"
    )


def test_a_published_run_of_just_this_setting_is_found(tmp_path: Path) -> None:
    def made(*overrides: str) -> Parts:
        return assemble(check_config(compose_tree([*SMALL, "method=[direct]", *overrides])))

    at = f"results_dir={tmp_path}/evidence"
    for folder, seed in (("evidence", 1), ("evidence", 2), ("own", 2)):
        tree = compose_tree(
            [*SMALL, "method=[direct]", f"results_dir={tmp_path}/{folder}", f"seed={seed}"]
        )
        assert run_tree(tree) == 0
    published, mine = (
        made(at, "seed=2"),
        made(f"results_dir={tmp_path}/own", "seed=2", "concurrency=3"),
    )
    assert published_runs(mine.config, mine.folder, tmp_path / "evidence") == [published.folder]
    assert published_runs(published.config, published.folder, tmp_path) == [mine.folder], (
        "one level deeper"
    )
    assert published_runs(made(at, "seed=3").config, published.folder, tmp_path) == []
