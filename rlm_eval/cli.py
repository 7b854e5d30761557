"""The command line: arguments → composed configuration → run → exit code."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from typing import Any

from rlm_eval.compose import compose_tree
from rlm_eval.config import ROLE_KEYS, check_config
from rlm_eval.errors import ConfigError

FINISHED, FAILED, BAD_INPUT, PENDING, INTERRUPTED = 0, 1, 2, 3, 130

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
