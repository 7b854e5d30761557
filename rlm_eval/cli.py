"""The command line: arguments → composed configuration → run → exit code."""

from __future__ import annotations

import importlib.resources
import re
import sys
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from rlm_eval.config import ROLE_KEYS, check_config, unknown_key
from rlm_eval.errors import ConfigError

FINISHED, FAILED, BAD_INPUT, OWED, INTERRUPTED = 0, 1, 2, 3, 130

#: Groups that may be given without their package: sub_model=NAME for model@sub_model=NAME.
_ALIASES = {key: f"model@{key}" for key in ROLE_KEYS.values()}


def run_command(arguments: Sequence[str]) -> int:
    """Run what the arguments say; the process's exit code."""
    arguments = [_unaliased(a) for a in arguments]
    try:
        if any(a.startswith("-") for a in arguments):
            return _with_hydra_main(arguments)
        return run_tree(compose_tree(arguments))
    except ConfigError as error:
        return _refused(error)
    except KeyboardInterrupt:  # before its first question, or in its report
        print("rlm_eval: interrupted; the same command goes on with it", file=sys.stderr)
        return INTERRUPTED


def compose_tree(overrides: Sequence[str]) -> dict[str, Any]:
    """The composed configuration as plain data. Raises ConfigError, in one line, for what Hydra
    can't compose."""
    from hydra import compose, initialize_config_module
    from hydra.errors import HydraException
    from omegaconf import OmegaConf
    from omegaconf.errors import OmegaConfBaseException

    try:
        with initialize_config_module("rlm_eval.conf", version_base="1.3"):
            config = compose("config", overrides=list(overrides))
        tree = OmegaConf.to_container(config, resolve=True)
    except (HydraException, OmegaConfBaseException) as error:
        raise ConfigError(_one_line(error)) from error
    assert isinstance(tree, dict)
    return {str(k): v for k, v in tree.items() if k != "experiment"}


def run_tree(tree: Mapping[str, Any]) -> int:
    """Check a configuration and carry it out."""
    from rlm_eval.run import carry_out

    return carry_out(check_config(tree))


def _with_hydra_main(arguments: Sequence[str]) -> int:
    """Sweeps and Hydra's own flags. The exit code is the worst of the sweep's runs."""
    import hydra
    from omegaconf import DictConfig, OmegaConf

    codes: list[int] = []

    @hydra.main(config_path="pkg://rlm_eval.conf", config_name="config", version_base="1.3")
    def job(config: DictConfig) -> None:
        tree = OmegaConf.to_container(config, resolve=True)
        assert isinstance(tree, dict)
        try:
            codes.append(run_tree({str(k): v for k, v in tree.items() if k != "experiment"}))
        except ConfigError as error:
            codes.append(_refused(error))
        if codes[-1] == INTERRUPTED:
            sys.exit(INTERRUPTED)  # the whole sweep, not this job alone

    # Argparse takes no overrides on both sides of a flag.
    sys.argv = [sys.argv[0], *sorted(arguments, key=lambda a: a not in ("-m", "--multirun"))]
    try:
        job()
    except SystemExit as stopped:
        # Hydra has printed what is wrong with the configuration itself.
        if stopped.code not in (0, None):
            return BAD_INPUT if not codes else max(FAILED, *codes)
    return max(codes, default=FINISHED)


def _unaliased(argument: str) -> str:
    key, equals, value = argument.partition("=")
    return f"{_ALIASES[key]}={value}" if equals and key in _ALIASES else argument


def _refused(error: ConfigError) -> int:
    print(f"rlm_eval: {error}", file=sys.stderr)
    return BAD_INPUT


def _one_line(error: Exception) -> str:
    """Hydra's message of several lines as one that says what to do."""
    text = " ".join(str(error).split())
    missing = re.search(r"Could not (?:find|load) '([\w/@]+)/([^'/]+)'", text)
    if missing:
        group, name = missing[1], missing[2]
        return f"there is no {group} {name!r}: choose {', '.join(_options(group))}"
    unknown = re.search(r"Could not override '([^']+)'", text)
    if unknown:
        return unknown_key(unknown[1], sorted(_keys(compose_tree([]))))
    return text.partition(" full_key:")[0].replace("In 'config': ", "")


def _options(group: str) -> list[str]:
    folder = importlib.resources.files("rlm_eval.conf") / group
    return sorted(f.name.removesuffix(".yaml") for f in folder.iterdir() if ".yaml" in f.name)


def _keys(tree: Mapping[str, Any], prefix: str = "") -> Iterator[str]:
    for key, value in tree.items():
        yield prefix + key
        if isinstance(value, Mapping):
            yield from _keys(value, f"{prefix}{key}.")
