"""What a run directory already holds: done, begun, spent, and results of runs beside it."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from helpers.recorded_runs import write_events
from helpers.some_records import some_call, some_result, tables, write_one, written
from rlm_eval.commands.sweep import join_shards
from rlm_eval.errors import ConfigError
from rlm_eval.journal.journal import FILE_NAME, Journal, read_events, record_size
from rlm_eval.journal.past import (
    copy_trajectory,
    finished_beside,
    past_of,
    read_trajectory,
    reuse,
)
from rlm_eval.ledger import Spend


def test_the_past_counts_what_is_done_begun_and_spent(tmp_path: Path) -> None:
    with Journal(tmp_path) as journal:
        journal.begin("r1", 0)
        journal.call(some_call("a"), "x")
        journal.call(some_call("a", attempt=2, cost_usd=0.5), "x")
        journal.call(some_call("b", cached_response=True, cost_usd=0.0), "x")
        journal.result(some_result("r1"))
        journal.begin("r2", 0)
        journal.result(some_result("r2", "provider_error"))
        journal.begin("r2", 1)
        journal.result(some_result("r3", "budget_exceeded"))
    past = past_of(tmp_path)
    assert past.done == {"r1", "r3"}
    assert past.restarts == {"r1": 1, "r2": 2}
    assert past.spent == Spend(2, 220, 0.75)


def test_an_unpriced_call_leaves_the_past_bill_unknown(tmp_path: Path) -> None:
    with Journal(tmp_path) as journal:
        journal.call(some_call("a"), "x")
        journal.call(some_call("b", cost_usd=None), "x")
    assert past_of(tmp_path).spent == Spend(2, 220, None)


def test_a_line_that_is_there_twice_counts_once(tmp_path: Path) -> None:
    write_one(tmp_path)
    path = tmp_path / FILE_NAME
    lines = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(b"".join([*lines, *lines]))
    past = past_of(tmp_path)
    assert (past.done, past.restarts) == ({"r1"}, {"r1": 1})
    assert past.spent == Spend(1, 110, 0.25)


def test_time_between_two_sessions_is_not_spent(tmp_path: Path) -> None:
    """Two processes at work for 12 s and 30 s, with a night between them."""
    night = 8 * 3600.0
    events = [
        {"type": "session", "started_at": 100.0},
        {"type": "call", **vars(some_call("a", started_at=110.0, latency_s=2.0))},
        {"type": "session", "started_at": night},
        {"type": "call", **vars(some_call("b", started_at=night + 20, latency_s=10.0))},
        {"type": "call", **vars(some_call("c", started_at=night + 1, latency_s=1.0))},
    ]
    write_events(tmp_path, events)
    assert past_of(tmp_path).seconds == pytest.approx(12.0 + 30.0)


def test_results_of_another_run_are_reused_once_and_not_paid_again(tmp_path: Path) -> None:
    old, new = tmp_path / "old", tmp_path / "new"
    write_one(old, "r1")
    write_one(old, "r2", outcome="provider_error")
    write_one(old, "r3")
    found = finished_beside(new, {"r1", "r2", "r9"})
    assert found.keys() == {"r1"}
    with Journal(new) as journal:
        reuse(found, past_of(new), journal, {})
    past = past_of(new)
    assert past.done == {"r1"}
    assert past.spent == Spend()
    assert written(new) == ["begin", "call", "result"]
    assert {e["reused_from"] for e in read_events(new, types=("call", "result"))} == {"old"}
    kept = [(run / "trajectories" / "r1.jsonl").read_text() for run in (old, new)]
    assert kept[0] == kept[1]


def test_a_reused_result_says_what_this_run_says_of_it(tmp_path: Path) -> None:
    """The constant is fitted on this run's samples; an arm without sub-calls names its model."""
    old, new = tmp_path / "old", tmp_path / "new"
    write_one(old, "r1")
    write_one(old, "r2")
    own = {"r1": {"constant_score": 0.25, "sub_model": "other"}}
    with Journal(new) as journal:
        reuse(finished_beside(new, {"r1", "r2"}), past_of(new), journal, own)
    one, two = tables(new)[0].sort_values("result_key").itertuples()
    assert (one.constant_score, one.skill, one.sub_model) == (0.25, (0.75 - 0.25) / 0.75, "other")
    assert (two.constant_score, two.sub_model) == (0.5, "m")


def test_a_packed_run_is_read_and_reused_and_not_written_to(tmp_path: Path) -> None:
    old, new = tmp_path / "my old", tmp_path / "new"
    write_one(old, "r1")
    before = past_of(old), record_size(old), read_trajectory(old, "r1")
    subprocess.run(["gzip", "-r", old], check=True)
    assert not (old / FILE_NAME).exists()
    assert (past_of(old), record_size(old), read_trajectory(old, "r1")) == before
    write_one(new, "r1", outcome="provider_error")
    found, past = finished_beside(new, {"r1"}), past_of(new)
    with Journal(new) as journal:
        reuse(found, past, journal, {})
    assert past_of(new).done == {"r1"}
    assert read_trajectory(new, "r1") == before[2] != []
    with pytest.raises(ConfigError, match=r"is packed: gunzip -r '.*my old' to go on"):
        Journal(old)
    with pytest.raises(ConfigError, match=r"is packed: gunzip -r '.*my old' to go on"):
        join_shards([new], old)
    path = old / f"{FILE_NAME}.gz"
    path.write_bytes(path.read_bytes()[:-9])
    with pytest.raises(ConfigError, match=r"jsonl\.gz can't be read"):
        past_of(old)


@pytest.mark.parametrize("key", ["../journal", "/etc/passwd"])
def test_a_key_that_is_a_path_leads_nowhere(tmp_path: Path, key: str) -> None:
    write_one(tmp_path)
    with pytest.raises(ConfigError, match=f"'{key}' is no result's key"):
        copy_trajectory(key, tmp_path, tmp_path / "copy")
    with pytest.raises(ConfigError, match=f"'{key}' is no result's key"):
        read_trajectory(tmp_path, key)


@pytest.mark.parametrize("name", ["key.jsonl", "key.jsonl.gz"])
def test_a_trajectory_that_is_a_link_is_not_followed(tmp_path: Path, name: str) -> None:
    (tmp_path / "other").write_text('{"mine": 1}\n')
    (tmp_path / "run" / "trajectories").mkdir(parents=True)
    (tmp_path / "run" / "trajectories" / name).symlink_to(tmp_path / "other")
    with pytest.raises(ConfigError, match="is a link"):
        read_trajectory(tmp_path / "run", "key")
    with pytest.raises(ConfigError, match="is a link"):
        copy_trajectory("key", tmp_path, tmp_path / "run")


def test_a_shard_has_its_part_of_what_the_whole_run_paid(tmp_path: Path) -> None:
    whole, shard = tmp_path / "run", tmp_path / "run.shards" / "1-of-2"
    write_one(tmp_path / "z", "r1")
    with Journal(whole) as journal:
        reuse(finished_beside(whole, {"r1"}), past_of(whole), journal, {})
    write_one(whole, "r2")
    found = finished_beside(shard, {"r1", "r2"})
    assert found == {"r1": whole, "r2": whole}
    with Journal(shard) as journal:
        reuse(found, past_of(shard), journal, {})
    assert past_of(shard).done == {"r1", "r2"}
    assert past_of(shard).spent == past_of(whole).spent == Spend(1, 110, 0.25), "z paid the other"


def test_a_neighbour_of_another_schema_has_nothing_to_reuse(tmp_path: Path) -> None:
    write_one(tmp_path / "old", "r1")
    write_events(tmp_path / "old", [*read_events(tmp_path / "old")], version=1)
    write_one(tmp_path / "other", "r1")
    assert finished_beside(tmp_path / "new", {"r1"}) == {"r1": tmp_path / "other"}


def test_what_was_tried_here_before_is_no_part_of_a_reused_row(tmp_path: Path) -> None:
    """Its provider failed, for $5; the other run's answer took one call of $0.25."""
    new = tmp_path / "new"
    with Journal(new) as journal:
        journal.begin("r1", 0)
        journal.call(some_call("failed", result_key="r1", cost_usd=5.0, error="server: no"), "")
        journal.result(some_result("r1", "provider_error"))
    write_one(tmp_path / "old", "r1")
    with Journal(new) as journal:
        reuse(finished_beside(new, {"r1"}), past_of(new), journal, {})
    (row,) = tables(new)[0].itertuples()
    assert (row.outcome, row.calls, row.cost_usd) == ("answered", 1, 0.25)
    assert past_of(new).spent.usd == 5.0


def test_a_result_whose_reuse_was_killed_is_reused_whole(tmp_path: Path) -> None:
    """Its call is there twice, of two restarts: the row sums the last one's, the bill has one."""
    new = tmp_path / "new"
    write_one(tmp_path / "old", "r1")
    with Journal(new) as journal:
        for event in list(read_events(tmp_path / "old", types=("begin", "call"))):
            journal.append({**event, "reused_from": "old"})
    with Journal(new) as journal:
        reuse(finished_beside(new, {"r1"}), past_of(new), journal, {})
    assert past_of(new).done == {"r1"}
    results, calls = tables(new)
    assert (list(results.cost_usd), list(calls.cost_usd)) == ([0.25], [0.25])
    assert list(calls.restart) == [1], "with all of its result's calls"
