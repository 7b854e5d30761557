"""A run's configuration as plain data: composed by Hydra, or as a run recorded it."""

from __future__ import annotations

import importlib.resources
import os
import re
import shlex
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from functools import cache, partial
from itertools import product
from pathlib import Path
from typing import Any

import yaml

from rlm_eval.config.credentials import from_environment, reference, refuse_credentials
from rlm_eval.config.spelling import misread, options, refuse_override, refuse_replaced, unknown_key
from rlm_eval.errors import ConfigError
from rlm_eval.journal.environment import recorded_configuration

#: An address of another machine; what stands before an @ in it is a user, not the machine.
_ELSEWHERE = re.compile(
    r"[\w+.-]+://(?!(localhost|127\.[\d.]+|0\.0\.0\.0|\[::1?])(:\d+)?([/?#]|$))"
)

#: Settings that are files, and files by names without a slash or a dot too.
_FILES = {"path", "hub", "questions", "haystack_file", "items", "gguf", "readable", "beside"}
#: What names a user's own folders of configuration.
_OWN_CONF = "hydra.searchpath="


def compose_tree(overrides: Sequence[str]) -> dict[str, Any]:
    """The composed configuration as plain data. Raises ConfigError, in one line, for what Hydra
    can't compose, for a chosen arm without ``_target_`` and for settings of one not chosen."""
    with _hydra(overrides) as (compose, loader):
        config = compose(overrides=list(overrides))
        tree = plain_tree(config)
        unnamed = (config.get("method") or {}).keys() - (tree.get("method") or {}).keys()
        packages = {file.package for file in _files(loader, overrides)} if unnamed else set()
        if chosen := packages & {f"method.{name}" for name in unnamed}:
            raise ConfigError(f"{min(chosen)} must be a configuration with a _target_")
    for key in (override.lstrip("+").partition("=")[0] for override in overrides):
        group, arm, *_ = [*key.split("."), ""]
        if group == "method" and arm in unnamed:
            raise ConfigError(f"{key}: {arm} is no arm of this run: add it to method=[...]")
    return tree


def _files(loader: Any, overrides: Sequence[str]) -> list[Any]:
    """The files that a configuration comes from, as Hydra lists them."""
    from hydra.types import RunMode

    files = loader.compute_defaults_list("config", list(overrides), RunMode.RUN).defaults
    return [file for file in files if file.package is not None]


def commented(overrides: Sequence[str]) -> str:
    """The composed configuration as YAML, with its files' comments; see :func:`compose_tree`."""
    from omegaconf import OmegaConf

    with _hydra(overrides) as (compose, loader):
        text = OmegaConf.to_yaml(compose(overrides=list(overrides)))
        files = _files(loader, overrides)
    told: dict[str, list[str]] = {}
    conf = importlib.resources.files("rlm_eval.conf")
    for file in files:
        name = file.config_path or ""
        ours = conf / f"{name}.yaml"  # which a file of a user's own folder is not
        if ours.is_file() and not name.startswith("hydra/"):
            source = ours.read_text(encoding="utf-8")
            package = (file.package or "").removeprefix("_global_")
            told |= {path: lines for path, _, lines in _keyed(source, package) if lines}
    out, _ = [], told.pop("", None)
    for path, line, _ in _keyed(text, ""):
        indent = line[: len(line) - len(line.lstrip())]
        out += [f"{indent}{comment}" for comment in told.get(path, ())]
        out.append(line)
    return "\n".join(out)


def _keyed(text: str, package: str) -> Iterator[tuple[str, str, list[str]]]:
    """The lines of a YAML file but for comments: each with its key's path below ``package`` and the
    comment before it (a file's own, which is its first, has the package's path) or behind it."""
    above, comment, first = [(-1, package)], list[str](), True
    for line in text.splitlines():
        found = re.match(r"( *)([\w.@/-]+):(?: .*?(#.*))?", line)
        if line.lstrip()[:1] == "#":
            comment += [] if "@package" in line else [line.strip()]
        elif found is None:
            yield package, line, comment if first and not line else []
            comment, first = [], first and not comment
        else:
            while above[-1][0] >= len(found[1]):
                above.pop()
            path = f"{above[-1][1]}.{found[2]}".removeprefix(".")
            above.append((len(found[1]), path))
            whole = package if first and found[2] in ("_target_", "defaults") else path
            yield whole, line, comment + ([found[3]] if found[3] else [])
            comment, first = [], False


def jobs_of(overrides: Sequence[str], *, multirun: bool = True) -> list[list[str]]:
    """The overrides of each run that ``overrides`` ask for, as Hydra's own sweeper makes them.
    What a preset sweeps over (``hydra.sweeper.params``), and ``model=[a,b]``, needs no
    ``multirun``. Raises ConfigError for those that can't be read."""
    from hydra.core.override_parser.overrides_parser import OverridesParser

    listed = [re.sub(r"^model=\[(.*)\]$", r"model=\1", o) for o in overrides]
    swept, own = _preset_sweep(listed), {o for o in overrides if not o.startswith("model=[")}
    with _hydra(overrides) as (_, loader):
        parser = OverridesParser.create(loader)
        choices = {
            str(o.get_key_element()): [
                f"{o.get_key_element()}={value}" for value in o.sweep_string_iterator()
            ]
            if o.is_discrete_sweep() and (multirun or o.input_line not in own)
            else [str(o.input_line)]
            for o in parser.parse_overrides([*listed, *swept])
            if not o.key_or_group.startswith(("hydra/", "hydra.launcher"))
        }
    if empty := [key for key, values in choices.items() if not values]:
        told = "no choice fits the pattern: rlm-eval list has what there is"
        raise ConfigError(f"{empty[0]}: {told}")
    jobs = [list(job) for job in product(*choices.values())]
    presets = any(o.startswith("experiment=") for o in swept)
    if presets or len(choices.get("experiment", ())) > 1:
        return [job for one in jobs for job in jobs_of(one)]  # presets with sweeps of their own
    return jobs


def _preset_sweep(overrides: Sequence[str]) -> list[str]:
    """What the chosen experiment sweeps over, but for what is given beside it."""
    chosen = [o for o in overrides if o.startswith("experiment=") and "," not in o]
    if not chosen:
        return []
    given = {o.lstrip("+~").partition("=")[0] for o in overrides} - {"experiment"}
    chosen += [o for o in overrides if o.startswith(_OWN_CONF)]
    with _hydra(chosen) as (compose, _):
        params = compose(overrides=chosen, return_hydra_config=True).hydra.sweeper.params or {}
    return [f"{key}={value}" for key, value in params.items() if key.lstrip("+") not in given]


def launcher_of(overrides: Sequence[str], work: Callable[[Any], None]) -> Any:
    """The Hydra launcher that ``overrides`` name, as ``hydra/launcher=joblib`` does; by default one
    that does jobs one after the other in this process. ``work`` gets each job's configuration."""
    from hydra._internal.callbacks import Callbacks
    from hydra.core.plugins import Plugins
    from hydra.types import HydraContext

    own = [o for o in overrides if o.startswith(("hydra", "+hydra", "results_dir="))]
    with _hydra(own) as (compose, loader):
        config = compose(overrides=own, return_hydra_config=True)
        make, context = Plugins.instance().instantiate_launcher, HydraContext(loader, Callbacks())
        return make(hydra_context=context, task_function=work, config=config)


@contextmanager
def _hydra(overrides: Sequence[str]) -> Iterator[tuple[Callable[..., Any], Any]]:
    """How Hydra composes from our folder of configurations, and what loads them."""
    from hydra import compose, initialize_config_module
    from hydra.core.global_hydra import GlobalHydra
    from hydra.errors import HydraException
    from omegaconf.errors import OmegaConfBaseException

    check_overrides(overrides)
    try:
        with initialize_config_module("rlm_eval.conf", version_base="1.3"):
            yield partial(compose, "config"), GlobalHydra.instance().config_loader()
    except (HydraException, OmegaConfBaseException, ValueError, TypeError) as error:
        raise ConfigError(_one_line(error, overrides)) from error


def check_overrides(overrides: Sequence[str]) -> None:
    """Raise ConfigError for a credential in ``overrides``, before Hydra repeats or stores it, and
    for what is mistyped in a way that Hydra has no good words for."""
    for override in overrides:
        key, _, value = override.lstrip("+").partition("=")
        try:
            given = yaml.safe_load(value)
        except (yaml.YAMLError, ValueError):  # a date such as 2026-02-30
            given = value
        for part in reversed(key.split(".")):
            given = {part: given}
        refuse_credentials(given)
        refuse_override(override)
    refuse_replaced(overrides)


def plain_tree(config: Any) -> dict[str, Any]:
    """A composed configuration as plain data, but for what it takes from the environment, and
    without a preset's settings of arms that were not chosen."""
    from omegaconf import OmegaConf
    from omegaconf.resolvers import oc

    OmegaConf.register_new_resolver("oc.env", reference, replace=True)
    try:
        tree = OmegaConf.to_container(config, resolve=True)
    finally:
        OmegaConf.register_new_resolver("oc.env", oc.env, replace=True)
    assert isinstance(tree, dict)
    plain = {str(k): v for k, v in tree.items() if k != "experiment"}
    for name, node in list((plain.get("method") or {}).items()):
        if isinstance(node, dict) and "_target_" not in node:
            del plain["method"][name]
    return {key: from_environment(value, key) for key, value in plain.items()}


def recorded_tree(run_dir: Path) -> dict[str, Any]:
    """The configuration of the run in ``run_dir``. Raises ConfigError if it is no run."""
    if tree := recorded_configuration(run_dir):
        return tree
    raise ConfigError(f"{run_dir} is no run: it has no config.yaml")


def recorded_trees(folders: Iterable[Path]) -> Iterator[tuple[Path, dict[str, Any]]]:
    """Runs one or two levels below ``folders``, in order, with configurations that can be read."""
    files = (c for f in folders for p in ("*", "*/*") for c in f.glob(f"{p}/config.yaml"))
    for run_dir in sorted({file.parent.resolve() for file in files}):
        with suppress(ConfigError):
            yield run_dir, recorded_tree(run_dir)


def permissions(arguments: Sequence[str]) -> tuple[list[str], list[str]]:
    """A command's ``arguments`` without allow_targets=[…], and the names in it."""
    own = [a for a in arguments if re.fullmatch(r"(--)?allow[-_]targets=\[?[^]]*]?", a)]
    names = re.findall(r"[\w.]+", ",".join(a.partition("=")[2] for a in own))
    return [a for a in arguments if a not in own], names


def refuse_reaching(tree: Any, run_dir: Path, command: str, allowed: Sequence[str]) -> None:
    """Raise ConfigError, which says what to type, where the configuration of ``run_dir``, maybe
    somebody else's folder, reaches out of it, and that is not ``allowed`` on the command line."""
    asked = dict(_reaching(tree, "", ""))
    left = {k: m for k, m in asked.items() if not any(f"{m}.".startswith(f"{a}.") for a in allowed)}
    if left:
        names = ",".join(dict.fromkeys([*allowed, *sorted(left.values())]))
        raise ConfigError(
            f"{run_dir} reaches out of its folder: {'; '.join(left)}. If you trust it, type: "
            f"rlm-eval {command} {shlex.quote(str(run_dir))} 'allow_targets=[{names}]'"
        )


def resuming(tree: Mapping[str, Any], run_dir: Path) -> str:
    """The command that goes on with a run of this configuration."""
    names = ",".join(sorted({module for _, module in _reaching(tree, "", "")}))
    permission = f" 'allow_targets=[{names}]'" if names else ""
    return f"python -m rlm_eval resume {shlex.quote(str(run_dir))}{permission}"


def _reaching(node: Any, where: str, module: str) -> Iterator[tuple[str, str]]:
    """Each setting that runs other code than ours or lets a model's code out, reads files, asks
    another machine or takes from the environment, with the module to allow."""
    if isinstance(node, Mapping):
        target = str(node.get("_target_", ""))
        module = target.rpartition(".")[0] or module
        if target and target not in _ours():
            yield f"{where}._target_={target} lies outside rlm_eval's conf", module
        for key, value in node.items():
            inside = f"{where}.{key}" if where else str(key)
            asks = key == "api_key_env" or (key == "command" and ".foreign." in target)
            if (asks and value) or (key in ("isolation", "level") and value == "none"):
                yield f"{inside}={value}", module
            elif key not in ("_target_", "results_dir"):
                yield from _reaching(value, inside, module)
    elif isinstance(node, list):
        for value in node:
            yield from _reaching(value, where, module)
    elif isinstance(node, str):
        named = where.rpartition(".")[2] in _FILES or re.search(r"[/.\\]", node)
        if (named and os.path.exists(node)) or _ELSEWHERE.search(node) or "${" in node:
            yield f"{where}={node}", module


@cache
def _ours() -> frozenset[str]:
    """The targets that conf/ names. Others in rlm_eval run programs, or write files."""
    texts = (file.read_text(encoding="utf-8") for file in options("").values())
    return frozenset(re.findall(r"_target_: (rlm_eval\.[\w.]+)", "".join(texts)))


def _one_line(error: Exception, overrides: Sequence[str]) -> str:
    """Hydra's message of several lines as one that says what to do."""
    text = " ".join(str(error).split())
    if unknown := re.search(r"Could not override '([^']+)'", text):
        chosen = [o for o in overrides if "." not in re.split("[@=]", o)[0] or _OWN_CONF in o]
        return unknown_key(unknown[1], known_keys(chosen if len(chosen) < len(overrides) else []))
    return misread(error, text) or text.partition(" full_key:")[0].replace("In 'config': ", "")


def known_keys(overrides: Sequence[str] = ()) -> list[str]:
    """The keys that a configuration has, sorted."""
    return sorted(_keys(compose_tree(overrides)))


def _keys(tree: Mapping[str, Any], prefix: str = "") -> Iterator[str]:
    for key, value in tree.items():
        if key != "_target_":
            yield prefix + key
        if isinstance(value, Mapping):
            yield from _keys(value, f"{prefix}{key}.")
