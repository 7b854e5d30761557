"""What is mistyped on a command line, and the one line that says how it is written."""

from __future__ import annotations

import argparse
import importlib.resources
import re
from collections.abc import Callable, Collection, Iterator, Sequence
from difflib import get_close_matches
from importlib.resources.abc import Traversable
from typing import Any, NoReturn

import yaml

from rlm_eval.config.credentials import refuse_credentials
from rlm_eval.errors import ConfigError

#: Hydra's options that are left to it, and those of them that take a word.
_WITH_WORD = {
    *("--package", "-p", "--config-dir", "-cd", "--config-path", "-cp", "--config-name", "-cn"),
    *("--cfg", "-c", "--info", "-i", "--experimental-rerun"),
}
FLAGS = {*_WITH_WORD, "-m", "--multirun", "-r", "--run", "--resolve", "--hydra-help", "-sc"}
#: Where a key without its group is looked for first.
_FIRST = ("task", "model", "budget", "method")


class Arguments(argparse.ArgumentParser):
    """A command's arguments. Bad ones are one line, as all bad input is."""

    def error(self, message: str) -> NoReturn:
        options, hint = list(self._option_string_actions), f"see {self.prog} --help"
        for word in re.findall(r"--[\w-]+", message):
            hint = f"did you mean {n[0]}?" if (n := get_close_matches(word, options, 1)) else hint
        raise ConfigError(f"{message}: {hint}")


def groups() -> list[str]:
    """The folders of conf/: what may be chosen by NAME."""
    return sorted(f.name for f in _conf().iterdir() if f.is_dir() and f.name[0] not in "_.")


def options(group: str) -> dict[str, Traversable]:
    """The files that ``group=NAME`` chooses from by their names; those in its folders last."""
    return dict(sorted(_files(_conf() / group, ""), key=lambda item: ("/" in item[0], item[0])))


def _conf() -> Traversable:
    return importlib.resources.files("rlm_eval.conf")


def _files(folder: Traversable, prefix: str) -> Iterator[tuple[str, Traversable]]:
    for file in folder.iterdir():
        if file.name.endswith(".yaml"):
            yield prefix + file.name.removesuffix(".yaml"), file
        elif file.is_dir() and not file.name.startswith("__"):
            yield from _files(file, f"{prefix}{file.name}/")


def refuse_words(
    arguments: Sequence[str], commands: Collection[str], keys: Callable[[], Sequence[str]]
) -> None:
    """Raise ConfigError for the first of a run's arguments that is no KEY=VALUE and no option of
    Hydra's. ``keys`` gives those that there are, whatever is chosen."""
    top = yaml.safe_load((_conf() / "config.yaml").read_text(encoding="utf-8"))
    switches = {key for key, value in top.items() if isinstance(value, bool)}
    for i, word in enumerate(arguments):
        before, after = (arguments[i - 1] if i else ""), [*arguments[i + 1 :], "", ""]
        key, equals, value = word.partition("=")
        bare = not equals and word[:1] not in "-~"
        joined = word + after[0] + after[1] * (after[0] == "=")
        if before.count("[") > before.count("]"):
            raise ConfigError(f"{before} {word}: quote a list as a whole: '{before}{word}'")
        if bare and after[0].startswith("="):
            raise ConfigError(f"no spaces around =: write {joined}")
        if bare and before.endswith("="):
            raise ConfigError(f"no spaces around =: write {before}{word}")
        if word.startswith("-") and key not in FLAGS:
            name = key.lstrip("-").replace("-", "_")
            if not value and after[0][:1] not in "-" and "=" not in after[0]:
                value = after[0]
            refuse_credentials({"model": {name: value}})
            name = name if name in {*groups(), *top} else (*nearest(name, keys()), name)[0]
            value = value or ("true" if name in switches else "VALUE")
            raise ConfigError(f"there is no option {key}: settings have no dashes: {name}={value}")
        if bare and before not in _WITH_WORD:
            raise ConfigError(_bare(word, switches, {*groups(), *top}, commands))


def _bare(word: str, switches: set[str], keys: set[str], commands: Collection[str]) -> str:
    """What is to be said of a word alone."""
    if (key := word.replace("-", "_")) in switches:
        return f"a setting is KEY=VALUE: write {key}=true"
    if word in keys:
        return f"a setting is KEY=VALUE: write {word}=VALUE"
    if chosen := [f"{g}=[{word}]" if g == "method" else f"{g}={word}" for g in groups()
                  if word in options(g)]:  # fmt: skip
        return f"a setting is KEY=VALUE: write {chosen[-1]}"
    near = get_close_matches(word, commands, n=1)
    hint = f"did you mean {near[0]}?" if near else f"commands are {', '.join(commands)}"
    return f"there is no command {word!r}: {hint} (a run needs none; a setting is KEY=VALUE)"


def refuse_override(override: str) -> None:
    """Raise ConfigError for an override that Hydra would take, or refuse, in words of its own."""
    key, _, value = override.lstrip("+").partition("=")
    group = key.partition("@")[0]
    if group in groups() and value in ("null", ""):
        raise ConfigError(f"{override}: choose {', '.join(options(group))}, or leave it out")
    if re.fullmatch(r"budget(\.run|\.sample)?=[\d.]+", override):
        scope = key if "." in key else "budget.run"
        raise ConfigError(f"{override}: of what? {scope}.usd={value}, say, or .calls, .tokens, ...")
    if key.startswith("method@") and not key.startswith("method@method."):
        arm = key.partition("@")[2]
        raise ConfigError(f"{override}: an arm is a part of method: '+method@method.{arm}={value}'")


def refuse_replaced(overrides: Sequence[str]) -> None:
    """Raise ConfigError for an experiment, or an arm, that another one would silently replace."""
    given = [override.partition("=")[::2] for override in overrides]
    chosen = [value for key, value in given if key == "experiment"]
    if len(set(chosen)) > 1:
        raise ConfigError(
            f"experiment={chosen[-1]} would replace experiment={chosen[0]}: give one, and what you "
            "want of the other by its keys"
        )
    listed = [value for key, value in given if key == "method"]
    if not listed and not chosen:
        top = yaml.safe_load((_conf() / "config.yaml").read_text(encoding="utf-8"))
        listed = [",".join(entry["method"]) for entry in top["defaults"] if "method" in entry]
    arms = [arm for text in listed[-1:] for arm in re.findall(r"[\w/]+", text)]
    named = [(arm.rpartition("/")[2], arm) for arm in arms]
    for key, value in given:
        if key.startswith("+method@method."):
            named.append((key.removeprefix("+method@method."), value))
    for i, (name, arm) in enumerate(named):
        if other := [was for known, was in named[:i] if known == name]:
            raise ConfigError(
                f"{arm} would replace {other[0]}, since both are called {name}: give it a name of "
                f"its own, as in '+method@method.{name}_2={arm}'"
            )


def no_option(group: str, name: str) -> str:
    """One line for a NAME that a group has not."""
    known, told = list(options(group)), f"there is no {group} {name!r}: "
    near = get_close_matches(name, known, n=1, cutoff=0.8 if group == "model" else 0.6)
    if near:
        return f"{told}did you mean {near[0]}?"
    if group == "model":
        full = name if "/" in name else f"PROVIDER/{name}"
        told += f"a hosted one without a preset is model=litellm model.name={full}; else "
    return f"{told}choose {', '.join(known)}"


def misread(error: Exception, text: str) -> str | None:
    """One line for an override that Hydra can't read; None where that was not the matter."""
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
        return f"{override} ends with a comma: what comes after it?"
    if override.count("[") != override.count("]"):
        return f"{override}: a bracket is missing; quote a list as a whole, as in 'key=[a,b]'"
    return f"{override} can't be read: texts with such signs take quotes, as in 'key=\"a: b\"'"


def nearest(key: str, known: Sequence[str]) -> list[str]:
    """The keys that are probably meant: one beside it, else of this name elsewhere."""
    parent, _, last = key.rpartition(".")
    beside = {k.rpartition(".")[2]: k for k in known if k.rpartition(".")[0] == parent}
    if near := get_close_matches(last, beside, n=1):
        return [beside[near[0]]]
    elsewhere = [k for k in known if k.rpartition(".")[2] == last]
    order = [*_FIRST, *sorted({k.partition(".")[0] for k in elsewhere})]
    elsewhere.sort(key=lambda k: (order.index(k.partition(".")[0]), k.count(".")))
    return elsewhere[:3] or get_close_matches(key, known, n=1, cutoff=0.75)


def unknown_key(key: str, known: Sequence[str]) -> str:
    """One line for a key nobody reads, with the nearest one that exists."""
    if key in known:
        return f"{key} can't be set here: set it where {key.rpartition('.')[0]} comes from"
    head, _, rest = key.partition(".")
    arm = rest.partition(".")[0]
    if head == "method" and "." in rest and f"method.{arm}" not in known:
        arms = [k.partition(".")[2] for k in known if k.startswith("method.") and k.count(".") == 1]
        if arms:
            return f"{key}: this run has no arm {arm}, only {', '.join(arms)}: see method=[...]"
    if near := nearest(key, known):
        return f"unknown key {key}: did you mean {' or '.join(near)}?"
    parent = key.rpartition(".")[0]
    beside = sorted(k for k in known if k.rpartition(".")[0] == parent)
    return f"unknown key {key}: known here: {', '.join(beside) or 'none'}"


def misfit(key: str, given: Any, kind: str, told: str) -> str:
    """One line for a value that does not fit its setting; ``kind`` and ``told`` are pydantic's."""
    if kind in ("is_instance_of", "list_type", "tuple_type") and isinstance(given, str | int):
        return f"{key}={given!r} does not fit: write a list, {key}=[{given}]"
    if given in ("None", "none", "nil", "NULL"):
        told = f"for none write {key}=null"
    return f"{key}={given!r} does not fit: {told}"
