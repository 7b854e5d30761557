"""First contact: before a run spends anything, each hosted model that it needs gets one tiny
request, a call of no result that is recorded and paid as every other. What is wrong with key, name,
address, temperature or window is said in one line that names the setting."""

from __future__ import annotations

from collections.abc import Iterator
from difflib import get_close_matches

from rlm_eval.errors import (
    PERMANENT,
    BudgetExceeded,
    ConfigError,
    ContextOverflow,
    ProviderError,
    RunBudgetExceeded,
    SampleFailure,
)
from rlm_eval.ledger import Ledger
from rlm_eval.models.client import CallTags, Completion, ModelClient
from rlm_eval.models.litellm_client import LitellmEndpoint
from rlm_eval.models.protocol import user
from rlm_eval.records import Role
from rlm_eval.runs.assemble import Parts
from rlm_eval.runs.judging import judge_of

REQUEST, REPLY_TOKENS = "Say ok.", 16
#: Failures that every request would meet. Others (a rate limit, say) are the run's to wait for.
_FINAL = PERMANENT | {"connection", "bad_response"}


def first_contact(parts: Parts, client: ModelClient, ledger: Ledger) -> Iterator[str]:
    """Ask each model once; a line for what it turned out to be, and ConfigError for what can't
    work. Where a cap leaves nothing for it, the run will say so."""
    roles = {role for arm in parts.arms for role in arm.method.roles}
    roles |= {"judge"} if judge_of(parts.task) else set()
    models = {role: parts.every_model.get(role, parts.root) for role in sorted(roles)}
    if "root" in models:  # named by its own key where others share it
        models = {"root": models["root"], **models}
    asked = set()
    for role, model in models.items():
        info = model.info
        if isinstance(model, LitellmEndpoint) and (info.name, info.endpoint) not in asked:
            asked.add((info.name, info.endpoint))
            key = "model" if role not in parts.every_model else _key(role)
            try:
                reply = _ask(role, client, ledger)
            except (BudgetExceeded, RunBudgetExceeded):
                return
            except ProviderError as failure:
                if failure.kind in _FINAL:
                    raise ConfigError(_told(key, model, failure, client.temperature)) from failure
                continue
            yield from _learned(key, model, reply)


def _key(role: Role) -> str:
    return "model" if role == "root" else f"{role}_model"


def _ask(role: Role, client: ModelClient, ledger: Ledger) -> Completion | None:
    lm = client.lm("", memory_scope="first contact")
    if role == "embed":
        lm.embed([REQUEST], ledger=ledger)
        return None
    (reply,) = lm.complete_batch(
        [[user(REQUEST)]],
        ledger=ledger,
        max_tokens=REPLY_TOKENS,
        tags=CallTags(role=role),
        fresh=True,
    )
    if isinstance(reply, ContextOverflow):
        return None  # the window is too small for this; who has more to say finds it out
    if isinstance(reply, SampleFailure):
        raise reply
    return reply


def _learned(key: str, model: LitellmEndpoint, reply: Completion | None) -> Iterator[str]:
    """What a model that answers shows of its window and its thoughts. Raises ConfigError for a
    window that is smaller than is set."""
    name, given = model.full_name.partition("/")[2], model.context_window
    window = _listed(model).get(name)
    if window is not None and window < given:
        raise ConfigError(
            f"{key}.context_window={given} is more than {model.info.endpoint} serves {name} with: "
            f"set {key}.context_window={window}"
        )
    if window is not None and window > given:
        yield f"{name} has a window of {window:,}: {key}.context_window={window} would use it"
    thinks = reply and (reply.usage.reasoning_tokens or not reply.text.strip())
    if thinks and not model.info.reasoning_tokens:
        room = f"{key}.reasoning_tokens=4096, say"
        yield f"{model.name} thinks before it writes: give it room for that, {room}"


def _told(
    key: str, model: LitellmEndpoint, failure: ProviderError, temperature: float | None
) -> str:
    """What is to be set, where that can be told; else what the provider said."""
    told, (base, where) = str(failure), model.base
    told += "" if told[-1:] in ".?!" else "."
    address = f"{key}.api_base" if where == "api_base" else where
    if failure.kind == "authentication":
        if variable := model.key_variable:
            return (
                f"{told} Set {variable}, or {key}.api_key_env to the variable with this one's key"
            )
        return f"{told} Set {key}.api_key_env to the environment variable that holds its key"
    if failure.kind == "connection":
        return f"{told} Start it, or set {address}"
    if failure.kind == "bad_request" and "temperature" in told.lower() and temperature is not None:
        return f"{told} It takes no temperature={temperature:g}: set {key}.own_temperature=true"
    if "Provider NOT provided" in told:
        return (
            f"{key}.name={model.name} names no provider that litellm knows: set {key}.name="
            "PROVIDER/MODEL, as openai/gpt-5-mini, or take model=openai_compatible for a server"
        )
    if failure.kind in ("not_found", "bad_response") and base:
        if names := [*_listed(model)]:
            near = get_close_matches(model.full_name.partition("/")[2], names, 1) or names[:1]
            return f"{told} It serves {', '.join(names[:8])}: set {key}.name={near[0]}"
        if _listed(model, "/v1"):
            return f"{told} It answers at {model.info.endpoint}/v1: set {address} to that"
    return told


def _listed(model: LitellmEndpoint, below: str = "") -> dict[str, int | None]:
    """The names that a server of one's own lists, with their windows where it tells (vLLM and
    SGLang do); empty where it lists none."""
    import httpx

    base, _ = model.base
    headers = {"Authorization": f"Bearer {model.key}"} if model.key else {}
    try:
        found = httpx.get(f"{base}{below}/models", headers=headers, timeout=10.0).json()["data"]
        return {str(row["id"]): row.get("max_model_len") for row in found}
    except (httpx.HTTPError, httpx.InvalidURL, ValueError, LookupError, TypeError, AttributeError):
        return {}
