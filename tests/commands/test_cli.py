"""The command line as a user meets it: exit codes, one clear line for bad input, the contract."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from pathlib import Path

import pandas as pd
import pytest
import yaml

from helpers.commands import rlm_eval
from helpers.fake_provider import FakeProvider

pytestmark = pytest.mark.slow

SMALL = ["model=scripted", "task=needle", "task.lengths=[1024]", "task.n=2"]


def last_line(done: subprocess.CompletedProcess[str]) -> Path:
    return Path(done.stdout.strip().splitlines()[-1])


def test_help_is_one_page_of_ours() -> None:
    printed = subprocess.check_output([sys.executable, "-m", "rlm_eval", "--help"], text=True)
    assert "usage: python -m rlm_eval" in printed
    assert len(printed.splitlines()) < 50


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["task=nonsense"], "there is no task 'nonsense': choose aggregation"),
        (["method=[direct,nonsense]"], "there is no method 'nonsense': choose"),
        (["method.rlm.max_dept=2"], "did you mean method.rlm.max_depth?"),
        (["task.lenghts=[1]"], "did you mean task.lengths?"),
        (["task=multihop", "task.chians=4"], "did you mean task.chains?"),
        (["task=needle", "task.varient=single_1"], "did you mean task.variant?"),
        (["method.rlm.max_depth=deep"], "method.rlm.max_depth='deep' does not fit"),
        (["method.direct.overflow=foo"], "'refuse', 'truncate_head'"),
        (["task.lengths=[100]"], "too few"),
        (["model=litellm"], "model.name is missing"),
        (["model=litellm", "model.name=openai/gpt-5"], "OPENAI_API_KEY"),
        (["model.gguf=/nope/model.gguf"], "there is no file /nope/model.gguf"),
        (["sub_model=nonsense"], "'nonsense'"),
        (["repeats=0"], "repeats=0 does not fit: Input should be greater than or equal to 1"),
        (["budget.run.calls=0"], "budget.run.calls=0 does not fit: Input should be greater than 0"),
        (["task._target_=os.system"], "allow_targets"),
        (["method=[]"], "no method is left"),
        (["results_dir=/proc/nothing/here", "model=scripted"], "can't be made"),
    ],
)
def test_bad_input_is_one_line_and_starts_nothing(
    arguments: list[str], told: str, tmp_path: Path
) -> None:
    done = rlm_eval(f"results_dir={tmp_path}", *arguments, OPENAI_API_KEY="")
    assert done.returncode == 2, done.stderr
    assert len(done.stderr.strip().splitlines()) == 1, done.stderr
    assert told in done.stderr
    assert not done.stdout
    assert not list(tmp_path.iterdir())


def test_weights_with_a_wrong_hash_are_refused(tmp_path: Path) -> None:
    (tmp_path / "model.gguf").write_bytes(b"GGUF and nothing else")
    done = rlm_eval(
        f"model.gguf={tmp_path}/model.gguf",
        f"model.gguf_sha256={'0' * 64}",
        f"results_dir={tmp_path}/runs",
    )
    assert done.returncode == 2
    assert "SHA-256" in done.stderr
    assert not (tmp_path / "runs").exists()


def test_a_run_leaves_what_the_contract_names(tmp_path: Path) -> None:
    done = rlm_eval(*SMALL, f"results_dir={tmp_path}")
    assert done.returncode == 0, done.stderr
    run_dir = last_line(done)
    assert run_dir.parent == tmp_path
    for name in ("config.yaml", "environment.json", "journal.jsonl", "summary.csv"):
        assert (run_dir / name).stat().st_size > 0
    assert {p.suffix for p in (run_dir / "figures").iterdir()} == {".png", ".csv"}
    results = pd.read_parquet(run_dir / "results.parquet")
    calls = pd.read_parquet(run_dir / "calls.parquet")
    assert len(results) == 2 * 4
    assert results.scripted.all()
    assert "scripted" in done.stdout
    assert results.prompt_tokens.sum() == calls.prompt_tokens.sum()
    rlm = results[results.method == "rlm"]
    assert (rlm.subcalls >= 1).all(), "the scripted model makes a sub-call as an RLM"
    subs = calls[calls.role == "sub"]
    assert set(subs.parent_call_id) <= set(calls[calls.role == "root"].call_id)
    assert (subs.depth == 1).all()
    assert (rlm.sandbox_level != "").all()


def test_the_same_command_again_finds_its_finished_run(tmp_path: Path) -> None:
    first = rlm_eval(*SMALL, f"results_dir={tmp_path}")
    journal = (last_line(first) / "journal.jsonl").read_bytes()
    again = rlm_eval(*SMALL, f"results_dir={tmp_path}", "concurrency=3")
    assert again.returncode == 0
    assert "finished" in again.stderr
    assert last_line(again) == last_line(first)
    assert (last_line(again) / "journal.jsonl").read_bytes() == journal


def test_a_finished_run_is_read_as_the_command_says_now(tmp_path: Path) -> None:
    words = [*SMALL, "method=[direct]", f"results_dir={tmp_path}"]
    path = last_line(rlm_eval(*words)) / "config.yaml"
    before = path.read_text()
    assert "A demonstration" in rlm_eval(*words, "concurrency=3").stdout
    assert path.read_text() == before, "how it was carried out is no news"
    again = rlm_eval(*words, "analysis.unit=question", "demonstration=false")
    assert "this run is finished" in again.stderr
    assert "A demonstration" not in again.stdout
    new = {"analysis": {"margin": 0.05, "unit": "question"}, "demonstration": False}
    assert yaml.safe_load(path.read_text()) == yaml.safe_load(before) | new


def test_more_samples_and_another_arm_reuse_what_is_there(tmp_path: Path) -> None:
    first = rlm_eval(*SMALL, f"results_dir={tmp_path}", "method=[direct]")
    more = rlm_eval(*SMALL[:3], "task.n=3", f"results_dir={tmp_path}", "method=[direct,rag_bm25]")
    assert "2 results reused" in more.stderr
    assert last_line(more) != last_line(first)
    results = pd.read_parquet(last_line(more) / "results.parquet")
    assert results.groupby("method").size().to_dict() == {"direct": 3, "rag_bm25": 3}
    assert results.result_key.is_unique


def test_a_spent_run_cap_leaves_the_rest_owed(tmp_path: Path) -> None:
    done = rlm_eval(*SMALL, f"results_dir={tmp_path}", "budget.run.calls=3", "concurrency=1")
    assert done.returncode == 3
    assert "calls=3 is spent" in done.stderr
    assert "pending: raise that cap (a new run, which reuses these results and" in done.stderr
    calls = pd.read_parquet(last_line(done) / "calls.parquet")
    assert len(calls) == 3
    more = rlm_eval(*SMALL, f"results_dir={tmp_path}", "budget.run.calls=99", "concurrency=1")
    assert more.returncode == 0
    assert "results reused from other runs" in more.stderr


def test_a_spent_sample_cap_is_an_outcome(tmp_path: Path) -> None:
    done = rlm_eval(*SMALL, f"results_dir={tmp_path}", "budget.sample.calls=1", "method=[rlm]")
    assert done.returncode == 0, done.stderr
    results = pd.read_parquet(last_line(done) / "results.parquet")
    assert set(results.outcome) == {"budget_exceeded"}
    assert results.score.isna().all()


def test_an_interrupted_run_is_resumed_with_nothing_counted_twice(tmp_path: Path) -> None:
    arguments = [*SMALL[:3], "task.n=6", "model.latency_s=0.05", f"results_dir={tmp_path}"]
    child = subprocess.Popen(
        [sys.executable, "-m", "rlm_eval", *arguments, "concurrency=1"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        journals = list(tmp_path.glob("*/journal.jsonl"))
        if journals and journals[0].read_text().count('"type": "result"') >= 3:
            break
        time.sleep(0.05)
    child.send_signal(signal.SIGINT)
    out, err = child.communicate(timeout=60)
    assert child.returncode == 130, err
    assert "python -m rlm_eval resume" in err
    run_dir = Path(out.strip().splitlines()[-1])
    done = rlm_eval("resume", str(run_dir))
    assert done.returncode == 0, done.stderr
    results = pd.read_parquet(run_dir / "results.parquet")
    assert len(results) == 24
    assert results.result_key.is_unique
    events = [json.loads(line) for line in (run_dir / "journal.jsonl").read_text().splitlines()]
    written = [e["key"] for e in events if e["type"] == "result"]
    assert len(written) == len(set(written)) == 24


def test_a_sweep_is_two_runs(tmp_path: Path) -> None:
    done = rlm_eval(*SMALL, "-m", "method=[direct]", "seed=1,2", f"results_dir={tmp_path}")
    assert done.returncode == 0, done.stderr
    assert len(list(tmp_path.glob("needle-*/results.parquet"))) == 2
    for seed in (1, 2):
        assert f" seed={seed} " in done.stdout
    told = " ".join(done.stdout.split())
    apart, _, together = told.partition("=== all 2 runs ===")
    assert apart.count(" · scripted ") == 2, "by its heading"
    assert together.count(" · scripted ") == 1, "in one table"
    assert "as one page: python -m rlm_eval report " in together


def test_several_models_are_a_run_each() -> None:
    done = rlm_eval("task=needle", "task.n=1", "dry_run=true", "model=[scripted,gpt-5]")
    assert done.returncode == 0, done.stderr
    told = [line for line in done.stdout.splitlines() if line.startswith("=== ")]
    assert [line.split()[-2] for line in told] == ["model=scripted", "model=gpt-5"]


@pytest.mark.parametrize(
    ("swept", "told"),
    [
        (["-m", "seed=1,two"], "rlm_eval: seed='two' does not fit"),
        (
            ["-m", "method=[direct],[rlmm]"],
            "rlm_eval: there is no method 'rlmm': did you mean rlm?",
        ),
        (["model=[scripted,gpt-6]"], "rlm_eval: there is no model 'gpt-6': did you mean gpt-5?"),
        (["-m", "seed=1,2", "task.lenghts=[600]"], "rlm_eval: unknown key task.lenghts: did you"),
        (["-m", "seed=range(1,3)", "repeats=0"], "rlm_eval: repeats=0 does not fit"),
    ],
)
def test_a_sweep_with_a_mistake_in_any_run_starts_none(
    tmp_path: Path, swept: list[str], told: str
) -> None:
    done = rlm_eval(*SMALL, *swept, f"results_dir={tmp_path}/new")
    assert (done.returncode, done.stdout) == (2, "")
    (line,) = done.stderr.splitlines()
    assert line.startswith(told)
    assert not (tmp_path / "new").exists()


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["-m", "hydra/sweeper=optuna", "seed=1,2"], "there are no sweepers"),
        (["--config-dir", "conf"], "there is no option --config-dir"),
        (["--cfg", "all"], "there is no command 'all'"),
    ],
)
def test_what_hydra_has_beside_is_refused_in_one_line(words: list[str], told: str) -> None:
    done = rlm_eval(*words)
    assert (done.returncode, done.stdout) == (2, "")
    (line,) = done.stderr.splitlines()
    assert told in line


def test_an_interrupted_sweep_begins_no_further_run(tmp_path: Path) -> None:
    slow = [*SMALL, "task.n=6", "model.latency_s=0.2", "concurrency=1", f"results_dir={tmp_path}"]
    child = subprocess.Popen(
        [sys.executable, "-m", "rlm_eval", "-m", *slow, "seed=1,2,3"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        if any('"result"' in path.read_text() for path in tmp_path.glob("*/journal.jsonl")):
            break
        time.sleep(0.05)
    child.send_signal(signal.SIGINT)
    _, err = child.communicate(timeout=60)
    assert child.returncode == 130, err
    assert len(list(tmp_path.glob("*/config.yaml"))) == 1


def test_a_model_or_a_cap_that_a_method_does_not_use_is_said(tmp_path: Path) -> None:
    done = rlm_eval(
        *(*SMALL, "method=[direct,rlm,no_context]", f"results_dir={tmp_path}"),
        *("sub_model=scripted", "sub_model.name=tiny", "judge_model.name=foo"),
        *("budget.matched=true", "budget.sample.tokens=9000"),
    )
    assert done.returncode == 0, done.stderr
    assert "sub_model is set, and not used by direct, no_context" in done.stderr
    assert "judge_model is set, and task needle is scored by rule" in done.stderr
    assert "budget.matched: the cap is only a limit for direct, no_context" in done.stderr


def test_a_second_arm_of_a_method(tmp_path: Path) -> None:
    done = rlm_eval(
        *SMALL,
        "method=[rlm]",
        "+method@method.rlm_d0=rlm",
        "method.rlm_d0.max_depth=0",
        f"results_dir={tmp_path}",
    )
    assert done.returncode == 0, done.stderr
    results = pd.read_parquet(last_line(done) / "results.parquet")
    assert results.groupby("method").subcalls.max().to_dict() == {"rlm": 1, "rlm_d0": 0}


def test_a_sub_model_of_another_kind(tmp_path: Path) -> None:
    done = rlm_eval(
        *SMALL,
        "method=[rlm]",
        "sub_model=scripted",
        "sub_model.name=tiny",
        f"results_dir={tmp_path}",
    )
    assert done.returncode == 0, done.stderr
    calls = pd.read_parquet(last_line(done) / "calls.parquet")
    assert calls.groupby("role").model.unique().map(list).to_dict() == {
        "root": ["scripted"],
        "sub": ["tiny"],
    }


def test_dry_run_prints_the_plan_and_makes_nothing(tmp_path: Path) -> None:
    done = rlm_eval(*SMALL, "dry_run=true", f"results_dir={tmp_path}")
    assert done.returncode == 0
    assert "8 results to make (0 are there), 2 contexts" in done.stdout
    assert [line.split()[0] for line in done.stdout.splitlines() if " 1,024 " in line] == [
        *("direct", "rag_bm25", "summarize_map_reduce", "rlm")
    ]
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("contact", ["ok", "401"])
def test_a_key_that_is_refused_ends_the_run_at_once(tmp_path: Path, contact: str) -> None:
    """From the first contact on, or later."""
    with FakeProvider(["401"] * 100, contact=contact) as provider:
        done = rlm_eval(
            "task=needle",
            "task.lengths=[500]",
            "task.n=30",
            "method=[direct]",
            "model=litellm",
            "model.name=openai/fake",
            f"model.api_base={provider.api_base}",
            "concurrency=2",
            f"results_dir={tmp_path}",
            OPENAI_API_KEY="sk-canary-0123456789abcdef",
        )
    assert "sk-canary" not in done.stderr
    if contact == "401":
        assert done.returncode == 2
        assert "Set OPENAI_API_KEY, or" in done.stderr.splitlines()[-1]
        assert (done.stdout, provider.requests) == ("", 0)
        return
    assert done.returncode == 3
    assert "stopped early: authentication, which every other request would meet" in done.stderr
    assert "30 results are still pending: mend what failed, then run the same" in done.stderr
    assert 1 <= provider.requests <= 4
