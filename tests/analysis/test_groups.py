"""Verdicts on several RLM arms said together."""

from __future__ import annotations

import io

from rich.console import Console

from helpers.fake_results import handmade
from rlm_eval.analysis.aggregate import summarize
from rlm_eval.analysis.summary import print_summary
from rlm_eval.analysis.verdicts import grouped, verdicts


def arm(method: str, right: str, **more: object) -> list[dict[str, object]]:
    return [
        {"method": method, "sample_id": f"s{i}", "context_id": f"c{i}", "correct": letter == "r"}
        | {"prompt_tokens": 300 if method.startswith("rlm") else 100}
        | more
        for i, letter in enumerate(right)
    ]


ROWS = (
    arm("direct", "w" * 12 + "rr")
    + arm("rlm", "r" * 14)
    + arm("rlm_d0", "w" * 14)
    + arm("rlm_d2", "r" * 13 + "w")
)


def test_one_line_tells_all_arms_of_a_place() -> None:
    ((headline, _),) = grouped(verdicts(handmade(ROWS)))
    assert headline == (
        "aggregation, 1,000 tokens. Worth it: rlm, rlm_d2. Can't tell at this n: rlm_d0."
    )


def test_groups_follow_lengths_models_and_budgets() -> None:
    other = [r | {"model": "large"} for r in ROWS if r["method"] in ("direct", "rlm")]
    groups = grouped(verdicts(handmade(ROWS + other)))
    assert [len(members) for _, members in groups] == [3, 1]
    assert groups[0][0].startswith("aggregation, 1,000 tokens, m. ")
    assert groups[1][1][0].decision == "worth it"


def shown(rows: list[dict[str, object]], width: int = 80) -> list[str]:
    frame, out = handmade(rows), io.StringIO()
    print_summary(summarize(frame), verdicts(frame), Console(file=out, width=width))
    return out.getvalue().splitlines()


def test_a_terminal_has_a_row_for_each_arm_and_not_a_paragraph() -> None:
    lines = shown(ROWS)
    assert max(map(len, lines)) <= 80
    start = lines.index("Is the RLM worth it?")
    (row,) = [line for line in lines[start:] if line.startswith("rlm_d2")]
    assert row.split()[:4] == ["rlm_d2", "direct", "+78.6", "45"]
    assert "3×" in row
    assert not any("scores +" in line for line in lines)
    assert any("scores +85.7 points" in line for line in shown(ROWS[:28]))  # one arm: in words


def test_controls_stand_below_a_heading_and_one_without_a_model_says_so() -> None:
    oracle = arm("code_oracle", "r" * 14, protocol="no model", scripted=True)
    lines = shown(oracle + arm("no_context", "w" * 14) + ROWS)
    place = lines.index(next(line for line in lines if line.startswith("controls")))
    after = [line.split()[0] for line in lines[place + 1 : place + 3]]
    assert after == ["code_oracle", "no_context"]
    assert lines[place + 1].startswith("code_oracle (no model)")
    assert "unpriced" not in lines[place + 1]
    before = [line.split()[0] for line in lines[place - 4 : place]]
    assert before == ["direct", "rlm", "rlm_d0", "rlm_d2"]


def test_what_a_judge_took_is_said_once_and_in_no_row() -> None:
    rows = [r | {"cost_usd": 0.5, "judge_cost_usd": 0.25} for r in ROWS]
    lines = [line for line in shown(rows) if "judge" in line]
    assert lines == ["Not in these costs, what the judge's calls took: $14.00."]
    assert not any("judge" in line for line in shown(ROWS))
