"""What is kept out of everything that a run writes: keys, and texts that must not be in the clear.

Keys: a model may be shown one, or find one, and say it. What counts is the value, wherever the
text came from, as it is or as JSON, Python, a URL, HTML or Basic authentication writes it; what was
encoded otherwise (encrypted, say) is not found.

Sealed texts: some benchmarks ask that their questions and documents are never in the clear on a
disk or a page (BrowseComp-Plus). Their task has a method ``seal``, and what is recorded of a sample
passes through it: question, gold, answer, replies, prompts, code, output and errors. Hashes,
numbers, outcomes and scores stay as they are, so every table and figure works. In a trajectory only
:data:`OPEN` keys keep their texts.
"""

from __future__ import annotations

import html
import json
import os
import re
from base64 import b64encode, urlsafe_b64encode
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import replace
from typing import Any
from urllib.parse import quote, quote_plus, unquote

from rlm_eval.records import Call, Result

MARK = "[key]"
#: Names of variables that hold a secret: OPENAI_API_KEY, HF_TOKEN, PGPASSWORD, GITHUB_PAT, APP_DSN.
_SECRET_NAME = re.compile(
    r"(KEY|TOKEN|PASSWORD|PASSWD|PASSPHRASE|CREDENTIAL|COOKIE|BEARER|AUTHORIZATION|DATABASE_URL"
    r"|CONNECTION_STRING|(?<![A-Z])(PAT|PASS|PWD|DSN|O?AUTH))S?\d*(_|$)|SECRET|SSHPASS"
    r"|^AWS_(?!.*(REGION|PROFILE|OUTPUT|ENDPOINT|EXECUTION_ENV|PAGER|METADATA))",
    re.IGNORECASE,
)
#: A user and a password in a URL; a word in its query that is one by its name.
_USERINFO = re.compile(r"(?:://|^)([^\s/?#@:]*):([^\s/?#@]+)@(?!sha256:)(?=[\w\[])")
_TOKEN_FOR_USER = re.compile(r"://([^\s/?#@:]+)@")
_IN_QUERY = re.compile(
    r"[?&;#][\w.-]*?(?:key|token|secret|password|passwd|pwd|sig|signature|auth|credential|code)"
    r"=([^\s&;#]+)",
    re.IGNORECASE,
)
_SHORTEST, SURELY_RANDOM = 8, 16
#: The least characters and the least letters without a digit of what is known to be a secret.
_DECLARED_SHORTEST, _DECLARED_WORD = 6, 12
#: Keys of a trajectory's events whose texts say what happened, not what was read or written.
OPEN = {
    *("type", "role", "outcome", "finish_reason", "call_id", "parent_call_id"),
    *("method", "prompt_hash", "sandbox_level", "settings", "budget", "budget_left"),
}

Seal = Callable[[str], str]


class Redactor:
    """Replaces each of ``secrets`` in a text by ``[key]``, as it is and as it may be written."""

    def __init__(self, secrets: Collection[str]) -> None:
        forms = {form for secret in secrets for form in _forms(secret)}
        self._forms = sorted(forms, key=len, reverse=True)

    def __call__(self, text: str) -> str:
        for form in self._forms:
            if form in text:
                text = text.replace(form, MARK)
        return text


def _forms(secret: str) -> Iterator[str]:
    plain = {secret, repr(secret)[1:-1], html.escape(secret)}
    as_bytes = secret.encode("utf-8", "surrogateescape")  # a variable's value may be no UTF-8
    for encoded in (quote(as_bytes, safe=""), quote(as_bytes), quote_plus(as_bytes)):
        plain |= {encoded, re.sub("%..", lambda escape: escape[0].lower(), encoded)}
    for _ in range(3):  # JSON in JSON: an error's body within a journal's line
        yield from plain
        plain = {json.dumps(p, ensure_ascii=ascii)[1:-1] for p in plain for ascii in (True, False)}
    # Base64 of a longer text that holds it, as "user:password": what does not depend on the rest.
    data = secret.encode("utf-8", "surrogatepass")
    for before in range(3):
        first, last = (before * 8 + 5) // 6, (before + len(data)) * 8 // 6
        for encode in (b64encode, urlsafe_b64encode):
            if last - first >= _SHORTEST:
                yield encode(bytes(before) + data).decode()[first:last]


def secrets_of(environ: Mapping[str, str], variables: Collection[str] = ()) -> set[str]:
    """The secret values of an environment: those of ``variables``, of names that tell of one, and
    passwords in URLs.

    Left alone is what can't be told from ordinary words, which must stay readable in replies:
    values under 8 characters, under 16 without both letters and digits, with white space, or that
    name a file here.
    """
    found: set[str] = set()
    for name in environ:
        value = environ.get(name, "")  # another thread may have taken it away
        if name in variables or _SECRET_NAME.search(name):
            found |= secret_parts(value, declared=name in variables)
        found |= {part for part in in_urls(value) if looks_secret(part, declared=True)}
    return found


def secret_parts(value: str, *, declared: bool = False) -> set[str]:
    """What of a secret variable's value is to be cut out: the value without white space and quotes
    around it, and what is surely random within (of a connection string, or of JSON)."""
    parts = re.split(r"[\s\"'`,;{}=\\]+", value)
    found = {part for part in parts if len(part) >= SURELY_RANDOM and looks_secret(part)}
    whole = value.strip(" \t\r\n\"'`\ufeff\u200b\xa0")
    return found | ({whole} if looks_secret(whole, declared=declared) else set())


def in_urls(text: str) -> set[str]:
    """The passwords and tokens in the URLs of a text, and each user with its password."""
    found = {part for match in _USERINFO.finditer(text) for part in (match[2], match[0][:-1])}
    found = {part.removeprefix("://") for part in found}
    found |= {part for part in _TOKEN_FOR_USER.findall(text) if looks_secret(part)}
    if "://" in text:
        found |= set(_IN_QUERY.findall(text))
    return found | {unquote(part) for part in found}


def looks_secret(value: str, *, declared: bool = False) -> bool:
    """``declared``: it is known to be one, and only what is all too short or an ordinary word is
    none."""
    shortest = _DECLARED_SHORTEST if declared else _SHORTEST
    if len(value) < shortest or any(c.isspace() for c in value) or os.path.exists(value):
        return False
    mixed = any(c.isalpha() for c in value) and any(c.isdigit() for c in value)
    if declared and not value.isdigit():
        return not value.isalpha() or len(value) >= _DECLARED_WORD
    return mixed or (len(value) >= SURELY_RANDOM and not value.isdigit())


def sealed_call(call: Call, reply: str, seal: Seal) -> tuple[Call, str]:
    """A call and its reply as they may be written down. An error keeps its kind."""
    kind, colon, message = call.error.partition(": ")
    return replace(call, error=kind + colon + _sealed(message, seal)), _sealed(reply, seal)


def sealed_result(result: Result, seal: Seal) -> Result:
    """A result with its trajectory as they may be written down."""
    sample, answer, score = result.sample, result.answer, result.score
    return replace(
        result,
        sample=replace(
            sample,
            question=seal(sample.question),
            gold=tuple(seal(reference) for reference in sample.gold),
        ),
        answer=replace(
            answer,
            text=_sealed(answer.text, seal),
            error=_sealed(answer.error, seal),
            trajectory=tuple(_sealed(answer.trajectory, seal)),
        ),
        score=None if score is None else replace(score, parsed=_sealed(score.parsed, seal)),
    )


def _sealed(value: Any, seal: Seal) -> Any:
    """A value with its texts sealed. What is empty says nothing, and stays empty."""
    if isinstance(value, str):
        return seal(value) if value else ""
    if isinstance(value, Mapping):
        return {k: v if k in OPEN else _sealed(v, seal) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [_sealed(part, seal) for part in value]
    return value
