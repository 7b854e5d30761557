"""The command line: a command's name and its arguments, or the overrides of a run."""

from __future__ import annotations

import importlib
import os
import sys
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from rlm_eval.commands.sweep import carry_out_jobs, in_shards
from rlm_eval.config.check import ROLE_KEYS, check_config
from rlm_eval.config.compose import (
    check_overrides,
    commented,
    compose_tree,
    jobs_of,
    known_keys,
    plain_tree,
)
from rlm_eval.config.spelling import refuse_words
from rlm_eval.errors import ConfigError
from rlm_eval.journal.redaction import Redactor, secrets_of
from rlm_eval.runs.assemble import assemble
from rlm_eval.runs.run import BAD_INPUT, FAILED, FINISHED, INTERRUPTED, carry_out_parts

#: A first word that is no override names a command: a module with ``main(arguments)``, which
#: returns the exit code and raises ConfigError for bad input.
COMMANDS = {
    "ask": "rlm_eval.commands.ask",
    "report": "rlm_eval.commands.report",
    "compare": "rlm_eval.commands.compare",
    "replay": "rlm_eval.commands.replay",
    "resume": "rlm_eval.commands.resume",
    "claims": "rlm_eval.commands.claims",
    "merge": "rlm_eval.commands.merge",
    "export": "rlm_eval.commands.export",
    "list": "rlm_eval.commands.help",
}
#: Groups that may be given without their package: sub_model=NAME for model@sub_model=NAME.
_ALIASES = {key: f"model@{key}" for key in ROLE_KEYS.values()}


def run_command(arguments: Sequence[str]) -> int:
    """Do what the arguments say; the process's exit code."""
    name = arguments[0] if arguments else ""
    try:
        if name in COMMANDS:
            main: Callable[[Sequence[str]], int]
            main = importlib.import_module(COMMANDS[name]).main
            return main(arguments[1:])
        name = ""
        refuse_words(arguments, COMMANDS, known_keys)
        overrides = [
            _unaliased(a) for a in arguments if a not in ("--cfg", "-c", "job", "--cfg=job")
        ]
        if len(overrides) < len(arguments) and all("=" in a or a[0] == "~" for a in overrides):
            print(commented(overrides))
            return FINISHED
        flags = {a for a in arguments if a.startswith("-")} - {"-m", "--multirun"}
        if flags or any(a.startswith("hydra/sweeper=") for a in arguments):
            return _with_hydra_main([_unaliased(a) for a in arguments])
        words = [o for o in overrides if not o.startswith("-")]
        multirun = len(words) < len(overrides)
        jobs = jobs_of(words, multirun=multirun)
        config = check_config(compose_tree(jobs[0]))
        if multirun or len(jobs) > 1 or in_shards(config):
            return carry_out_jobs(words, jobs)
        return carry_out_parts(assemble(config))
    except ConfigError as error:
        return _refused(error, name)
    except OSError as error:  # of a file that was named; a machine's own failure ends in run.py
        if not name:
            raise
        return _refused(ConfigError(f"{error.filename}: {error.strerror}"), name)
    except KeyboardInterrupt:  # before a run's first question, or in its report
        print("rlm_eval: interrupted; the same command goes on with it", file=sys.stderr)
        return INTERRUPTED


def composed(overrides: Sequence[str]) -> dict[str, Any]:
    """The configuration of the one run that the words of a command line make. Raises ConfigError,
    also where they make several."""
    jobs = jobs_of([_unaliased(o) for o in overrides], multirun=False)
    tree = compose_tree(jobs[0])
    if len(jobs) > 1 or (tree["shards"] != 1 and not tree["shard"]):
        raise ConfigError("these are several runs: only the command line carries them out")
    return tree


def run_tree(tree: Mapping[str, Any]) -> int:
    """Check a configuration and carry it out."""
    return carry_out_parts(assemble(check_config(tree)))


def _with_hydra_main(arguments: Sequence[str]) -> int:
    """Hydra's further flags and sweepers; the exit code is the worst of the runs."""
    import hydra
    from omegaconf import DictConfig

    overrides = [a for a in arguments if a not in ("-m", "--multirun")]
    check_overrides(overrides)
    codes: list[int] = []

    @hydra.main(config_path="pkg://rlm_eval.conf", config_name="config", version_base="1.3")
    def job(config: DictConfig) -> None:
        try:
            codes.append(run_tree(plain_tree(config)))
        except ConfigError as error:
            codes.append(_refused(error))
        if codes[-1] == INTERRUPTED:
            sys.exit(INTERRUPTED)

    # Argparse takes no overrides on both sides of a flag.
    sys.argv = [sys.argv[0], *(["-m"] if len(overrides) < len(arguments) else []), *overrides]
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


def _refused(error: ConfigError, command: str = "") -> int:
    print(f"{' '.join(['rlm_eval', command]).strip()}: {in_one_line(error)}", file=sys.stderr)
    return BAD_INPUT


def in_one_line(error: ConfigError) -> str:
    """What is wrong with the input, without keys."""
    return Redactor(secrets_of(os.environ))(" ".join(str(error).split()))
