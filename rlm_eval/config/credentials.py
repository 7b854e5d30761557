"""What configuration takes from the environment, and credentials, which it must take from there.

Everything in a run's configuration is written down. So a credential in it is refused, and
``${oc.env:NAME}`` stays as it is in all that is stored or shown: only what is built has the value.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping
from typing import Any

from rlm_eval.errors import ConfigError
from rlm_eval.journal.redaction import (
    SURELY_RANDOM,
    in_urls,
    looks_secret,
    secret_parts,
    secrets_of,
)

_REFERENCE = re.compile(r"\$\{oc\.env:\s*(\w+)\s*\}")
#: Settings that say what is asked or where it lies: their values may be shown.
_PLAIN = {
    *("name", "api_base", "gguf", "path", "haystack_file", "items", "prompt", "tokenizer"),
    *("hub", "config", "split", "revision", "results_dir"),
}
#: Names of settings that hold a credential whatever its value is.
_CREDENTIAL = re.compile(
    r"(?<![a-z])((api|access|account|secret|private|shared|subscription|signing|encryption|master"
    r"|admin|auth|service|client|license|function)_?key(_id)?|pass(word|wd|phrase)|pwd|secrets?"
    r"|credentials?|(proxy_)?authorization|bearer|cookie|jwt|connection_string)"
    r"(_?(value|json|header|b64|base64))?$"
)
#: Names of settings that hold one where the value looks like it.
_PERHAPS = re.compile(
    r"(?<![a-z])(?<!bos_)(?<!eos_)(?<!pad_)(?<!unk_)(?<!sep_)(?<!cls_)(?<!mask_)(?<!stop_)"
    r"(?<!cache_)(tokens?|pass|auth|dsn|pat|sas|(?<=_)key)$"
)
#: Forms of well-known providers' keys, and of headers that carry one.
_FORM = re.compile(
    r"\b(sk-[\w-]{16,}|gh[oprsu]_\w{20,}|github_pat_\w{20,}|glpat-[\w-]{16,}|hf_[A-Za-z]{20,}"
    r"|xox[abeprs]-[\w-]{10,}|(AKIA|ASIA)[A-Z0-9]{16}|AIza[\w-]{30,}|eyJ[\w-]{8,}\.eyJ[\w-]{8,}"
    r"|gsk_\w{20,}|xai-\w{20,}|r8_\w{20,}|pplx-\w{20,}|nvapi-[\w-]{20,})"
    r"|-----BEGIN [A-Z ]*PRIVATE KEY|^\s*(Bearer|Basic|Token)\s+(?!\$)\S{6,}",
)
#: A credential in a command line: --api-key=…, --password …, TOKEN=….
_ARGUMENT = re.compile(r"(?:^|[\s;])(?:-*([\w-]+)=|--([a-z][\w-]*)\s+)(\S+)")


class FromEnvironment(str):
    """A value read from the environment. ``written`` is how the configuration says it: nothing else
    of it is stored or shown."""

    written: str

    def __new__(cls, written: str) -> FromEnvironment:
        found = super().__new__(cls, _REFERENCE.sub(lambda name: os.environ[name[1]], written))
        found.written = written
        return found

    def __repr__(self) -> str:
        return repr(self.written)


def from_environment(tree: Any, where: str = "") -> Any:
    """``tree`` with what it takes from the environment. Raises ConfigError for what isn't there."""
    if isinstance(tree, Mapping):
        inside = f"{where}." if where else ""
        return {key: from_environment(value, f"{inside}{key}") for key, value in tree.items()}
    if isinstance(tree, list | tuple):
        return [from_environment(value, where) for value in tree]
    if not isinstance(tree, str) or not _REFERENCE.search(tree):
        return tree
    try:
        return FromEnvironment(tree)
    except KeyError as error:
        raise ConfigError(f"{where} needs the environment variable {error.args[0]}") from None


def reference(name: str, default: Any = ...) -> Any:
    """In place of OmegaConf's own ``oc.env``: what :func:`from_environment` reads."""
    return f"${{oc.env:{name}}}" if name in os.environ or default is ... else default


def as_written(tree: Any, *, all_of_it: bool = True, plain: bool = False) -> Any:
    """``tree`` as it may be stored: with references, not values. Not ``all_of_it``, for what
    depends on it: what is no secret, by itself or in a ``plain`` setting, is its value, without
    users of addresses."""
    if isinstance(tree, Mapping):
        return {k: as_written(v, all_of_it=all_of_it, plain=k in _PLAIN) for k, v in tree.items()}
    if isinstance(tree, list | tuple):
        return [as_written(value, all_of_it=all_of_it, plain=plain) for value in tree]
    if not isinstance(tree, FromEnvironment):
        return tree
    if all_of_it or (_secrets(tree) and not plain):
        return tree.written
    return re.sub(r"(?<=://)[^/?#]*@", "", tree)


def _secrets(value: FromEnvironment) -> set[str]:
    """What is secret of the variables that ``value`` is made of."""
    read = [os.environ.get(name, "") for name in _REFERENCE.findall(value.written)]
    return {part for text in read for part in secret_parts(text, declared=True)}


def secrets_in(tree: Any) -> set[str]:
    """The secret values that a configuration takes from the environment."""
    found: set[str] = set()
    for where, value in _leaves(tree, ()):
        if isinstance(value, FromEnvironment):
            found |= in_urls(value)
            if where[-1] not in _PLAIN:
                found |= _secrets(value)
    return found


def refuse_credentials(tree: Any) -> None:
    """Raise ConfigError, which names the setting and never the value, for a credential."""
    # Another thread may change the environment meanwhile: a notebook's, say.
    values = {name: os.environ.get(name, "") for name in os.environ}
    known = {part: name for name in values for part in secrets_of({name: values[name]})}
    for where, value in _leaves(tree, ()):
        variable = _variable_for(where[-1], value, known)
        if variable is None:
            continue
        how = f"write '${{oc.env:{variable}}}' in its place"
        if where[-1] == "api_key":
            how = f"name that: {where[0]}.api_key_env=NAME (by default the provider's own)"
        raise ConfigError(
            f"{'.'.join(where)} holds a credential, which would be in the run's files: put it in "
            f"an environment variable and {how}"
        )


def _leaves(node: Any, where: tuple[str, ...]) -> Iterator[tuple[tuple[str, ...], Any]]:
    """Each value with the keys that lead to it. A list's have those of the list, but for the word
    after an option of a command line, whose name is added."""
    if isinstance(node, Mapping):
        for key, value in node.items():
            yield from _leaves(value, (*where, str(key)))
    elif isinstance(node, list | tuple):
        option = ""
        for value in node:
            yield from _leaves(value, (*where, option) if option else where)
            option = value[2:] if isinstance(value, str) and re.match("--[a-z]", value) else ""
    elif where:
        yield where, node


def _variable_for(key: str, value: Any, known: Mapping[str, str]) -> str | None:
    """The environment variable that should hold the credential that ``value`` is, if it is one.
    ``known``: the secrets of the environment with their names."""
    if value is None or isinstance(value, bool) or value == "":
        return None
    own = re.sub(r"(?<=[a-z0-9])(?=[A-Z])|[^A-Za-z0-9]+", "_", key).lower().strip("_")
    variable = own.upper() or "SECRET"
    text = re.sub(r"\$\{[^}]*\}", "", getattr(value, "written", str(value)))
    if len(text) < len(str(value)) or isinstance(value, FromEnvironment):
        own = ""  # it comes from elsewhere; what stands around it has a name of its own
    if in_urls(text):
        return f"{variable}_PASSWORD"
    for assigned in _ARGUMENT.finditer(text):
        if found := _variable_for(assigned[1] or assigned[2], assigned[3], known):
            return found
    for part, name in known.items():
        if part == text or (len(part) >= SURELY_RANDOM and part in text):
            return name
    likely = _PERHAPS.search(own) and looks_secret(text)
    return variable if _FORM.search(text) or _CREDENTIAL.search(own) or likely else None
