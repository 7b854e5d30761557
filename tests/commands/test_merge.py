"""Several runs as one record: each result once, every call paid once, nothing mixed in silence."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import yaml

from helpers.commands import merge as main
from helpers.commands import replay
from helpers.some_records import some_call, some_result, synced, tables
from rlm_eval.analysis.load import load_results
from rlm_eval.commands.sweep import Source, merge
from rlm_eval.config.compose import compose_tree, recorded_tree
from rlm_eval.errors import ConfigError
from rlm_eval.journal.journal import FILE_NAME, Journal, read_events
from rlm_eval.journal.past import finished_beside, past_of, reuse
from rlm_eval.journal.tables import write_tables
from rlm_eval.ledger import Spend

TREE = compose_tree(["model=scripted", "task=needle", "method=[direct,rag_bm25]"])


def shard(
    folder: Path,
    *keys: str,
    revision: str = "one",
    fingerprint: str = "one",
    restarts: int = 1,
    **settings: Any,
) -> Path:
    """A run with these results, the last of ``restarts`` tries each; a try is a call of $0.25."""
    with Journal(folder) as journal:
        for key in keys:
            for restart in range(restarts):
                call = some_call(f"{folder.name}-{key}-{restart}", result_key=key, restart=restart)
                outcome = "answered" if restart == restarts - 1 else "provider_error"
                result = some_result(
                    key, outcome, restart=restart, run_id=folder.name, code_revision=revision
                )
                journal.begin(key, restart)
                journal.call(call, "seven")
                journal.result(result)
    tree = json.loads(json.dumps(TREE))
    for dotted, value in settings.items():
        *path, last = dotted.split("__")
        node = tree
        for step in path:
            node = node[step]
        node[last] = value
    (folder / "config.yaml").write_text(yaml.safe_dump(tree, sort_keys=False))
    fingerprints = dict.fromkeys(TREE["method"], fingerprint)
    record = {"code_revision": revision, "python": "3.11", "fingerprints": fingerprints}
    (folder / "environment.json").write_text(json.dumps(record))
    for key in keys:
        (folder / "trajectories" / f"{key}.jsonl").write_text(f'"{folder.name}"\n')
    return folder


def environment(folder: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((folder / "environment.json").read_text())
    return found


def test_shards_become_one_record_that_everything_reads(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The originals stay as they are."""
    runs = [shard(tmp_path / "a", "r1", "r2"), shard(tmp_path / "b", "r3", shards=2, shard=2)]
    before = {p: p.read_bytes() for run in runs for p in run.rglob("*") if p.is_file()}
    out = tmp_path / "all" / "merged"
    assert main([*map(str, runs), "--out", str(out)]) == 0
    assert capsys.readouterr().out.splitlines() == [str(out)]
    frame = load_results(out)
    assert sorted(frame.result_key) == ["r1", "r2", "r3"]
    assert dict(zip(frame.result_key, frame.run_id, strict=True)) == {
        "r1": "a",
        "r2": "a",
        "r3": "b",
    }
    assert frame.cost_usd.tolist() == [0.25] * 3
    assert past_of(out).done == {"r1", "r2", "r3"}
    assert past_of(out).spent == Spend(3, 330, 0.75)
    assert sorted(p.stem for p in (out / "trajectories").iterdir()) == ["r1", "r2", "r3"]
    assert environment(out)["code_revision"] == "one"
    assert environment(out)["merged"] == {"runs": ["a", "b"]}
    assert replay([str(out)]) == 0
    assert {p: p.read_bytes() for p in before} == before
    assert not list(out.parent.glob(".*"))


def test_the_joined_record_is_synced(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    runs, held = [shard(tmp_path / name, name) for name in "ab"], synced(monkeypatch)
    merge(runs, tmp_path / "out")
    assert held[-1:] == [(tmp_path / "out" / FILE_NAME).read_bytes()]


def test_a_result_measured_twice_counts_once_and_is_paid_twice(tmp_path: Path) -> None:
    """The first run's row stands, with its own calls only; the second's are earlier tries."""
    a, b = shard(tmp_path / "a", "r1", restarts=2), shard(tmp_path / "b", "r1", "r2", restarts=3)
    merge([a, b], tmp_path / "out")
    results, calls = tables(tmp_path / "out")
    assert results.result_key.tolist() == ["r1", "r2"]
    assert (results.run_id[0], results.calls[0], results.cost_usd[0]) == ("a", 1, 0.25)
    assert (results.run_id[1], results.calls[1]) == ("b", 1)
    assert len(calls) == 2 + 3 + 3
    of_r1 = calls[calls.result_key == "r1"].sort_values("restart")
    assert of_r1.call_id.tolist() == ["b-r1-0", "b-r1-1", "b-r1-2", "a-r1-0", "a-r1-1"]
    assert of_r1.restart.tolist() == [0, 1, 2, 3, 4]
    assert past_of(tmp_path / "out").spent.usd == 8 * 0.25
    assert past_of(tmp_path / "out").restarts == {"r1": 5, "r2": 3}
    write_tables(read_events(tmp_path / "out", ("result", "call")), tmp_path / "out")
    assert load_results(tmp_path / "out").started_at.notna().all()


def test_a_finished_result_goes_before_a_pending_one(tmp_path: Path) -> None:
    a = shard(tmp_path / "a")
    with Journal(a) as journal:
        journal.begin("r1", 0)
        journal.result(some_result("r1", "provider_error", run_id="a", code_revision="one"))
    b = shard(tmp_path / "b", "r1")
    merge([a, b], tmp_path / "out")
    assert past_of(tmp_path / "out").done == {"r1"}
    assert (tmp_path / "out/trajectories/r1.jsonl").read_text() == '"b"\n'


def test_what_was_taken_over_is_there_once_and_paid_once(tmp_path: Path) -> None:
    """Whichever is named first, the run that measured it has it."""
    a, b = shard(tmp_path / "a", "r1"), shard(tmp_path / "b", "r2")
    with Journal(b) as journal:
        reuse(finished_beside(b, {"r1"}), past_of(b), journal, {})
    for number, runs in enumerate(([a, b], [b, a])):
        out = tmp_path / f"out{number}"
        merge(runs, out)
        results, calls = tables(out)
        assert results.calls.tolist() == [1, 1]
        assert sorted(calls.call_id) == ["a-r1-0", "b-r2-0"]
        assert past_of(out).spent == Spend(2, 220, 0.5)
        assert not any("reused_from" in event for event in read_events(out))


@pytest.mark.parametrize("snapshot_first", [True, False])
def test_an_older_copy_of_a_run_adds_nothing(tmp_path: Path, snapshot_first: bool) -> None:
    """Taken while a result was being made: two of its calls, not yet the third nor the result."""
    a = shard(tmp_path / "a")
    with Journal(a) as journal:
        journal.begin("r1", 0)
        for call_id in ("x", "y"):
            journal.call(some_call(call_id), "seven")
        shutil.copytree(a, tmp_path / "copy")
        journal.call(some_call("z"), "seven")
        journal.result(some_result("r1", code_revision="one"))
    runs = [tmp_path / "copy", a] if snapshot_first else [a, tmp_path / "copy"]
    merge(runs, tmp_path / "out")
    results, calls = tables(tmp_path / "out")
    assert (results.calls.tolist(), results.cost_usd.tolist()) == ([3], [0.75])
    assert sorted(calls.call_id) == ["x", "y", "z"]
    assert past_of(tmp_path / "out").spent == Spend(3, 330, 0.75)


def test_what_was_taken_over_from_elsewhere_stays_unpaid(tmp_path: Path) -> None:
    a, b = shard(tmp_path / "a", "r1"), shard(tmp_path / "b", "r2")
    with Journal(b) as journal:
        reuse(finished_beside(b, {"r1"}), past_of(b), journal, {})
    merge([b, shard(tmp_path / "c", "r3")], tmp_path / "out")
    assert past_of(tmp_path / "out").done == {"r1", "r2", "r3"}
    assert past_of(tmp_path / "out").spent == Spend(2, 220, 0.5)
    assert a.is_dir()


def test_what_was_taken_over_twice_after_a_kill_keeps_its_calls(tmp_path: Path) -> None:
    a, b = shard(tmp_path / "a", "r1"), shard(tmp_path / "b", "r2")
    for _ in range(2):
        with Journal(b) as journal:
            reuse(finished_beside(b, {"r1"}), past_of(b), journal, {})
    merge([b, shard(tmp_path / "c", "r3")], tmp_path / "out")
    results, _ = tables(tmp_path / "out")
    assert results.calls.tolist() == [1, 1, 1]
    assert past_of(tmp_path / "out").spent == Spend(2, 220, 0.5)
    assert a.is_dir()


@pytest.mark.parametrize(
    ("other", "told"),
    [
        ({"revision": "two"}, "differ in their sources"),
        ({"fingerprint": "two"}, "differ in their sources, or the texts, weights"),
        ({"seed": 3}, "differ in seed"),
        ({"task__n": 9}, "differ in task.n"),
        ({"method": {"direct": TREE["method"]["direct"]}}, "differ in method.rag_bm25"),
        ({"method__direct__overflow": "refuse"}, "differ in method.direct.overflow"),
        ({"model__context_window": 7}, "differ in model.context_window"),
        ({"temperature": 0.5}, "differ in temperature"),
        ({"budget__sample__calls": 3}, "differ in budget.sample.calls"),
    ],
)
def test_what_can_not_be_compared_is_not_joined(
    tmp_path: Path, other: dict[str, Any], told: str, capsys: pytest.CaptureFixture[str]
) -> None:
    runs = [shard(tmp_path / "a", "r1"), shard(tmp_path / "b", "r2", **other)]
    arguments = [*map(str, runs), "--out", str(tmp_path / "out")]
    assert main(arguments) == 2
    assert told in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_a_result_with_a_damaged_call_is_not_joined(tmp_path: Path) -> None:
    a, b = shard(tmp_path / "a", "r1", "r2"), shard(tmp_path / "b", "r3")
    path = a / FILE_NAME
    path.write_text(path.read_text().replace('"a-r1-0"', '"a-r1-9"'))
    merge([a, b], tmp_path / "out")
    assert past_of(tmp_path / "out").done == {"r2", "r3"}
    results, _ = tables(tmp_path / "out")
    assert results.result_key.tolist() == ["r2", "r3"]


def test_how_a_run_was_carried_out_is_no_difference(tmp_path: Path) -> None:
    a = shard(tmp_path / "a", "r1", concurrency=1, results_dir="here", budget__run__usd=1)
    b = shard(tmp_path / "b", "r2", concurrency=8, results_dir="there", budget__run__usd=2)
    merge([a, b], tmp_path / "out")
    joined = recorded_tree(tmp_path / "out")
    assert (joined["shards"], joined["shard"]) == (1, None)
    assert environment(tmp_path / "out")["merged"] == {"runs": ["a", "b"]}


@pytest.mark.parametrize(
    ("runs", "told"),
    [(["a"], "two runs or more"), (["a", "a"], "two runs or more"), (["a", "no"], "no journal")],
)
def test_bad_input_is_one_line(
    tmp_path: Path, runs: list[str], told: str, capsys: pytest.CaptureFixture[str]
) -> None:
    shard(tmp_path / "a", "r1")
    assert main([*(str(tmp_path / run) for run in runs), "--out", str(tmp_path / "out")]) == 2
    assert told in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_a_run_that_goes_on_meanwhile_is_taken_as_it_was(tmp_path: Path) -> None:
    first = shard(tmp_path / "a", "r1", "r2")
    source = Source(first)
    before = list(source.events())
    with Journal(first) as journal:
        journal.begin("a new key", 0)
    assert list(source.events()) == before


def test_nothing_is_written_over(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "empty").mkdir()
    monkeypatch.chdir(tmp_path / "empty")
    a, b = shard(tmp_path / "a", "r1"), shard(tmp_path / "b", "r2")
    for out in (a, tmp_path / "a" / "config.yaml", Path()):
        with pytest.raises(ConfigError, match="is there already"):
            merge([a, b], out)
