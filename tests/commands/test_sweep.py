"""Several runs by one command: shards and what joins them, launchers, lost workers."""

from __future__ import annotations

import os
import random
import shlex
import shutil
import time
from pathlib import Path

import pandas as pd
import pytest
import yaml

from helpers.billing_provider import BillingProvider
from helpers.shards import QUESTIONS, Sharded
from rlm_eval.commands.cli import run_command
from rlm_eval.commands.sweep import join_shards
from rlm_eval.config.check import check_config
from rlm_eval.config.compose import compose_tree, jobs_of, recorded_tree
from rlm_eval.errors import ConfigError
from rlm_eval.journal.journal import Journal, read_events
from rlm_eval.journal.past import past_of
from rlm_eval.ledger import Budget
from rlm_eval.runs.assemble import all_work, assemble, samples_of

SMALL = ("task=needle", "task.lengths=[300]", "task.n=5", "model=scripted", "method=[direct,rlm]")
#: What two runs of one setting may differ in.
TIMES = ["wall_s", "lm_s", "sandbox_s"]


def table(run_dir: Path) -> pd.DataFrame:
    return pd.read_parquet(run_dir / "results.parquet").drop(columns=TIMES)


def killed_before_result(run_dir: Path, number: int) -> None:
    """Leave the run as if it had been killed when that result's last call was there."""
    path = run_dir / "journal.jsonl"
    lines = path.read_bytes().splitlines(keepends=True)
    ends = [i for i, line in enumerate(lines) if b'"type": "result"' in line]
    path.write_bytes(b"".join(lines[: ends[number - 1]]))
    (run_dir / "results.parquet").unlink()


@pytest.mark.slow
def test_shards_joined_are_the_run_itself(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    places = [f"results_dir={tmp_path}/{name}" for name in ("one", "three")]
    assert run_command([*SMALL, places[0]]) == 0
    assert run_command([*SMALL, places[1], "shards=3"]) == 0
    out = capsys.readouterr().out
    (one,), (three,) = ([*tmp_path.glob(f"{n}/needle-*[!s]")] for n in ("one", "three"))
    assert one.name == three.name, "the same run, however it is carried out"
    assert out.splitlines()[-1] == str(three)
    pd.testing.assert_frame_equal(table(one), table(three))
    shards = sorted(p.name for p in three.with_name(f"{three.name}.shards").iterdir())
    assert shards == ["1-of-3", "2-of-3", "3-of-3"]
    assert not list(tmp_path.glob("*/.sweep-*")), "no notes are left"
    # The joined run is a run like any other, finished, and so is every shard.
    assert run_command(["resume", str(three)]) == 0
    assert "all 10 results are there" in capsys.readouterr().err
    assert run_command([*SMALL, places[1], "shards=3"]) == 0
    pd.testing.assert_frame_equal(table(one), table(three))
    # Another number of shards finds what these have.
    assert run_command([*SMALL, places[1], "shards=2"]) == 0
    assert "5 results reused" in capsys.readouterr().err.replace("4 results", "5 results")
    pd.testing.assert_frame_equal(table(one), table(three))


def test_contexts_are_dealt_out_each_to_one_shard() -> None:
    keys: list[str] = []
    words = [*SMALL, "task=aggregation", "task.lengths=[1650]", "task.questions_per_context=2"]
    for shard in ("null", "1", "2", "3"):
        tree = compose_tree([*words, "task.n=7", "shards=3", f"shard={shard}"])
        parts = assemble(check_config(tree))
        work = all_work(parts, samples_of(parts.task))
        if shard == "null":
            everything = [item.key for item in work]
        else:
            keys += [item.key for item in work]
            assert parts.folder.parent.name == f"{parts.run_id}.shards"
        contexts = {item.context.id for item in work}
        assert len(contexts) == {"null": 4, "1": 2, "2": 1, "3": 1}[shard]
    assert sorted(keys) == sorted(everything)


def test_a_shard_has_its_part_of_the_runs_caps() -> None:
    whole = Budget(calls=10, tokens=1001, usd=0.3, seconds=60)
    assert whole.shared(3) == Budget(calls=3, tokens=333, usd=pytest.approx(0.1), seconds=60)
    tree = compose_tree([*SMALL, "budget.run.calls=10", "shards=2", "shard=1"])
    parts = assemble(check_config(tree))
    assert parts.run_budget.calls == 5
    assert parts.sample_budget.calls is None


def test_a_launcher_that_has_nothing_to_launch_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run_command([*SMALL, f"results_dir={tmp_path}", "hydra/launcher=slrum"]) == 2
    assert "it is for shards and sweeps: add shards=N, or -m" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["shards=abc"], "shards='abc' does not fit"),
        (["shards=null"], "shards=None does not fit"),
        (["shards=2", "shard=x"], "shard='x' does not fit"),
        (["-m", "experiment=ablation/depth,ruler", "task.n=0"], "task.n must be"),
    ],
)
def test_bad_words_of_shards_and_sweeps_are_one_line(
    words: list[str], said: str, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    assert run_command([*words, "model=scripted", f"results_dir={tmp_path}/new"]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert said in line
    assert not (tmp_path / "new").exists()


def test_presets_that_are_swept_over_sweep_too() -> None:
    jobs = jobs_of(["experiment=paper_table1,ablation/memoize"])
    assert len(jobs) == 8 + 2


def test_a_bug_in_a_job_is_no_bad_input(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "broken.py").write_text(
        "from rlm_eval.models.scripted import ScriptedModel\n"
        "class Broken(ScriptedModel):\n"
        "    def open(self): raise TypeError('a bug')\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    words = [*SMALL, "model._target_=broken.Broken", "allow_targets=[broken]", "shards=2"]
    with pytest.raises(TypeError, match="a bug"):
        run_command([*words, f"results_dir={tmp_path}/runs"])


def test_a_shard_that_is_none_is_refused() -> None:
    with pytest.raises(ConfigError, match="shard=3 is none of shards=2"):
        check_config(compose_tree([*SMALL, "shards=2", "shard=3"]))


def test_more_shards_than_contexts_leave_some_without_work(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = [*SMALL, "task.n=1", "method=[direct]", f"results_dir={tmp_path}", "shards=2"]
    assert run_command(words) == 0
    assert "no context falls to this shard" in capsys.readouterr().err
    (joined,) = tmp_path.glob("needle-*[!s]")
    assert len(table(joined)) == 1


def test_a_run_that_was_begun_as_one_goes_on_in_shards(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = [*SMALL, "method=[direct]", f"results_dir={tmp_path}", "concurrency=1"]
    assert run_command(words) == 0
    (run_dir,) = tmp_path.glob("needle-*")
    killed_before_result(run_dir, 5)
    (run_dir / "notes.txt").write_text("mine")
    before = past_of(run_dir)
    assert run_command([*words, "shards=2"]) == 0
    assert "results reused from other runs" in capsys.readouterr().err
    after = past_of(run_dir)
    assert len(after.done) == 5
    assert after.spent.calls == before.spent.calls + 1, "what was paid stays, and is paid once"
    assert (run_dir / "notes.txt").read_text() == "mine"
    stamp = (run_dir / "journal.jsonl").stat().st_mtime_ns
    assert run_command([*words, "shards=2"]) == 0
    assert (run_dir / "journal.jsonl").stat().st_mtime_ns == stamp, "nothing new to join"


def test_a_runs_cap_holds_however_it_goes_on(tmp_path: Path) -> None:
    """What results took that the whole run has counts in its shards, and so on."""
    words = [*SMALL, "method=[direct]", f"results_dir={tmp_path}", "concurrency=1"]
    words.append("budget.run.calls=4")
    for shards in ("1", "2", "3"):
        assert run_command([*words, f"shards={shards}"]) == 3
        (run_dir,) = tmp_path.glob("needle-*[!s]")
        assert past_of(run_dir).spent.calls == 4
        assert len(past_of(run_dir).done) == 4


def test_what_shards_did_is_the_whole_runs_too(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """They were killed before they were joined; nothing is asked twice, and no model opened."""
    words = [*SMALL, "method=[direct]", f"results_dir={tmp_path}"]
    assert run_command([*words, "shards=2"]) == 0
    (run_dir,) = tmp_path.glob("needle-*[!s]")
    before = past_of(run_dir)
    shutil.rmtree(run_dir)
    assert run_command([*words, "dry_run=true"]) == 0
    assert "0 results to make (5 are there, 5 of them in other runs)" in capsys.readouterr().out
    assert run_command(words) == 0
    told = capsys.readouterr().err
    assert "5 results reused from other runs of the same setting\n" in told, "and it is its bill"
    assert past_of(run_dir).done == before.done
    assert past_of(run_dir).spent == before.spent
    assert "model" not in {event["type"] for event in read_events(run_dir)}
    assert len(table(run_dir)) == 5
    assert (run_dir / "summary.csv").is_file()


def test_what_other_shards_spent_in_vain_is_in_the_joined_bill(tmp_path: Path) -> None:
    words = [*SMALL, "method=[direct]", f"results_dir={tmp_path}", "concurrency=1"]
    assert run_command([*words, "shards=2"]) == 0
    (run_dir,) = tmp_path.glob("needle-*[!s]")
    shutil.rmtree(run_dir)
    one, two = sorted(run_dir.with_name(f"{run_dir.name}.shards").iterdir())
    killed_before_result(one, 2)
    assert [past_of(shard).spent.calls for shard in (one, two)] == [2, 2]
    assert run_command([*words, "shards=3", "analysis.margin=0.2"]) == 0
    assert recorded_tree(run_dir)["analysis"]["margin"] == 0.2, "the newest"
    assert len(past_of(run_dir).done) == 5
    assert past_of(run_dir).spent.calls == 4 + 2


def test_runs_of_which_nothing_is_there_yet_are_not_shown_together(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["-m", *SMALL, "method=[direct]", f"results_dir={tmp_path}", "seed=1,2"]
    assert run_command(words) == 0
    for run_dir in tmp_path.glob("needle-*"):
        killed_before_result(run_dir, 2)
    assert run_command([*words, "dry_run=true"]) == 0
    assert "=== all" not in capsys.readouterr().out.partition("would go to")[2]
    few = [*SMALL, "task.n=3", "method=[direct]", f"results_dir={tmp_path}", "budget.run.calls=2"]
    assert run_command([*few, "shards=3"]) == 3, "no shard may make a call"
    assert "No results yet." in capsys.readouterr().out


def test_a_dry_run_of_shards_joins_nothing(tmp_path: Path) -> None:
    words = [*SMALL, "method=[direct]", f"results_dir={tmp_path}", "shards=2"]
    assert run_command(words) == 0
    (joined,) = tmp_path.glob("needle-*[!s]")
    shutil.rmtree(joined)
    assert run_command(["-m", *words, "shard=1,2", "dry_run=true"]) == 0
    assert not joined.exists()


def test_seconds_of_shards_that_ran_side_by_side_count_once(tmp_path: Path) -> None:
    assert run_command([*SMALL, f"results_dir={tmp_path}", "model.latency_s=0.2", "shards=2"]) == 0
    (joined,) = tmp_path.glob("needle-*[!s]")
    shards = [past_of(p).seconds for p in joined.with_name(f"{joined.name}.shards").iterdir()]
    assert past_of(joined).seconds == pytest.approx(sum(shards), rel=0.2), "one after the other"
    join_shards([joined], tmp_path / "again")
    twice = past_of(tmp_path / "again").seconds
    assert twice == pytest.approx(past_of(joined).seconds)


def test_what_the_joined_run_alone_has_is_kept(tmp_path: Path) -> None:
    """A shard stopped at its cap; the joined run was resumed; then the shards are joined again."""
    words = [*SMALL, "method=[direct]", f"results_dir={tmp_path}", "shards=2"]
    assert run_command([*words, "budget.run.calls=4"]) == 3
    (joined,) = tmp_path.glob("needle-*[!s]")
    assert len(past_of(joined).done) == 4
    assert run_command(["resume", str(joined)]) == 3, "all of its cap is spent"
    tree = yaml.safe_load((joined / "config.yaml").read_text())
    assert (tree["shards"], tree["shard"]) == (1, None)
    lost, *others = sorted(joined.with_name(f"{joined.name}.shards").iterdir())
    assert past_of(lost).done
    before = past_of(joined)
    for shard in others:
        (shard / "journal.jsonl").touch()
    join_shards(others, joined)
    after = past_of(joined)
    assert (after.done, after.spent) == (before.done, before.spent)


def test_a_shard_that_ended_without_being_joined_is_joined_later(tmp_path: Path) -> None:
    """Its worker died when all was recorded: the shard's journal is older than the joined one."""
    words = [*SMALL, "method=[direct]", f"results_dir={tmp_path}", "shards=2"]
    assert run_command(words) == 0
    (joined,) = tmp_path.glob("needle-*[!s]")
    whole = past_of(joined).done
    one, *_ = sorted(joined.with_name(f"{joined.name}.shards").iterdir())
    shutil.rmtree(joined)
    join_shards([one], joined)
    assert past_of(joined).done < whole
    assert run_command(words) == 0
    assert past_of(joined).done == whole


def test_finished_shards_are_read_as_the_command_says_now(tmp_path: Path) -> None:
    words = [*SMALL, "method=[direct]", f"results_dir={tmp_path}", "shards=2"]
    assert run_command(words) == 0
    (joined,) = tmp_path.glob("needle-*[!s]")
    before = past_of(joined)
    assert run_command([*words, "analysis.margin=0.2"]) == 0
    assert recorded_tree(joined)["analysis"]["margin"] == 0.2
    assert (past_of(joined).done, past_of(joined).spent) == (before.done, before.spent)


def test_shards_are_not_joined_while_somebody_works_on_the_run(tmp_path: Path) -> None:
    words = [*SMALL, "method=[direct]", f"results_dir={tmp_path}", "shards=2"]
    assert run_command(words) == 0
    (joined,) = tmp_path.glob("needle-*[!s]")
    shards = sorted(joined.with_name(f"{joined.name}.shards").iterdir())
    with Journal(joined) as journal:
        later = time.time() + 60
        for shard in shards:
            os.utime(shard / "journal.jsonl", (later, later))
        with pytest.raises(ConfigError, match="is working on"):
            join_shards(shards, joined)
        journal.begin("mine", 0)
    join_shards(shards, joined)
    assert past_of(joined).restarts["mine"] == 1


def test_commands_that_are_printed_hold_in_a_folder_with_spaces(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    place = tmp_path / "my runs"
    words = [*SMALL, "method=[direct]", "seed=1,2", f"results_dir='{place}'"]
    assert run_command(["-m", *words]) == 0
    told = [line.split(" report ") for line in capsys.readouterr().out.splitlines()]
    typed = [shlex.split(words[1]) for words in told if len(words) == 2]
    first, second = map(str, sorted(place.glob("needle-*")))
    assert sorted(typed[:2]) == [[first], [second]]
    assert sorted(typed[2]) == sorted([first, second, "--out", "DIR"])


def test_a_presets_sweep_gives_way_to_what_is_given(tmp_path: Path) -> None:
    jobs = jobs_of(["experiment=paper_table1", "seed=3"])
    assert len(jobs) > 1
    assert all("seed=3" in job for job in jobs)
    tasks = {word for job in jobs for word in job if word.startswith("task=")}
    assert len(tasks) > 1
    narrowed = jobs_of(["experiment=paper_table1", "task=oolong"])
    assert {w for job in narrowed for w in job if w.startswith("task=")} == {"task=oolong"}
    assert len(narrowed) == len(jobs) // len(tasks)


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_a_worker_that_is_killed_loses_and_doubles_nothing(tmp_path: Path) -> None:
    pytest.importorskip("hydra_plugins.hydra_joblib_launcher")
    with BillingProvider(latency_s=0.1) as provider:
        run = Sharded(tmp_path, provider, 12, 2, "joblib", ("hydra.launcher.n_jobs=2",))
        code = run.run(random.Random(5))
        assert code == 0, run.log.read_text()[-3000:]
        assert run.kills == 1
        assert "a worker was lost" in run.log.read_text()
        assert len(run.rows()) == 12
        assert run.rows().result_key.is_unique
        for found in run.accounts():
            # Both workers end with the one that was killed, each with what it had in flight.
            assert len(found.lost) <= 2 * QUESTIONS
            found.check()


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_a_sweep_by_submitit_ends_in_one_table_and_with_the_worst_exit_code(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("hydra_plugins.hydra_submitit_launcher")
    words = [*SMALL, "method=[direct]", f"results_dir={tmp_path}", "seed=1,2"]
    local = "hydra/launcher=submitit_local"
    assert run_command(["-m", *words, local]) == 0
    out = capsys.readouterr().out
    assert "=== all 2 runs ===" in out
    assert len(list(tmp_path.glob("needle-*/results.parquet"))) == 2
    assert run_command(["-m", *words[:-1], "seed=3,4", local, "budget.run.calls=2"]) == 3


@pytest.mark.slow
def test_configuration_of_ones_own_is_found_in_every_job(tmp_path: Path) -> None:
    (tmp_path / "conf/task").mkdir(parents=True)
    (tmp_path / "conf/task/mine.yaml").write_text(
        "defaults: [needle, _self_]\nlengths: [300]\nn: 2\n"
    )
    own = f"hydra.searchpath=[file://{tmp_path}/conf]"
    words = ["task=mine", "model=scripted", "method=[direct]", own, f"results_dir={tmp_path}/runs"]
    assert run_command([*words, "shards=2"]) == 0
    assert run_command(["-m", *words, "seed=1,2"]) == 0
    assert len(list(tmp_path.glob("runs/needle-*/results.parquet"))) == 3
