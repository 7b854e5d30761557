"""Reading runs back: one, several, a glob, and what tells their arms apart."""

from __future__ import annotations

import json
from pathlib import Path

import pandas as pd
import pytest

from helpers.fake_results import handmade, write_run
from rlm_eval.analysis import arms
from rlm_eval.analysis.aggregate import summarize, with_readings
from rlm_eval.analysis.load import COLUMNS, find_runs, load_results, load_run
from rlm_eval.analysis.report.views import SUMMARY
from rlm_eval.errors import ConfigError

SMALL = {"contexts": 4, "questions": 1, "lengths": (1000,), "methods": ("direct", "rlm")}


def config(max_depth: int = 1, **more: object) -> dict[str, object]:
    return {"method": {"direct": {}, "rlm": {"max_depth": max_depth}}} | more


def recorded(run: Path, **more: object) -> Path:
    """The run with ``more`` in its environment.json."""
    path = run / "environment.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | more))
    return run


def test_columns_are_the_documented_ones(tmp_path: Path) -> None:
    results = load_results(write_run(tmp_path / "a", config(), **SMALL))
    assert list(results.columns) == list(COLUMNS)
    assert results["code_revision"].unique().tolist() == ["abc123"]
    assert results["started_at"].min() == 1_763_800_000


@pytest.mark.parametrize("name", ["environment.json", "config.yaml"])
def test_a_runs_file_that_is_a_link_is_not_read(tmp_path: Path, name: str) -> None:
    run = write_run(tmp_path / "a", config(), **SMALL)
    (run / name).rename(tmp_path / "secret")
    (run / name).symlink_to(tmp_path / "secret")
    with pytest.raises(ConfigError, match="is a link"):
        load_run(run)


def test_what_other_rules_say_comes_last_a_column_each(tmp_path: Path) -> None:
    """A run without such a reading leaves it unknown."""
    for name, reading in (("a", "score_f1"), ("b", "score_strict")):
        table = write_run(tmp_path / name, config(), run_id=name, **SMALL) / "results.parquet"
        pd.read_parquet(table).assign(**{reading: 0.25}).to_parquet(table)
    results = load_results(tmp_path / "*")
    assert list(results.columns) == [*COLUMNS, "score_f1", "score_strict"]
    assert results["score_f1"].notna().sum() == results["score_strict"].isna().sum() == 8
    table = summarize(results)
    assert table["score_f1"].max() == pytest.approx(0.25)
    shown = [column.heading for column in with_readings(SUMMARY.columns, table)]
    assert {"f1 %", "strict %"} <= set(shown)


def test_several_runs_can_be_named_at_once(tmp_path: Path) -> None:
    for name in "ab":
        write_run(tmp_path / name, config(), run_id=name, **SMALL)
    assert len(load_results([tmp_path / "a", str(tmp_path / "*")])) == 16
    with pytest.raises(ConfigError, match="no run was named"):
        load_results([])


@pytest.mark.parametrize("source", ["a", "a/results.parquet", "*", "*/results.parquet", "**"])
def test_a_run_can_be_named_in_many_ways(tmp_path: Path, source: str) -> None:
    write_run(tmp_path / "a", config(), **SMALL)
    assert len(load_results(str(tmp_path / source))) == 8


def test_arms_of_one_name_and_different_settings_stay_apart(tmp_path: Path) -> None:
    write_run(tmp_path / "a", config(1), run_id="a", **SMALL)
    write_run(tmp_path / "b", config(2), run_id="b", **SMALL)
    results = load_results(tmp_path / "*")
    assert results["arm"].unique().tolist() == ["direct", "rlm (max_depth=1)", "rlm (max_depth=2)"]


def test_a_role_that_the_root_model_plays_is_named_once(tmp_path: Path) -> None:
    for name in "ab":
        run = write_run(tmp_path / name, config(), run_id=name, model=name, **SMALL)
        recorded(run, models={"rlm": {"root": name, "sub": name, "summarize": name}})
    found = load_results(tmp_path / "*")["arm"].unique().tolist()
    assert found == ["direct (model=a)", "rlm (model=a)", "direct (model=b)", "rlm (model=b)"]


def test_an_arm_is_one_whether_or_not_it_needed_a_model_of_a_role_of_its_own(
    tmp_path: Path,
) -> None:
    models = {"direct": {"root": "m"}, "rlm": {"root": "m", "sub": "m", "summarize": "small"}}
    for name, role in (("a", "sub"), ("b", "summarize")):
        node = {"summarize_model": {"name": "small"}}
        run = recorded(
            write_run(tmp_path / name, config(**node), run_id=name, **SMALL), models=models
        )
        calls = pd.read_parquet(run / "calls.parquet")
        calls["role"] = calls["role"].where(calls["role"] != "sub", role)
        calls["model"] = calls["model"].where(calls["role"] != "summarize", "small")
        calls.to_parquet(run / "calls.parquet")
    assert load_results(tmp_path / "*")["arm"].unique().tolist() == ["direct", "rlm"]


def test_an_arm_without_sub_calls_is_one_whatever_the_runs_sub_model_is(tmp_path: Path) -> None:
    models = {"direct": {"root": "m"}, "rlm": {"root": "m", "sub": "…"}}
    for window, name in enumerate("ab", 1000):
        node = config(sub_model={"context_window": window})
        run = recorded(write_run(tmp_path / name, node, run_id=name, **SMALL), models=models)
        results = pd.read_parquet(run / "results.parquet")
        results.assign(sub_model=name).to_parquet(run / "results.parquet")
    found = load_results(tmp_path / "*")["arm"].unique().tolist()
    assert found == [
        "direct",
        "rlm (sub_model=a, sub_model.context_window=1000)",
        "rlm (sub_model=b, sub_model.context_window=1001)",
    ]


def test_an_arm_is_one_whatever_others_a_run_has(tmp_path: Path) -> None:
    """Their sources are the run's, and none of the arm's."""
    for name in "ab":
        run = write_run(tmp_path / name, config(), run_id=name, **SMALL)
        revisions = {"direct": "same", "rlm": f"rlm {name}"}
        recorded(run, code_revision=name, revisions=revisions)
    found = load_results(tmp_path / "*")["arm"].unique().tolist()
    assert found == ["direct", "rlm (revision=rlm a)", "rlm (revision=rlm b)"]


def test_what_an_index_took_is_known_with_and_without_texts(tmp_path: Path) -> None:
    folder = write_run(tmp_path / "a", config(), **SMALL)
    calls = pd.read_parquet(folder / "calls.parquet")
    calls["role"] = calls["role"].where(calls["role"] != "sub", "embed")
    calls.to_parquet(folder / "calls.parquet")
    took = calls.loc[calls["role"] == "embed", "prompt_tokens"].sum()
    for texts in (True, False):
        found = load_run(folder, texts=texts).results
        assert found["embed_tokens"].sum() == took > 0
        assert (found["tokens"] - found["own_tokens"]).sum() == pytest.approx(took)


@pytest.mark.parametrize(
    ("key", "one", "two"),
    [
        ("context_window", 8192, 32768),
        ("reasoning_tokens", 0, 4096),
        ("api_base", "http://gpu-node-of-the-cluster-1/v1", "http://gpu-node-of-the-cluster-2/v1"),
    ],
)
def test_arms_of_a_model_with_other_settings_stay_apart(
    tmp_path: Path, key: str, one: object, two: object
) -> None:
    for name, value in (("a", one), ("b", two)):
        write_run(tmp_path / name, config(model={key: value}), run_id=name, **SMALL)
    assert load_results(tmp_path / "*")["arm"].nunique() == 4


def test_arms_with_another_text_under_one_prompts_name_stay_apart(tmp_path: Path) -> None:
    for name in "ab":
        run = write_run(tmp_path / name, config(), run_id=name, **SMALL)
        recorded(run, prompts={"rlm": f"hash {name}", "direct": "h"})
    found = load_results(tmp_path / "*")["arm"].unique().tolist()
    assert found == ["direct", "rlm (prompt_hash=hash a)", "rlm (prompt_hash=hash b)"]


def test_arms_by_other_judges_or_weights_under_one_name_stay_apart(tmp_path: Path) -> None:
    for name in "ab":
        made = config() | {"model": {"name": "m", "gguf": "mine.gguf"}}
        run = write_run(tmp_path / name, made, run_id=name, **SMALL)
        recorded(run, judge_prompt=f"prompt {name}", model_sha256=f"weights {name}")
    found = load_results(tmp_path / "*")["arm"].unique().tolist()
    assert len(found) == 4
    assert "rlm (model.sha256=weights a, judge_prompt=prompt a)" in found


def test_arms_are_named_by_what_tells_them_apart_to_a_reader(tmp_path: Path) -> None:
    first = {"_target_": "my_methods.Rlm", "child_model": "sub"}
    second = {"_target_": "rlm_eval.methods.rlm.Rlm", "matched": False, "max_usd": None}
    for name, arm, caps in (("a", first, {}), ("b", first | second, {"tokens": 6000})):
        made = {"method": {"rlm": arm, "direct": {}}, "budget": {"sample": caps}}
        write_run(tmp_path / name, made, run_id=name, model=f"model-{name}", **SMALL)
    found = set(load_results(tmp_path / "*")["arm"])
    assert found == {
        *("direct (model=model-a)", "direct (tokens=6000, model=model-b)"),
        *("rlm (model=model-a)", "rlm (tokens=6000, model=model-b)"),
    }


def test_arms_that_differ_in_many_settings_say_three_and_that_there_are_more(
    tmp_path: Path,
) -> None:
    for name, value in (("a", 1), ("b", 2)):
        arm = dict.fromkeys(("alpha", "beta", "gamma", "omega"), value)
        made = {"method": {"rlm": arm, "direct": {"matched": name == "b"}}}
        write_run(tmp_path / name, made, run_id=name, **SMALL)
    found = load_results(tmp_path / "*")["arm"].unique().tolist()
    assert "rlm (alpha=1, beta=1, gamma=1, …)" in found
    assert "direct (matched=True)" in found  # nothing else differs


def test_equal_results_of_two_runs_count_once(tmp_path: Path) -> None:
    for folder in ("a", "b"):
        write_run(tmp_path / folder, config(), **SMALL)
    assert len(load_results(tmp_path / "*")) == 8


@pytest.mark.parametrize(("order", "kind"), [("ab", "rlm"), ("ba", "alternative")])
def test_an_arm_has_one_kind_that_of_the_last_run(tmp_path: Path, order: str, kind: str) -> None:
    for name, settings in (("a", {}), ("b", {"kind": "rlm"})):
        made = {"method": {"direct": settings, "rlm": {}}}
        write_run(tmp_path / name, made, run_id=name, **SMALL)
    results = load_results([tmp_path / name for name in order])
    assert set(results.loc[results["method"] == "direct", "arm_kind"]) == {kind}


@pytest.mark.parametrize(
    ("units", "counted"),
    [
        (("question", "question"), "sample_id"),
        (("question", "context"), "context_id"),
        (("context", "question"), "context_id"),
    ],
)
def test_questions_count_by_themselves_where_every_run_of_the_task_says_so(
    tmp_path: Path, units: tuple[str, str], counted: str
) -> None:
    for name, unit in zip("ab", units, strict=True):
        write_run(tmp_path / name, config(analysis={"unit": unit}), run_id=name, **SMALL)
    results = load_results(tmp_path / "*")
    assert (results["unit_id"] == results[counted]).all()


def test_budgets_tell_arms_apart_and_are_named(tmp_path: Path) -> None:
    for tokens in (100, 200):
        caps = {"budget": {"run": {"usd": 3}, "sample": {"tokens": tokens, "usd": None}}}
        write_run(tmp_path / str(tokens), config(**caps), run_id=str(tokens), **SMALL)
    results = load_results(tmp_path / "*")
    assert results["budget"].unique().tolist() == ["tokens=100", "tokens=200"]
    assert "rlm (tokens=100)" in set(results["arm"])


@pytest.mark.parametrize(
    ("method", "target", "expected"),
    [
        ("rlm", "", "rlm"),
        ("rlm_d3", "rlm_eval.methods.rlm.Rlm", "rlm"),
        ("deep", "rlm_eval.methods.rlm.Rlm", "rlm"),
        ("rlms", "rlm_eval.methods.foreign.packages.Rlms", "rlm"),
        ("rlm_without_shortcuts", "my_methods.Deep", "rlm"),
        ("deep", "my_methods.MyRLM", "rlm"),
        ("direct", "rlm_eval.methods.direct.Direct", "direct"),
        ("votes", "rlm_eval.methods.direct.Direct", "direct"),
        ("rag_hybrid", "rlm_eval.methods.rag.rag.Rag", "retrieval"),
        ("mine", "my_methods.RagOverPages", "retrieval"),
        ("agent", "rlm_eval.methods.summarize.compaction.Compaction", "summaries"),
        ("codeact_bm25", "rlm_eval.methods.codeact.CodeAct", "code"),
        ("codeact_subcalls", "", "code"),
        ("no_context", "rlm_eval.methods.direct.Direct", "control"),
        ("code_oracle", "rlm_eval.methods.controls.ScriptedSolver", "control"),
        ("theirs", "rlm_eval.methods.foreign.command.ForeignCommand", "other"),
        ("plain", "my_rlm_bench.plain.Plain", "other"),
        ("paragraphs", "my_methods.Paragraphs", "other"),
        ("constantine", "my_methods.Constantine", "other"),
        ("indirect", "", "other"),
    ],
)
def test_families(method: str, target: str, expected: str) -> None:
    assert arms.family(method, target) == expected


def test_a_method_without_a_model_bears_no_models_name(tmp_path: Path) -> None:
    folder = write_run(tmp_path / "a", config(), scripted=True, **SMALL)
    table = pd.read_parquet(folder / "results.parquet")
    oracle = table["method"] == "direct"
    table["method"] = table["method"].where(~oracle, "code_oracle")
    table["protocol"] = table["protocol"].where(~oracle, "no model")
    table.to_parquet(folder / "results.parquet")
    results = load_results(folder)
    assert results["arm"].drop_duplicates().tolist() == ["rlm", "code_oracle"]  # controls last
    shown = results.groupby("arm").first()
    assert shown.loc["code_oracle", ["model", "sub_model", "scripted"]].tolist() == ["", "", False]
    assert shown.loc["rlm", "model"] == "simulated-model"
    assert arms.marks(results) == {
        ("aggregation", "rlm"): "rlm (scripted)",
        ("aggregation", "code_oracle"): "code_oracle (control, no model)",
    }


def test_another_judge_or_embedder_makes_another_arm(tmp_path: Path) -> None:
    for name in ("small", "large"):
        run = write_run(tmp_path / name, config(), run_id=name, **SMALL)
        recorded(run, models={"rlm": {"root": "m", "sub": "m", "judge": name}})
    found = load_results(tmp_path / "*")["arm"].unique().tolist()
    assert found == ["direct", "rlm (judge_model.name=large)", "rlm (judge_model.name=small)"]


def test_a_table_of_another_schema_is_refused(tmp_path: Path) -> None:
    folder = write_run(tmp_path / "a", config(), **SMALL)
    table = pd.read_parquet(folder / "results.parquet")
    table.assign(schema_version=1).to_parquet(folder / "results.parquet")
    with pytest.raises(ConfigError, match="parquet has schema 1, this rlm_eval reads 3"):
        load_run(folder)


def test_arms_are_called_by_their_method_where_no_task_has_two_of_it(tmp_path: Path) -> None:
    write_run(tmp_path / "a", config(1), run_id="a", **SMALL)
    folder = write_run(tmp_path / "b", config(2), run_id="b", **SMALL)
    both = load_results(tmp_path / "*")
    assert arms.by_method(both)["arm"].nunique() == 3
    table = pd.read_parquet(folder / "results.parquet")
    table.assign(task="needle").to_parquet(folder / "results.parquet")
    both = load_results(tmp_path / "*")
    assert both["arm"].nunique() == 3  # frames say it; tables and figures go by task
    assert arms.by_method(both)["arm"].unique().tolist() == ["direct", "rlm"]


def test_two_models_on_two_tasks_are_two_arms_of_a_method(tmp_path: Path) -> None:
    """Each task has sources of its own, which say nothing of a model."""
    for task in ("needle", "multihop"):
        for model in ("large", "small"):
            run = write_run(tmp_path / f"{task}-{model}", config(), run_id=task + model, **SMALL)
            recorded(run, code_revision=task)
            table = pd.read_parquet(run / "results.parquet").assign(task=task, model=model)
            table.to_parquet(run / "results.parquet")
    named = arms.by_method(load_results(tmp_path / "*"))
    for _, rows in named[named["method"] == "rlm"].groupby("task"):
        assert set(rows["arm"]) == {"rlm (model=large)", "rlm (model=small)"}


def test_bad_input_is_one_clear_line(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="does not exist"):
        load_results(tmp_path / "nowhere")
    with pytest.raises(ConfigError, match=r"holds no results\.parquet"):
        load_results(tmp_path)
    write_run(tmp_path / "a", **SMALL)
    table = tmp_path / "a" / "results.parquet"
    pd.read_parquet(table).drop(columns=["gold"]).to_parquet(table)
    with pytest.raises(ConfigError, match=r"give '.*/\*'"):
        load_results(tmp_path)
    with pytest.raises(ConfigError, match="gold"):
        load_results(tmp_path / "a")


def test_arms_keep_the_order_of_the_configuration(tmp_path: Path) -> None:
    order = {"rlm": {}, "direct": {}}
    results = load_results(write_run(tmp_path / "a", {"method": order}, **SMALL))
    assert results["arm"].drop_duplicates().tolist() == ["rlm", "direct"]
    assert results["started_at"].notna().all()


def test_an_answer_counts_before_a_row_that_is_pending(tmp_path: Path) -> None:
    for name, pending in (("a", 0.5), ("b", 0.0)):
        write_run(tmp_path / name, config(), run_id="same", pending=pending, **SMALL)
    assert not load_results(tmp_path / "a")["asked"].all()
    both = load_results(tmp_path / "*")
    assert both["asked"].all()
    assert both["result_key"].is_unique
    assert len(both) == len(load_results(tmp_path / "b"))


@pytest.mark.parametrize(
    ("ours", "theirs", "called"),
    [
        (["hosted_vllm/Qwen/X"], "vllm/Qwen/X", "hosted_vllm/Qwen/X"),
        (["gemini/flash", ""], "google/flash", "gemini/flash"),
        (["gemini/flash"], "google/pro", "google/pro"),
        (["gemini/flash", "vertex_ai/flash"], "google/flash", "google/flash"),
    ],
)
def test_a_log_of_our_samples_has_our_models_name(
    ours: list[str], theirs: str, called: str
) -> None:
    sample = {"context_id": "c", "correct": True}
    rows = [sample | {"method": "rlm", "sample_id": "s", "model": name} for name in ours]
    agent = sample | {"method": "agent", "protocol": "inspect_ai", "model": theirs}
    rows += [agent | {"sample_id": "s"}, agent | {"sample_id": "unknown"}]
    results = handmade(rows)
    found = results[results["method"] == "agent"].set_index("sample_id")["model"]
    assert found.to_dict() == {"s": called, "unknown": called}, "an arm has one model"


def test_calls_of_an_abandoned_try_are_left_out(tmp_path: Path) -> None:
    folder = write_run(tmp_path / "a", config(), **SMALL)
    calls = pd.read_parquet(folder / "calls.parquet")
    again = calls[calls["result_key"] == calls["result_key"].iloc[0]].assign(restart=2)
    pd.concat([calls, again]).to_parquet(folder / "calls.parquet")
    assert len(load_run(folder).calls) == len(calls)


def test_a_run_named_twice_is_one_run(tmp_path: Path) -> None:
    run = write_run(tmp_path / "run", **SMALL)
    assert find_runs(run, f"{run}/../run", tmp_path / "*") == [run]


def test_a_run_that_was_killed_before_it_had_tables_is_said_to_be_left_out(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run, killed = write_run(tmp_path / "run", **SMALL), tmp_path / "killed"
    killed.mkdir()
    (killed / "journal.jsonl").write_text("")
    assert find_runs(tmp_path / "*") == [run]
    assert f"left out: {killed} has no tables" in capsys.readouterr().err
