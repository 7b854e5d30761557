"""What is mistyped on a command line, and the one line that says how it is written."""

from __future__ import annotations

import argparse
import importlib.resources
import re
from collections.abc import Callable, Collection, Mapping, Sequence
from difflib import get_close_matches
from pathlib import Path
from typing import Any, NoReturn

import yaml

from rlm_eval.config.credentials import refuse_credentials
from rlm_eval.errors import ConfigError

#: Hydra's options that a run has.
_OPTIONS = {"-c", "--cfg", "--cfg=job", "-m", "--multirun"}


class Arguments(argparse.ArgumentParser):
    """A command's arguments. Bad ones are one line, as all bad input is."""

    def __init__(self, command: str, description: str, usage: str | None = None) -> None:
        super().__init__(f"rlm-eval {command}", usage, description)

    def error(self, message: str) -> NoReturn:
        words, hint = list(self._option_string_actions), f"see {self.prog} --help"
        for word in re.findall(r"--[\w-]+", message):
            hint = f"did you mean {n[0]}?" if (n := get_close_matches(word, words, 1)) else hint
        raise ConfigError(f"{message}: {hint}")


def groups() -> list[str]:
    """The folders of conf/: what is chosen by NAME."""
    names = sorted(f.name for f in _conf().iterdir() if f.is_dir() and f.name[0] not in "_.")
    return [name for name in names if name not in ("claims", "hydra")]


def options(group: str) -> dict[str, Path]:
    """The files that ``group=NAME`` chooses from by their names; those in its folders last."""
    files = sorted((_conf() / group).rglob("*.yaml"), key=lambda file: (len(file.parts), file))
    return {file.relative_to(_conf() / group).as_posix()[:-5]: file for file in files}


def _conf() -> Path:
    return Path(str(importlib.resources.files("rlm_eval.conf")))


def _top() -> dict[str, Any]:
    """conf/config.yaml as it stands."""
    return dict(yaml.safe_load((_conf() / "config.yaml").read_text(encoding="utf-8")))


def refuse_words(
    arguments: Sequence[str], commands: Collection[str], keys: Callable[[], Sequence[str]]
) -> None:
    """Raise ConfigError for the first of a run's arguments that is no KEY=VALUE and no option of
    Hydra's. ``keys`` gives those that there are, whatever is chosen."""
    for i, word in enumerate(arguments):
        before, after = arguments[i - 1] if i else "", [*arguments[i + 1 :], ""]
        key, equals, value = word.partition("=")
        bare = not equals and word[:1] not in "-~"
        if before.count("[") > before.count("]"):
            told = f"{before} {word}: quote a list as a whole: '{before}{word}'"
        elif bare and (before.endswith("=") or after[0].startswith("=")):
            parts = [before, word] if before.endswith("=") else [word, *after[:2]]
            told = f"no spaces around =: write {''.join(parts[: 3 if '=' in parts else 2])}"
        elif word.startswith("-") and word not in _OPTIONS:
            name, top = key.lstrip("-").replace("-", "_"), _top()
            follows = after[0] if after[0][:1] != "-" and "=" not in after[0] else ""
            value = value or follows or ("true" if top.get(name) is False else "VALUE")
            refuse_credentials({"model": {name: value}})
            if name not in {*groups(), *top}:
                name = (*nearest(name, keys()), name)[0]
            told = f"there is no option {key}: settings have no dashes: {name}={value}"
        elif bare and (before, word) not in (("-c", "job"), ("--cfg", "job")):
            told = _said_of_a_word(word, commands)
        else:
            continue
        raise ConfigError(told)


def _said_of_a_word(word: str, commands: Collection[str]) -> str:
    top, key = _top(), word.replace("-", "_")
    if key in {*groups(), *top}:
        return f"a setting is KEY=VALUE: {key}={'true' if top.get(key) is False else 'VALUE'}"
    for group in ("task", "method", "model", "experiment", "sandbox"):
        if word in options(group):
            return f"a setting is KEY=VALUE: {group}={f'[{word}]' if group == 'method' else word}"
    near = get_close_matches(word, commands, n=1)
    hint = f"did you mean {near[0]}?" if near else f"commands are {', '.join(commands)}"
    return f"there is no command {word!r}: {hint} (a run needs none; a setting is KEY=VALUE)"


def refuse_override(override: str) -> None:
    """Raise ConfigError for an override that Hydra would take, or refuse in words of its own."""
    key, _, value = override.lstrip("+").partition("=")
    group, _, place = key.partition("@")
    if key.startswith(("hydra/sweeper", "hydra.sweeper")):
        raise ConfigError(f"{override}: there are no sweepers: list the values, as in -m seed=1,2")
    if group in groups() and value in ("null", ""):
        raise ConfigError(f"{override}: choose {', '.join(options(group))}, or leave it out")
    if re.fullmatch(r"budget(\.run|\.sample)?=[\d.]+", override):
        scope = key if "." in key else "budget.run"
        raise ConfigError(f"{override}: of what? {scope}.usd={value}, .calls, .tokens or .seconds")
    if group == "method" and place and not place.startswith("method."):
        raise ConfigError(f"{override}: write '+method@method.{place}={value}'")


def refuse_replaced(overrides: Sequence[str]) -> None:
    """Raise ConfigError for an experiment, or an arm, that another one would silently replace."""
    given = [override.partition("=")[::2] for override in overrides]
    chosen = [value for key, value in given if key == "experiment"]
    if len(set(chosen)) > 1:
        raise ConfigError(
            f"experiment={chosen[-1]} would replace experiment={chosen[0]}: give one, and what you "
            "want of the other by its keys"
        )
    arms = [value for key, value in given if key == "method"]
    if not arms and not chosen:
        arms = [str(entry["method"]) for entry in _top()["defaults"] if "method" in entry]
    listed = [] if "],[" in "".join(arms[-1:]) else re.findall(r"[\w/]+", "".join(arms[-1:]))
    named = [(arm.rpartition("/")[2], arm) for arm in listed]
    named += [(key[15:], value) for key, value in given if key.startswith("+method@method.")]
    for i, (name, arm) in enumerate(named):
        for other in (was for known, was in named[:i] if known == name):
            raise ConfigError(
                f"{arm} would replace {other}, since both are called {name}: give it a name of "
                f"its own, as in '+method@method.{name}_2={arm}'"
            )


def misread(error: Exception, text: str) -> str | None:
    """One line for an override that Hydra can't read; None where that was not the matter."""
    if found := re.search(r"'hydra/launcher/(joblib|ray|(?:submitit_)?slurm)'", text):
        extra = found[1].removeprefix("submitit_")
        return f'this launcher is an extra: pip install -e ".[{extra}]"'
    if found := re.search(r"Could not (?:find|load) '(\w+)[\w@.]*/([^']+)'", text):
        return _no_option(*found.groups())
    if found := re.search(r"Ambiguous value for argument '([^=]+)=(.*?)' 1\.", text):
        key, value = found.groups()
        if key == "method":
            return f"{key}={value}: several methods are one list: 'method=[{value}]'"
        lists = "" if key.partition("@")[0] in groups() else f"'{key}=[{value}]' is a list, and "
        return f"{key}={value}: {lists}-m makes a run of each"
    if found := re.search(r"Multiple values for method@method\.(\w+)", text):
        return f"there is an arm {found[1]} already: give the second one another name"
    if found := re.search(r"Could not delete '([^']+)'", text):
        return f"~{found[1]}: there is no such choice to leave out"
    override = getattr(error, "override", None)
    if override is None or "override_grammar" not in text:
        return None
    if override.endswith(","):
        return f"{override} ends with a comma: nothing follows it"
    if override.count("[") != override.count("]"):
        return f"{override}: a bracket is missing; quote a list as a whole, as in 'key=[a,b]'"
    return f"{override} can't be read: texts with such signs take quotes, as in 'key=\"a: b\"'"


def _no_option(group: str, name: str) -> str:
    known, told = list(options(group)), f"there is no {group} {name!r}: "
    if near := get_close_matches(name, known, n=1, cutoff=0.8 if group == "model" else 0.6):
        return f"{told}did you mean {near[0]}?"
    if group == "model":
        full = name if "/" in name else f"PROVIDER/{name}"
        told += f"a hosted one without a preset is model=litellm model.name={full}; else "
    return f"{told}choose {', '.join(known)}"


def nearest(key: str, known: Sequence[str]) -> list[str]:
    """The keys that are probably meant: one beside it, else of this name elsewhere."""
    parent, _, last = key.rpartition(".")
    beside = {k.rpartition(".")[2]: k for k in known if k.rpartition(".")[0] == parent}
    if near := get_close_matches(last, beside, n=1):
        return [beside[near[0]]]
    first = ("task.", "model.", "budget.", "method.")
    elsewhere = [k for k in known if k.rpartition(".")[2] == last]
    elsewhere.sort(key=lambda k: (not k.startswith(first), k.count(".")))
    return elsewhere[:3] or ([] if beside else get_close_matches(key, known, n=1))


def unknown_key(key: str, known: Sequence[str]) -> str:
    """One line for a key nobody reads, with the nearest one that exists."""
    parent, _, last = key.rpartition(".")
    free = parent in known and not any(k.startswith(f"{parent}.") for k in known)
    if free and parent in groups():
        return f"{key}: choose {parent}=NAME first, of {', '.join(options(parent))}"
    if (shared := key.partition(".sandbox.")[2]) and key in known:
        return f"{key} can't be set for one arm: all have sandbox.{shared}"
    like_root = {f"model@{parent}": "same"} in _top()["defaults"] and f"model.{last}" in known
    if key in known or free or like_root:
        return f"{key} is new here: write it with a plus, +{key}=VALUE"
    arm = ".".join(key.split(".")[:2])
    arms = [k[7:] for k in known if k.startswith("method.") and k.count(".") == 1]
    if arms and arm.startswith("method.") and arm not in (key, *known):
        return f"{key}: this run has no {arm}, only {', '.join(arms)}: see method=[...]"
    if near := nearest(key, known):
        return f"unknown key {key}: did you mean {' or '.join(near)}?"
    beside = sorted(k for k in known if k.rpartition(".")[0] == parent)
    return f"unknown key {key}: known here: {', '.join(beside) or 'none'}"


def misfit(key: str, problem: Mapping[str, Any]) -> str:
    """One line for a value that does not fit its setting, by the ``problem`` as pydantic has it."""
    given, told = problem["input"], problem["msg"]
    if problem["type"] in ("is_instance_of", "list_type") and isinstance(given, str | int):
        told = f"write a list, {key}=[{given}]"
    elif given == "None":
        told = f"for none write {key}=null"
    return f"{key}={given!r} does not fit: {told}"
