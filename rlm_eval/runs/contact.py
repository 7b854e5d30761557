"""First contact: before a run spends anything, each hosted model that it needs gets one tiny
request, a call of no result that is recorded and paid as every other. What is wrong with key, name,
address, temperature or window is said in one line that names the setting."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from difflib import get_close_matches

from rlm_eval.errors import PERMANENT, ConfigError, ProviderError, RunBudgetExceeded, SampleFailure
from rlm_eval.ledger import Ledger
from rlm_eval.models.client import CallTags, ModelClient
from rlm_eval.models.litellm_client import LitellmEndpoint
from rlm_eval.models.protocol import Completion, user
from rlm_eval.records import Role
from rlm_eval.runs.assemble import Parts
from rlm_eval.runs.runner import judge_of

REQUEST, REPLY_TOKENS = "Say ok.", 16
#: Few, so that somebody who forgot to start a server is told at once.
ATTEMPTS = 3
#: Failures that every request would meet. Others (a rate limit, say) are the run's to wait for.
_FINAL = PERMANENT | {"connection", "bad_response"}


def first_contact(parts: Parts, client: ModelClient, ledger: Ledger) -> Iterator[str]:
    """Ask each model once; a line for what it turned out to be, and ConfigError for what can't
    work. Where a cap leaves nothing for it, the run will say so."""
    roles: set[Role] = {role for arm in parts.arms for role in arm.method.roles}
    roles |= {"judge"} if judge_of(parts.task) else set()
    lm, asked = client.lm("", memory_scope="first contact"), set()
    for role in sorted(roles, key=lambda role: (role != "root", role)):
        own = role != "root" and role in parts.every_model
        key, model = f"{role}_model" if own else "model", parts.every_model.get(role, parts.root)
        named = model.info.name, model.info.endpoint
        if named in asked or not isinstance(model, LitellmEndpoint):
            continue
        asked.add(named)
        reply: Completion | None = None
        prompt, tags, usual = [user(REQUEST)], CallTags(role=role), client.retry
        client.retry = replace(usual, attempts=min(ATTEMPTS, usual.attempts))
        try:
            if role == "embed":
                lm.embed([REQUEST], ledger=ledger)
            else:
                reply = lm.complete(prompt, ledger=ledger, max_tokens=REPLY_TOKENS, tags=tags)
        except RunBudgetExceeded:
            return
        except SampleFailure as failure:
            if isinstance(failure, ProviderError) and failure.kind in _FINAL:
                raise ConfigError(_told(key, model, failure, client.temperature)) from failure
            continue
        finally:
            client.retry = usual
        yield from _learned(key, model, reply)


def _learned(key: str, model: LitellmEndpoint, reply: Completion | None) -> Iterator[str]:
    """What a model's answer shows. Raises ConfigError for a window that is smaller than is set."""
    given, window = model.context_window, _listed(model).get(model.asked[1]) or 0
    told, setting = f"{model.info.endpoint} serves {model.asked[1]} with", f"{key}.context_window"
    if 0 < window < given:
        raise ConfigError(f"{setting}={given}: {told} {window} tokens: set {setting}={window}")
    if window > given:
        yield f"{told} {window} tokens: {setting}={window} would use them all"
    thinks = reply and (reply.usage.reasoning_tokens or not reply.text.strip())
    if thinks and not model.info.reasoning_tokens:
        yield f"{model.name} thinks before it writes: give it room, {key}.reasoning_tokens=4096"


def _told(
    key: str, model: LitellmEndpoint, failure: ProviderError, temperature: float | None
) -> str:
    """What the provider said, and what is to be set where that can be told."""
    told, (base, where) = str(failure), model.base
    told += "" if told[-1:] in ".?!" else "."
    address = f"{key}.api_base" if where == "api_base" else where
    if failure.kind == "authentication":
        first = f"{model.key_variable}, or " if model.key_variable else ""
        return f"{told} Set {first}{key}.api_key_env=NAME of the variable that holds its key"
    if failure.kind == "connection":
        return f"{told} Start it, or set {address}"
    if failure.kind == "bad_request" and "temperature" in told.lower() and temperature is not None:
        return f"{told} It takes no temperature={temperature:g}: set {key}.own_temperature=true"
    if "Provider NOT provided" in told:
        return (
            f"litellm knows no provider in {key}.name={model.name}: set PROVIDER/MODEL, as "
            "openai/gpt-5-mini; a server of your own is model=openai_compatible"
        )
    if base and (names := list(_listed(model))) and model.asked[1] not in names:
        provider, name = model.asked
        near = (get_close_matches(name, names, 1) or names)[0]
        near = near if model.provider else f"{provider}/{near}"
        return f"{told} It serves {', '.join(names[:8])}: set {key}.name={near}"
    if base and _listed(model, "/v1"):
        return f"{told} It answers at {model.info.endpoint}/v1: set {address} to that"
    return told


def _listed(model: LitellmEndpoint, below: str = "") -> dict[str, int | None]:
    """The models that a server lists, with their windows where it tells (vLLM and SGLang do)."""
    import httpx

    headers = {"Authorization": f"Bearer {model.key}"} if model.key else {}
    try:
        found = httpx.get(f"{model.base[0]}{below}/models", headers=headers, timeout=10.0).json()
        return {str(row["id"]): row.get("max_model_len") for row in found["data"]}
    except (httpx.HTTPError, httpx.InvalidURL, ValueError, LookupError, TypeError, AttributeError):
        return {}
