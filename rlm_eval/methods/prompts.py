"""Prompt files: conf/prompt/METHOD/NAME.yaml, a list of chat turns in Jinja.

    turns:
      - {role: system, text: "…"}
      - {role: user, text: "…", when: sub_calls}

A turn with ``when`` is there only where that Jinja expression is true, so that a prompt mentions
only what is enabled. Other keys hold further templates by name (``nudge``, ``forced`` …).
"""

from __future__ import annotations

import importlib.resources
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import cache, partial
from pathlib import Path
from typing import Any

import yaml
from jinja2 import StrictUndefined, TemplateError
from jinja2.meta import find_undeclared_variables
from jinja2.nodes import Filter, Name, Test
from jinja2.sandbox import SandboxedEnvironment

from rlm_eval.errors import ConfigError
from rlm_eval.models.protocol import Message


class Prompt:
    """One prompt file, ready to render. ``source`` is the file's text, ``like`` one that is whole:
    where what is missing may be copied from."""

    def __init__(self, name: str, source: str, like: str = "") -> None:
        self.name = name
        self.source = source
        self._hint = f": copy it from {like}" if like else ""
        try:
            data = yaml.safe_load(source)
        except yaml.YAMLError as error:
            problem = " ".join(str(error).split())
            raise ConfigError(f"prompt {name} is no valid YAML: {problem}") from error
        if not isinstance(data, dict) or not isinstance(data.get("turns"), list):
            raise ConfigError(f"prompt {name} needs a list called turns{self._hint}")
        self._turns: list[dict[str, str]] = data.pop("turns")
        self._texts: dict[str, str] = data
        if not all(map(_is_turn, self._turns)):
            roles = "; the role is system, user or assistant"
            raise ConfigError(f"prompt {name}: a turn has role and text, and may have when{roles}")
        jinja = SandboxedEnvironment(
            undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True, autoescape=False
        )
        turns = [f"{{% if {t.get('when', 'true')} %}}{t['text']}{{% endif %}}" for t in self._turns]
        #: The names that each template uses in any of its branches, ``turns`` all turns.
        self._names: dict[str, set[str]] = {"turns": set()}
        for key, text in (*self._texts.items(), *(("turns", turn) for turn in turns)):
            if not isinstance(text, str):
                raise ConfigError(f"prompt {name}: {key} must be a text")
            try:
                tree = jinja.parse(text)
                used = find_undeclared_variables(tree) - jinja.globals.keys()
            except TemplateError as error:
                raise ConfigError(f"prompt {name}, {key}: {error.message}") from error
            for kind, known in ((Filter, jinja.filters), (Test, jinja.tests)):
                for call in tree.find_all(kind):
                    if call.name not in known:
                        told = f"there is no {kind.__name__.lower()} {call.name}"
                        raise ConfigError(f"prompt {name}, {key}: {told}")
                    if call.name in ("default", "d", "defined") and isinstance(call.node, Name):
                        used -= {call.node.name}
            # What an if sets is known after it.
            used -= {name.name for name in tree.find_all(Name) if name.ctx == "store"}
            self._names[key] = self._names.get(key, set()) | used
        # Compiled when first used, which takes longer than to parse: a run needs few of them.
        self._template = cache(jinja.from_string)
        self._holds = cache(partial(jinja.compile_expression, undefined_to_none=False))

    def messages(self, **values: Any) -> list[Message]:
        """The chat turns with ``values`` filled in."""
        with self._filling("turns", values):
            turns = [t for t in self._turns if self._holds(t.get("when", "true"))(values)]
            texts = [self._template(turn["text"]).render(values).strip() for turn in turns]
        return [{"role": t["role"], "content": text} for t, text in zip(turns, texts, strict=True)]

    def text(self, key: str, **values: Any) -> str:
        """The template called ``key``, filled in."""
        with self._filling(key, values):
            return self._template(self._texts[key]).render(values).strip()

    @contextmanager
    def _filling(self, key: str, values: Mapping[str, Any]) -> Iterator[None]:
        """Raises ConfigError for a template that is missing, and for a name that ``values`` lacks,
        be it in a branch not taken."""
        if key not in self._names:
            raise ConfigError(f"prompt {self.name} has no template called {key}{self._hint}")
        if unknown := self._names[key] - values.keys():
            told = f"there is no {min(unknown)}, only {', '.join(sorted(values))}"
            raise ConfigError(f"prompt {self.name}, {key}: {told}")
        try:
            yield
        except TemplateError as error:
            raise ConfigError(f"prompt {self.name}, {key}: {error.message}") from error


def _is_turn(turn: object) -> bool:
    if not isinstance(turn, dict) or not all(isinstance(part, str) for part in turn.values()):
        return False
    known = turn.get("role") in ("system", "user", "assistant")
    return known and {"role", "text"} <= {*turn} <= {"role", "text", "when"}


class Prompted:
    """What a method has that has a prompt file."""

    loaded_prompt: Prompt

    def prompt_name(self) -> str:
        return self.loaded_prompt.name

    def prompt_source(self) -> str:
        return self.loaded_prompt.source


def load_prompt(method: str, name: str) -> Prompt:
    """The prompt ``name`` of a method, or the YAML file at the path ``name``."""
    folder = importlib.resources.files("rlm_eval.conf") / "prompt" / method
    is_path = name.endswith((".yaml", ".yml"))
    file = Path(name) if is_path else folder / f"{name}.yaml"
    if not file.is_file() or not (is_path or Path(name).name == name):
        known = ", ".join(sorted([f.name.removesuffix(".yaml") for f in folder.iterdir()]))
        raise ConfigError(f"method {method} has no prompt {name!r}; choose {known}, or name a file")
    like = min(str(f) for f in folder.iterdir())
    try:
        return Prompt(Path(file.name).stem, file.read_text(encoding="utf-8"), like)
    except UnicodeDecodeError as error:
        raise ConfigError(f"prompt {name} is not in UTF-8: convert it") from error
