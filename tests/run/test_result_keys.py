"""A result belongs to the sources and the settings that made it, and to no others."""

from __future__ import annotations

import json
import os
import re
from pathlib import Path

import pytest

from helpers.dataset_rows import longmemeval
from rlm_eval.config.check import check_config
from rlm_eval.config.compose import compose_tree
from rlm_eval.config.sources import _at_first, sources_of
from rlm_eval.errors import ConfigError
from rlm_eval.records import content_hash
from rlm_eval.runs.assemble import assemble

DIRECT = ["rlm_eval.methods.direct", "rlm_eval.runs.runner"]


def write(path: Path, text: str) -> None:
    """Write a file whose time of change is another than before, however coarse the clock."""
    before = path.stat().st_mtime_ns if path.exists() else 0
    path.write_text(text)
    os.utime(path, ns=(before + 10**9, before + 10**9))


def test_what_is_imported_counts_also_inside_functions_and_relative(tmp_path: Path) -> None:
    package = tmp_path / "sourced"
    package.mkdir()
    files = {
        "__init__.py": "",
        "a.py": "def f():\n    from .b import g\n    return g\n",
        "b.py": "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    import sourced.c\n",
        "c.py": "",
        "d.py": "import sourced.b, json, rlm_eval.records, beside_sourced, parts_sourced.x\n",
        "../beside_sourced.py": "try:\n    from .b import g\nexcept ImportError:\n    g = None\n",
        "../parts_sourced/x.py": "",  # in a folder without __init__.py
    }
    for name, text in files.items():
        (package / name).parent.mkdir(exist_ok=True)
        (package / name).write_text(text)
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(tmp_path))
        assert list(sources_of(["sourced.a"])) == ["sourced", "sourced.a", "sourced.b"]
        found = sources_of(["sourced.d"])
        assert {"sourced.b", "sourced.d", "rlm_eval.records", "beside_sourced"} <= found.keys()
        assert "parts_sourced.x" in found
        assert "json" not in found
        before = content_hash(sources_of(["sourced.a"]))
        write(package / "c.py", "changed = 1\n")
        assert content_hash(sources_of(["sourced.a"])) == before
        write(package / "b.py", files["b.py"] + "changed = 1\n")
        with pytest.raises(ConfigError, match=r"sourced/b\.py has changed since this process"):
            sources_of(["sourced.a"])
        _at_first.cache_clear()  # as in another process
        assert content_hash(sources_of(["sourced.a"])) != before


def test_a_plain_methods_results_do_not_depend_on_other_methods_and_tasks() -> None:
    found = sources_of([*DIRECT, "rlm_eval.tasks.generated.needle"])
    assert {"rlm_eval.runs.runner", "rlm_eval.methods.direct", "rlm_eval.models.client"} <= set(
        found
    )
    others = (
        "repl",
        "analysis",
        "commands",
        "methods.rlm",
        "methods.rag",
        "tasks.generated.pairs",
        "conf",
    )
    assert not [n for n in found if n.startswith(tuple(f"rlm_eval.{other}" for other in others))]


def test_an_agents_results_depend_on_all_of_the_sandbox() -> None:
    node = check_config(compose_tree(["method=[rlm]"]))["method"]["rlm"]
    found = sources_of([node["_target_"].rpartition(".")[0]])
    repl = Path(__file__).parents[2] / "rlm_eval" / "repl"
    files = {f"rlm_eval.repl.{p.stem}" for p in repl.glob("*.py") if p.stem != "__init__"}
    assert files <= set(found)


def test_what_is_started_as_a_process_counts_too() -> None:
    """Modules and files that are named in strings, to be started by name or path, are among the
    sources of whoever starts them."""
    root = Path(__file__).parents[2]
    named = re.compile(r'"(rlm_eval(?:\.\w+)+)"|"(\w+)\.py"')
    started = set()
    for room in ("models", "methods", "repl"):
        for file in (root / "rlm_eval" / room).rglob("*.py"):
            user = ".".join(file.relative_to(root).with_suffix("").parts)
            for module, sibling in named.findall(file.read_text()):
                if module != "rlm_eval.conf":  # prompts have hashes of their own
                    started.add((user, module or f"{user.rpartition('.')[0]}.{sibling}"))
    assert {name.rpartition(".")[2] for _, name in started} >= {"llama_server", "host", "starter"}
    for user, name in started:
        assert name in sources_of([user]), (user, name)


def test_arms_have_keys_of_their_own_sources(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A method's file changes: its results are others, its neighbour's are not."""
    monkeypatch.syspath_prepend(str(tmp_path))
    module = tmp_path / "keyed_method.py"
    write(module, "from rlm_eval.methods.direct import Direct as Own\n")
    tree = compose_tree(["model=scripted", "method=[direct]", "allow_targets=[keyed_method]"])
    tree["method"]["own"] = tree["method"]["direct"] | {"_target_": "keyed_method.Own"}

    def fingerprints() -> dict[str, str]:
        return {arm.name: arm.fingerprint for arm in assemble(check_config(tree)).arms}

    before = fingerprints()
    write(module, module.read_text() + "# changed\n")
    _at_first.cache_clear()
    after = fingerprints()
    assert (after["direct"], after["own"] == before["own"]) == (before["direct"], False)


def fingerprint(folder: Path, *changes: str, judge: str = "Right?") -> str:
    """Of an arm whose answers a model grades, by a prompt that says ``judge``."""
    prompt, rows = folder / "judge.yaml", folder / "rows.json"
    prompt.write_text(f"turns: [{{role: user, text: '{judge}'}}]")
    rows.write_text(json.dumps([longmemeval()]))
    words = [
        *("model=scripted", "method=[direct]", "task=longmemeval", "task.lengths=[4096]"),
        *("task.n=1", f"task.path={rows}", f"task.judge={prompt}", *changes),
    ]
    return assemble(check_config(compose_tree(words))).fingerprints["direct"]


@pytest.mark.parametrize(
    ("change", "another"),
    [
        ("temperature=1", True),
        ("memoize=false", True),
        ("budget.sample.calls=9", True),
        ("task.judge_repeats=3", True),
        ("judge_model.name=another", True),
        ("concurrency=3", False),
        ("retry.attempts=9", False),
        ("model=litellm model.name=openai/x model.api_base=http://x/v1", True),
    ],
)
def test_what_changes_an_answer_or_its_score_is_in_the_key_and_nothing_else(
    tmp_path: Path, change: str, another: bool
) -> None:
    assert (fingerprint(tmp_path, *change.split()) != fingerprint(tmp_path)) is another


@pytest.mark.parametrize("setting", ["timeout_s=9", "limits.most=32", "limits.tokens_per_minute=1"])
def test_how_a_model_is_asked_is_in_no_key_and_makes_no_other_run(
    tmp_path: Path, setting: str
) -> None:
    """Who mends a limit that was met goes on with what is there."""
    server = ["model=litellm", "model.name=openai/x", "model.api_base=http://x/v1"]
    one, two = fingerprint(tmp_path, *server), fingerprint(tmp_path, *server, f"model.{setting}")
    assert one == two
    trees = (compose_tree([*server, *more]) for more in ((), (f"model.{setting}",)))
    first, second = (check_config(tree).identity for tree in trees)
    assert first == second


def test_the_words_of_a_judges_prompt_are_in_the_key(tmp_path: Path) -> None:
    assert fingerprint(tmp_path, judge="Correct?") != fingerprint(tmp_path)


def test_other_weights_under_one_path_are_another_model(tmp_path: Path) -> None:
    pytest.importorskip("xllamacpp", reason="needs the extra local")
    gguf = tmp_path / "mine.gguf"
    found = []
    for weights in ("GGUF one", "GGUF two", "GGUF one"):
        gguf.write_text(weights)
        tree = compose_tree(["method=[direct]", f"model.gguf={gguf}", "task.n=1"])
        found.append(assemble(check_config(tree)).fingerprints["direct"])
    assert found[0] == found[2] != found[1]
