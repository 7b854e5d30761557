"""``rlm-eval resume RUN``: go on with a run from its own configuration."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from rlm_eval.config.check import check_config
from rlm_eval.config.compose import permissions, recorded_tree, refuse_reaching
from rlm_eval.config.credentials import from_environment
from rlm_eval.config.spelling import Arguments
from rlm_eval.errors import ConfigError
from rlm_eval.journal.environment import recorded_environment
from rlm_eval.journal.past import results_folder
from rlm_eval.runs.assemble import assemble
from rlm_eval.runs.run import carry_out_parts

_SHOWN = 5


def resume(run_dir: Path, *, changed: bool = False, allowed: Sequence[str] = ()) -> int:
    """Continue the run in ``run_dir``, whatever its folder is called now; the exit code. Raises
    ConfigError if it is no run, where it reaches out of its folder and that is not ``allowed``, and
    where what made its results has changed since, unless ``changed`` allows a new run beside it,
    which reuses the results of arms that are the same."""
    recorded_as = recorded_tree(run_dir)
    refuse_reaching(recorded_as, run_dir, "resume", allowed)
    run_dir = run_dir.resolve()  # the run's name is its folder's
    tree = {**from_environment(recorded_as), "allow_targets": list(allowed)}
    tree["results_dir"] = str(results_folder(run_dir))
    parts = assemble(check_config(tree))
    recorded = recorded_environment(run_dir)
    made_of = {"fingerprints": parts.fingerprints, "task_source": parts.task.source}
    same = all(recorded.get(key) == value for key, value in made_of.items())
    if same or changed:
        return carry_out_parts(parts, run_dir if same else None)
    sources = recorded.get("sources") or {}
    names = sorted({*sources, *parts.sources})
    names = [name for name in names if sources.get(name) != parts.sources.get(name)]
    what = ", ".join(names[:_SHOWN]) + (", …" if len(names) > _SHOWN else "")
    raise ConfigError(
        f"what made {run_dir} has changed since ({what or 'configuration, prompts or data'}): take"
        " that again, or add --changed to begin a new run that reuses what is still valid"
    )


def main(arguments: Sequence[str]) -> int:
    parser = Arguments(
        "resume",
        "Go on with a run from its own configuration. Code, files and "
        "servers beside it are allowed by allow_targets=[MODULE,...].",
    )
    parser.add_argument("run", type=Path, metavar="RUN", help="run directory")
    parser.add_argument(
        "--changed",
        action="store_true",
        help="where sources, prompts or configuration have changed since, begin a new run that "
        "reuses what is still valid",
    )
    rest, allowed = permissions(arguments)
    options = parser.parse_args(rest)
    return resume(options.run, changed=options.changed, allowed=allowed)
