"""A run's configuration as plain data: composed by Hydra, or as a run recorded it."""

from __future__ import annotations

import importlib.resources
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from rlm_eval.config.check import unknown_key
from rlm_eval.config.credentials import from_environment, reference, refuse_credentials
from rlm_eval.errors import ConfigError


def compose_tree(overrides: Sequence[str]) -> dict[str, Any]:
    """The composed configuration as plain data. Raises ConfigError, in one line, for what Hydra
    can't compose."""
    from hydra import compose, initialize_config_module
    from hydra.errors import HydraException
    from omegaconf.errors import OmegaConfBaseException

    refuse_in(overrides)
    try:
        with initialize_config_module("rlm_eval.conf", version_base="1.3"):
            config = compose("config", overrides=list(overrides))
        return plain_tree(config)
    except (HydraException, OmegaConfBaseException) as error:
        raise ConfigError(_one_line(error, overrides)) from error


def refuse_in(overrides: Sequence[str]) -> None:
    """Raise ConfigError for a credential in ``overrides``: before Hydra repeats or stores it."""
    for override in overrides:
        key, _, value = override.partition("=")
        try:
            given = yaml.safe_load(value)
        except yaml.YAMLError:
            given = value
        for part in reversed(key.lstrip("+").split(".")):
            given = {part: given}
        refuse_credentials(given)


def plain_tree(config: Any) -> dict[str, Any]:
    """A composed configuration as plain data, but for what it takes from the environment."""
    from omegaconf import OmegaConf
    from omegaconf.resolvers import oc

    OmegaConf.register_new_resolver("oc.env", reference, replace=True)
    try:
        tree = OmegaConf.to_container(config, resolve=True)
    finally:
        OmegaConf.register_new_resolver("oc.env", oc.env, replace=True)
    assert isinstance(tree, dict)
    return from_environment({str(k): v for k, v in tree.items() if k != "experiment"})


def recorded_tree(run_dir: Path) -> dict[str, Any]:
    """The configuration of the run in ``run_dir``. Raises ConfigError if it is no run."""
    path = run_dir / "config.yaml"
    try:
        tree = yaml.safe_load(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise ConfigError(f"{run_dir} is no run: it has no config.yaml") from None
    except (OSError, ValueError, yaml.YAMLError) as error:
        reason = str(error).splitlines()[0]
        raise ConfigError(f"{path} can't be read as a run's configuration: {reason}") from error
    if not isinstance(tree, dict):
        raise ConfigError(f"{path} is no run's configuration")
    return tree


def _one_line(error: Exception, overrides: Sequence[str]) -> str:
    """Hydra's message of several lines as one that says what to do."""
    text = " ".join(str(error).split())
    missing = re.search(r"Could not (?:find|load) '([\w/@]+)/([^'/]+)'", text)
    if missing:
        group, name = missing[1], missing[2]
        return f"there is no {group} {name!r}: choose {', '.join(_options(group))}"
    unknown = re.search(r"Could not override '([^']+)'", text)
    if unknown:
        chosen = [o for o in overrides if "." not in o.partition("=")[0]]
        known = compose_tree(chosen if len(chosen) < len(overrides) else [])
        return unknown_key(unknown[1], sorted(_keys(known)))
    return text.partition(" full_key:")[0].replace("In 'config': ", "")


def _options(group: str) -> list[str]:
    folder = importlib.resources.files("rlm_eval.conf") / group
    return sorted(f.name.removesuffix(".yaml") for f in folder.iterdir() if ".yaml" in f.name)


def _keys(tree: Mapping[str, Any], prefix: str = "") -> Iterator[str]:
    for key, value in tree.items():
        if key != "_target_":
            yield prefix + key
        if isinstance(value, Mapping):
            yield from _keys(value, f"{prefix}{key}.")
