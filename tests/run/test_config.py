"""Every configuration file composes, is accepted by its class, and hashes as it should."""

from __future__ import annotations

import inspect
import re
import shlex
from dataclasses import MISSING, fields, is_dataclass
from importlib import import_module
from pathlib import Path
from typing import get_args

import pytest
import yaml

import rlm_eval
from rlm_eval.commands.cli import run_command
from rlm_eval.config.check import RunConfig, build, check_config, check_task
from rlm_eval.config.compose import compose_tree, jobs_of
from rlm_eval.config.sources import _at_first
from rlm_eval.config.spelling import misread
from rlm_eval.errors import ConfigError
from rlm_eval.methods.controls import How
from rlm_eval.runs.assemble import all_work, assemble, samples_of

CONF = Path(rlm_eval.__file__).parent.parent / "conf"
#: What a file needs beside its name to be complete.
NEEDS = {
    "litellm": ["model.name=openai/x"],
    "vllm": ["model.name=x"],
    "openai_compatible": ["model.name=x", "model.api_base=http://localhost:1234/v1"],
    "asked": ["task.path=x.json"],
    "exported": ["task.path=x.jsonl"],
}


#: A file that holds several arms.
SEVERAL = "cheats"


def names(group: str) -> list[str]:
    return sorted(f.stem for f in (CONF / group).glob("*.yaml") if f.stem != SEVERAL)


@pytest.mark.parametrize("name", names("task"))
def test_every_task_file_fits_its_class(name: str) -> None:
    overrides = [f"task={name}", *NEEDS.get(name, [])]
    if name in {"babilong", "codeqa", "graphwalks", "hotpotqa", "longbench_v2"}:
        overrides.append("task.path=x.jsonl")
    if name in {"mrcr", "musique", "oolong", "squad"}:
        overrides.append("task.path=x.jsonl")
    check_config(compose_tree(overrides))


@pytest.mark.parametrize("name", [n for n in names("model") if n != "same"])
def test_every_model_file_fits_its_class(name: str) -> None:
    check_config(compose_tree([f"model={name}", *NEEDS.get(name, [])]))


@pytest.mark.parametrize("name", [n for n in names("model") if n.startswith("claude")])
def test_a_cache_that_has_to_be_asked_for_is(name: str) -> None:
    """Verdicts reckon with it, and writing into it has a price."""
    model = compose_tree([f"model={name}"])["model"]
    assert model["cache_marks"]
    assert model["price"]["cache_write"] > model["price"]["input"]


@pytest.mark.parametrize("name", [n for n in names("model") if n.startswith("claude")])
def test_what_counts_more_tokens_than_the_offline_tokenizer_has_room_for_them(name: str) -> None:
    assert compose_tree([f"model={name}"])["model"]["token_margin"] > 1.3


@pytest.mark.parametrize("name", [n for n in names("model") if n.startswith("gpt-5")])
def test_what_the_offline_tokenizer_counts_exactly_has_no_margin(name: str) -> None:
    model = compose_tree([f"model={name}"])["model"]
    assert (model["tokenizer"], model["token_margin"]) == ("o200k_base", 1.0)


@pytest.mark.parametrize("name", names("method"))
def test_every_method_file_fits_its_class(name: str) -> None:
    config = check_config(compose_tree([f"method=[{name}]"]))
    assert list(config["method"]) == [name]


@pytest.mark.parametrize("name", names("method"))
def test_a_method_file_says_what_its_class_does_by_default(name: str) -> None:
    """Every parameter stands in the file, with the class's own default where there is one; a
    variant of another file differs from that in what it is for."""
    own = yaml.safe_load((CONF / "method" / f"{name}.yaml").read_text())
    variant = any(str(entry).endswith("@_here_") for entry in own.get("defaults", ()))
    node = compose_tree([f"method=[{name}]"])["method"][name]
    module, _, target = node.pop("_target_").rpartition(".")
    node.pop("kind", None)  # what it is in verdicts, and no parameter
    found = getattr(import_module(module), target)
    factories = {f.name: f.default_factory for f in fields(found)} if is_dataclass(found) else {}
    parameters = inspect.signature(found).parameters
    assert set(node) == set(parameters)
    for key, value in node.items():
        default = parameters[key].default
        if factories.get(key, MISSING) is not MISSING:
            default = factories[key]()
        if default is not inspect.Parameter.empty and not (variant and key in own):
            assert value == default, key


@pytest.mark.parametrize("extra", ["joblib", "submitit_slurm"])
def test_a_launcher_that_is_not_installed_is_an_extra(extra: str) -> None:
    """As Hydra says it where the plugin is missing."""
    said = f"In 'hydra/launcher/processes': Could not load 'hydra/launcher/{extra}'."
    told = f'pip install -e ".[{extra.removeprefix("submitit_")}]"'
    assert told in str(misread(Exception(said), said))


def test_cheats_are_arms_beside_others() -> None:
    chosen = check_config(compose_tree(["method=[rlm,direct,cheats]"]))["method"]
    hows = {name: node["how"] for name, node in chosen.items() if name.startswith("cheat_")}
    assert hows == {f"cheat_{how}": how for how in get_args(How)}
    assert set(chosen) == {"rlm", "direct", *hows}


@pytest.mark.parametrize("name", names("method/hosted"))
def test_a_hosted_method_is_the_same_arm_at_other_sizes(name: str) -> None:
    (arm,), (usual,) = (
        check_config(compose_tree([f"method=[{choice}]"]))["method"].items()
        for choice in (f"hosted/{name}", name)
    )
    assert arm[0] == usual[0] == name
    changed = {key for key, value in arm[1].items() if value != usual[1][key]}
    sizes = {"top_k", "token_budget", "prompt", "rlm", "max_iterations"}
    assert changed
    assert {key for key in changed if not key.endswith("_tokens")} <= sizes


def test_hosted_sizes_are_for_the_arms_that_are_chosen() -> None:
    chosen = ["experiment=hosted", "method=[direct,hosted/rlm]"]
    second = ["+method@method.rlm_d0=hosted/rlm", "method.rlm_d0.max_depth=0"]
    arms = check_config(compose_tree([*chosen, *second, "method.rlm.turn_tokens=7"]))["method"]
    assert {name: node.get("turn_tokens") for name, node in arms.items()} == {
        "direct": None,
        "rlm": 7,
        "rlm_d0": 2048,
    }
    assert list(check_config(compose_tree(["experiment=hosted"]))["method"]) == list(
        compose_tree([])["method"]
    )


@pytest.mark.parametrize("name", names("sandbox"))
def test_every_sandbox_file_fits_its_class(name: str) -> None:
    check_config(compose_tree([f"sandbox={name}"]))


def test_identity_forgets_run_time_settings_and_nothing_else() -> None:
    plain = check_config(compose_tree([])).identity
    assert check_config(compose_tree(["concurrency=7", "results_dir=/x"])).identity == plain
    for change in ("seed=1", "task.n=9", "method=[direct]", "method.rlm.max_depth=0", "repeats=2"):
        assert check_config(compose_tree([change])).identity != plain, change


def test_a_run_made_before_a_setting_of_its_model_was_there_is_the_same_with_it_off() -> None:
    now, thinks = (
        check_config(compose_tree(["model=local", f"model.reasoning_tokens={n}"])) for n in (0, 9)
    )
    model = {key: v for key, v in now["model"].items() if key != "reasoning_tokens"}
    before = RunConfig({**now.tree, "model": model})
    assert before.identity == now.identity != thinks.identity
    assert RunConfig({**before.tree, "sub_model": now["model"]}).identity == (
        RunConfig({**now.tree, "sub_model": model}).identity
    )


def test_sub_model_overlays_the_root_model() -> None:
    config = check_config(compose_tree(["model=scripted", "sub_model.name=other"]))
    assert config["sub_model"]["name"] == "other"
    assert config["sub_model"]["_target_"] == config["model"]["_target_"]
    assert check_config(compose_tree(["model=scripted"]))["sub_model"] is None


@pytest.mark.parametrize(
    ("words", "price"),
    [
        (["sub_model.name=openai/gpt-5-mini"], None),
        (["sub_model.name=openai/gpt-5-mini", "+sub_model.price={input: 0.25, output: 2}"], 0.25),
        (["+sub_model.reasoning_tokens=0"], 1.25),
    ],
)
def test_another_model_has_not_the_roots_price(words: list[str], price: float | None) -> None:
    config = check_config(compose_tree(["model=gpt-5", *words]))
    assert config["sub_model"]["price"].get("input") == price


def test_a_target_outside_the_package_needs_permission() -> None:
    tree = compose_tree([])
    tree["task"] = {"_target_": "collections.Counter"}
    with pytest.raises(ConfigError, match="allow_targets"):
        check_config(tree)


def test_permission_for_a_package_is_none_for_another_of_like_name() -> None:
    tree = compose_tree(["allow_targets=[my_tasks]"])
    tree["task"] = {"_target_": "my_tasks_other.Farewell"}
    with pytest.raises(ConfigError, match="allow_targets"):
        check_config(tree)


def test_a_target_deeper_within_is_refused_and_not_built() -> None:
    evil = "+model.params.evil={_target_:pathlib.Path.touch,self:/tmp/evil}"
    with pytest.raises(ConfigError, match=r"model\.params holds a _target_"):
        check_config(compose_tree(["model=scripted", "model=local", evil]))
    config = check_config(compose_tree(["model=scripted"]))
    assert build("model", config["model"]).info.simulated


def test_tries_have_a_method_of_their_own_in_a_sandbox_that_is_shared() -> None:
    chosen = ["method=[tries]", "+method@method.judged=tries", "method.judged.choose=judge"]
    tries, judged = assemble(check_config(compose_tree(chosen))).arms
    assert tries.method.of is not judged.method.of
    assert tries.method.of.sandbox is judged.method.of.sandbox


@pytest.mark.parametrize(
    ("override", "told"),
    [
        ("budget.run.usd=abc", r"budget\.run\.usd='abc' does not fit"),
        ("+budget.run.foo=1", r"unknown key budget\.run\.foo"),
        ("+budget.fun=1", r"did you mean budget\.run"),
        ("budget.sample.tokens=1.5", r"budget\.sample\.tokens=1\.5 does not fit"),
        ("budget.sample.calls=0", r"budget\.sample\.calls=0 does not fit: .* greater than 0"),
        ("budget.matched=often", r"budget\.matched='often'"),
        ("budget.run=5", r"budget\.run=5: of what\?"),
        ("budget.run.usd=nan", r"budget\.run\.usd=nan does not fit"),
        ("~retry", "retry is missing"),
        ("~repeats", "repeats is missing"),
    ],
)
def test_caps_and_what_every_run_needs_are_checked(override: str, told: str) -> None:
    with pytest.raises(ConfigError, match=told):
        check_config(compose_tree([override]))


def test_a_budget_without_a_scope_has_no_cap_there() -> None:
    config = check_config(compose_tree(["~budget.sample", "budget.run.usd=3"]))
    assert config["budget"]["sample"] == dict.fromkeys(("calls", "tokens", "usd", "seconds"))
    assert config["budget"]["run"]["usd"] == 3.0


@pytest.mark.parametrize(
    ("overrides", "told"),
    [
        (["+method@method.d0=rlm", "method.d0.turn_tokens=0"], r"^method\.d0\.turn_tokens"),
        (["method=[codeact_bm25]", "method.codeact_bm25.piece_tokens=0"], "codeact_bm25.piece"),
        (["method=[rlm]", "method.rlm.max_depth=-1"], r"^method\.rlm\.max_depth"),
        (["embed_model=litellm", "embed_model.name=openai/x", "embed_model.limits.start=99"],
         r"^embed_model\.limits\.start must be at most"),
        (["method=[rlm]", "model.context_window=1000"], "^method.rlm.turn_tokens must be lower"),
        (["budget.matched=true"], r"matched methods spend up to .* set budget\.sample\.tokens"),
        (["budget.matched=true", "budget.sample.usd=1"], "for models that cost something"),
        (["embed_model=litellm", "embed_model.name=openai/x", "embed_model.api_base=http://x/v1",
          "budget.run.usd=1"], r"^budget\.run\.usd is set but openai/x has no price: set 'embed_m"),
    ],
)  # fmt: skip
def test_what_is_wrong_is_called_by_the_key_that_was_given(overrides: list[str], told: str) -> None:
    with pytest.raises(ConfigError, match=told):
        assemble(check_config(compose_tree(["model=scripted", *overrides])))


@pytest.mark.parametrize(
    ("overrides", "roles"),
    [
        (["method=[rlm]"], {"root", "sub"}),
        (["method=[rlm]", "method.rlm.max_depth=0"], {"root"}),
        (["method=[codeact]"], {"root"}),
        (["method=[codeact_subcalls]"], {"root", "sub"}),
    ],
)
def test_a_method_has_the_roles_that_its_settings_leave_it(
    overrides: list[str], roles: set[str]
) -> None:
    config = check_config(compose_tree(["model=scripted", *overrides]))
    assert set(assemble(config).arms[0].method.roles) == roles


def test_an_outside_class_anywhere_is_part_of_the_code_revision(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(str(tmp_path))
    module = tmp_path / "outside_model.py"
    module.write_text("from rlm_eval.models.scripted import ScriptedModel as Own\n")
    tree = compose_tree(["model=scripted", "allow_targets=[outside_model]"])
    tree["sub_model"] = {"_target_": "outside_model.Own"}
    before = assemble(check_config(tree)).sources
    module.write_text(module.read_text() + "# changed\n")
    _at_first.cache_clear()  # as in another process
    assert assemble(check_config(tree)).sources != before


@pytest.mark.parametrize("name", names("experiment"))
def test_every_experiment_composes(name: str) -> None:
    check_config(compose_tree([f"experiment={name}"]))


PUBLISHED = Path(__file__).parents[2] / "results" / "published"
COMMANDS = [
    command
    for name in ("plan.md", "tuning.md")
    for command in re.findall(r"`python -m rlm_eval (.*)`", (PUBLISHED / name).read_text())
]
assert COMMANDS


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_of_the_evidence_would_start(
    command: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(PUBLISHED.parents[1])  # prompts that are tried are named from there
    for module, extra in (("rlm", "rlms"), ("dspy", "dspy")) if "engines" in command else ():
        pytest.importorskip(module, reason=f"needs the extra {extra}")
    assemble(check_config(compose_tree([*shlex.split(command), "model=scripted"])))


def test_a_presets_settings_of_arms_that_are_not_chosen_are_left_out() -> None:
    words = ["experiment=ladder", "method=[direct]", "model=scripted"]
    arms = check_config(compose_tree(words))["method"]
    assert "rlm" not in arms
    assert {"direct", "rlm_d0", "codeact"} <= arms.keys()
    for given in ("method.rlm.max_iterations=9", "+method.rlm.kind=rlm"):
        with pytest.raises(ConfigError, match=r"rlm is no arm of this run: add it to method=\["):
            compose_tree([*words, given])


def test_a_folder_of_ones_own_has_presets_and_is_shown(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for group, text in {
        "task": "defaults: [needle, _self_]\nlengths: [300]\n",
        "experiment": "# @package _global_\nhydra: {sweeper: {params: {seed: '1,2'}}}\n",
    }.items():
        (tmp_path / group).mkdir()
        (tmp_path / group / "mine.yaml").write_text(text)
    own = f"hydra.searchpath=[file://{tmp_path}]"
    assert len(jobs_of(["experiment=mine", own])) == 2
    assert run_command(["task=mine", own, "--cfg", "job"]) == 0
    shown = capsys.readouterr().out
    assert yaml.safe_load(shown)["task"]["lengths"] == [300]
    with pytest.raises(ConfigError, match=r"unknown key task.lenghts: did you mean task.lengths"):
        compose_tree(["task=mine", own, "task.lenghts=[600]"])
    (tmp_path / "method").mkdir()
    (tmp_path / "method/mine.yaml").write_text("# @package method.mine\n_target: x.Y\n")
    with pytest.raises(ConfigError, match=r"method\.mine must be a configuration with a _target_"):
        compose_tree(["method=[direct,mine]", own])


def test_what_python_trips_over_in_the_words_is_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tree = compose_tree(["model=gpt-5", "model.price.as_of=2026-02-30"])
    assert tree["model"]["price"]["as_of"] == "2026-02-30"
    with pytest.raises(ConfigError, match="task: no choice fits the pattern"):
        jobs_of(["task=glob(nope*)"])
    (tmp_path / "hinted.py").write_text(
        "from __future__ import annotations\nfrom typing import TYPE_CHECKING\n"
        "if TYPE_CHECKING:\n    from pathlib import Path\n"
        "def look(where: Path) -> str: return ''\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(ConfigError, match=r"hinted\.look can't be loaded: name 'Path' is"):
        check_task({"_target_": "hinted.look"}, ["hinted"])


def test_the_name_of_a_task_is_no_path() -> None:
    parts = assemble(check_config(compose_tree(["model=scripted", "method=[direct]"])))
    for name, said in (("../../x", "_.._x"), ("a/b", "a_b"), (".notes", "notes"), ("Ä 1", "Ä 1")):
        parts.task.name = name
        assert parts.run_folder.parent == Path(parts.config["results_dir"])
        assert parts.run_folder.name.rpartition("-")[0] == said


def test_the_depth_ablation_differs_in_depth_alone() -> None:
    config = check_config(compose_tree(["experiment=ablation/depth"]))
    depths = {name: node.get("max_depth") for name, node in config["method"].items()}
    assert depths == {"direct": None, "rlm": 1, "rlm_d0": 0, "rlm_d2": 2, "rlm_d3": 3}


def test_an_arms_kind_is_known_to_verdicts_and_changes_no_result() -> None:
    def fingerprint(*more: str) -> str:
        parts = assemble(check_config(compose_tree(["model=scripted", "method=[direct]", *more])))
        return parts.fingerprints["direct"]

    assert fingerprint("+method.direct.kind=rlm") == fingerprint()
    config = check_config(compose_tree(["method=[direct]", "+method.direct.kind=rlm"]))
    assert config["method"]["direct"]["kind"] == "rlm"
    with pytest.raises(ConfigError, match=r"method\.direct\.kind=best must be one of rlm, "):
        check_config(compose_tree(["+method.direct.kind=best"]))


def test_contexts_go_side_by_side_so_that_a_second_question_finds_the_first_ones_prompt() -> None:
    overrides = ["model=scripted", "task.n=8", "task.questions_per_context=2", "concurrency=2"]
    overrides += ["task.lengths=[1650]", "method=[direct,rlm,rag_bm25]"]
    parts = assemble(check_config(compose_tree(overrides)))
    pairs = samples_of(parts.task)
    work = all_work(parts, pairs)
    places = {sample.id: place for place, (_, sample) in enumerate(pairs)}
    assert [places[w.sample.id] for w in work[:4]] == [0, 2, 1, 3], "two contexts, side by side"
    assert [places[w.sample.id] for w in work[12:16]] == [4, 6, 5, 7]
    assert {places[w.sample.id] for w in work} == set(range(8))
    turns = [list(dict.fromkeys(w.arm.name for w in part)) for part in (work[:12], work[12:])]
    assert sorted(turns[0]) == ["direct", "rag_bm25", "rlm"]
    assert turns[0][0] != "direct"  # who reads a part only shows something sooner
    assert turns[1] == [*turns[0][1:], turns[0][0]], "another comes first"


def test_the_embedded_model_has_as_many_questions_at_once_as_slots() -> None:
    pytest.importorskip("xllamacpp", reason="needs the extra local")
    for more, at_once in (["model=local"], 4), (["model.slots=2"], 2), (["concurrency=3"], 3):
        assert assemble(check_config(compose_tree(more))).at_once == at_once
    assert assemble(check_config(compose_tree(["model=scripted"]))).at_once == 16
