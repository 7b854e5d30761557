"""The command line: a command's name and its arguments, or the overrides of a run."""

from __future__ import annotations

import importlib
import os
import shlex
import sys
from collections.abc import Callable, Sequence
from typing import Any

from rlm_eval.commands.sweep import carry_out_jobs, in_shards
from rlm_eval.config.check import ROLE_KEYS, check_config
from rlm_eval.config.compose import commented, compose_tree, jobs_of, known_keys
from rlm_eval.config.spelling import refuse_words
from rlm_eval.errors import ConfigError, is_the_machines
from rlm_eval.journal.redaction import Redactor, secrets_of
from rlm_eval.records import plain
from rlm_eval.runs.assemble import assemble
from rlm_eval.runs.run import BAD_INPUT, FAILED, FINISHED, INTERRUPTED, carry_out_parts

_MODULES = ("ask", "report", "compare", "replay", "resume", "claims", "export")
#: A first word that is no override names a command: a module with ``main(arguments)``, which
#: returns the exit code and raises ConfigError for bad input.
COMMANDS = {m: f"rlm_eval.commands.{m}" for m in _MODULES}
COMMANDS |= {"merge": "rlm_eval.commands.sweep", "list": "rlm_eval.commands.help"}
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
        shown = ("--cfg", "-c", "job", "--cfg=job")
        overrides = [_unaliased(a) for a in arguments if a not in shown]
        words = [o for o in overrides if o not in ("-m", "--multirun")]
        multirun = len(words) < len(overrides)
        jobs = jobs_of(words, multirun=multirun)
        if len(overrides) < len(arguments):
            for job in jobs:
                if len(jobs) > 1:
                    print(f"# {shlex.join(job)}")
                print(commented(job))
            return FINISHED
        config = check_config(compose_tree(jobs[0]))
        if multirun or len(jobs) > 1 or in_shards(config):
            return carry_out_jobs(words, jobs)
        launched = [word for word in words if word.startswith("hydra/launcher")]
        if launched and config["shards"] == 1:
            raise ConfigError(f"{launched[0]}: it is for shards and sweeps: add shards=N, or -m")
        return carry_out_parts(assemble(config))
    except ConfigError as error:
        return _refused(error, name)
    except OSError as error:  # of a file that was named, or of the machine outside a run
        if not name and not is_the_machines(error):
            raise
        where = f"{error.filename}: " if error.filename else ""
        code = _refused(ConfigError(f"{where}{error.strerror or error}"), name)
        return FAILED if is_the_machines(error) else code
    except KeyboardInterrupt:  # before a run's first question, or in its report
        print("rlm_eval: interrupted; the same command goes on with it", file=sys.stderr)
        return INTERRUPTED


def composed(overrides: Sequence[str]) -> dict[str, Any]:
    """The configuration of the one run that words make. Raises ConfigError, also for several."""
    jobs = jobs_of([_unaliased(o) for o in overrides], multirun=False)
    tree = compose_tree(jobs[0])
    if len(jobs) > 1 or (tree["shards"] != 1 and not tree["shard"]):
        raise ConfigError("these are several runs: only the command line carries them out")
    return tree


def _unaliased(argument: str) -> str:
    key, equals, value = argument.partition("=")
    return f"{_ALIASES[key]}={value}" if equals and key in _ALIASES else argument


def _refused(error: ConfigError, command: str = "") -> int:
    print(f"{' '.join(['rlm_eval', command]).strip()}: {in_one_line(error)}", file=sys.stderr)
    return BAD_INPUT


def in_one_line(error: ConfigError) -> str:
    """What is wrong with the input, without keys and what a terminal would obey."""
    return plain(Redactor(secrets_of(os.environ))(" ".join(str(error).split())))
