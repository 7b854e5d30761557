"""What goes to a language model and what comes back, and the protocol every model implements."""

from __future__ import annotations

import hashlib
import json
import secrets
import time
from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import accumulate, pairwise
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Protocol

from rlm_eval.errors import ConfigError, ContextOverflow, NoReply, ProviderError
from rlm_eval.ledger import Ledger, Reservation, Spend
from rlm_eval.models.replies import THOUGHT, said
from rlm_eval.records import Call, Outcome, Role, now, storable

if TYPE_CHECKING:
    from rlm_eval.models.traffic import Limits

#: A turn of a chat: ``role`` and ``content``; of an assistant that called tools ``tool_calls`` too,
#: the JSON of OpenAI's list, and ``thoughts``, that of the fields in which its provider wants back
#: what it thought before; of what a tool gave ``tool_call_id``.
Message = Mapping[str, str]
#: What a request asks for beside its messages, as OpenAI's API has it: ``tools``, ``tool_choice``,
#: ``parallel_tool_calls``, ``stop``, ``response_format``.
Options = Mapping[str, Any]
NO_OPTIONS: Options = MappingProxyType({})
#: Template tokens a message costs beside its text, assumed when nothing better is known.
MESSAGE_OVERHEAD_TOKENS = 8


@dataclass(frozen=True)
class Usage:
    """Tokens of one request as the provider billed them. ``cached_tokens`` of the prompt were
    read from its prefix cache and ``written_tokens`` written into it; ``reasoning_tokens`` are part
    of the completion."""

    prompt_tokens: int = 0
    completion_tokens: int = 0
    cached_tokens: int = 0
    reasoning_tokens: int = 0
    estimated: bool = False
    written_tokens: int = 0


#: What a reply without text was instead, by its finish reason.
NOT_SAID: Mapping[str, tuple[Outcome, str]] = {
    "length": (
        "no_answer",
        "no answer yet: the reply was cut off within the model's thoughts; more room is needed "
        "(the model's reasoning_tokens, or the method's tokens)",
    ),
    "thoughts_only": ("thoughts_only", "the model thought and then said nothing"),
    "refusal": ("refusal", "the model refused to answer"),
    "tool_call": ("tool_call", "the model called a tool that it was not offered, and said nothing"),
}


@dataclass(frozen=True)
class Reply:
    """``text`` is what came as content, thoughts in it included; ``beside`` came with it and is no
    answer: thoughts apart, a refusal, the call of a tool that was not offered. ``tool_calls`` are
    those of tools that were, the JSON of OpenAI's list. ``finish_reason`` is ``stop``, ``length``,
    ``tool_calls``, or, of a reply without text, what it was instead (see :data:`NOT_SAID`)."""

    text: str
    usage: Usage
    finish_reason: str = "stop"
    beside: str = ""
    tool_calls: str = ""
    thoughts: str = ""

    @property
    def whole(self) -> str:
        """All that came, for the record."""
        rest = [part for part in (self.beside, self.tool_calls) if part]
        return "\n\n".join([*rest, self.text]).strip() if rest else self.text

    def answering(self, call: Call) -> tuple[Completion, Call]:
        """What the method that made the ``call`` is given, thoughts left out, and its record. The
        finish reason is ``length`` where the model still thinks at the reply's end."""
        text, finish = self.text, self.finish_reason
        if THOUGHT.search(text) is not None:
            text, complete = said(text)
            if not text and not self.tool_calls:
                finish = "thoughts_only" if complete and finish == "stop" else "length"
        unseen = len(self.whole) - len(text) - (len(self.tool_calls) + 2 if self.tool_calls else 0)
        call = replace(call, finish_reason=finish, thought_chars=max(0, unseen))
        made = (self.tool_calls, self.thoughts)
        return Completion(text, call.call_id, finish, self.usage, False, *made), call


class BilledError(ProviderError):
    """A failed attempt that costs: ``usage`` is what the provider reported for a reply nobody can
    use, or, ``estimated``, the most it may bill when it went silent. ``text`` is what came."""

    def __init__(
        self, message: str, *, kind: str, retryable: bool, usage: Usage, text: str = ""
    ) -> None:
        super().__init__(message, kind=kind, retryable=retryable)
        self.usage = usage
        self.text = text


@dataclass(frozen=True)
class Price:
    """US dollars per million tokens, as of a date that is stored with the run. Tokens read from
    the provider's cache cost ``cached_input`` and those written into it ``cache_write``, or
    ``input`` where that is not given."""

    input: float
    output: float
    cached_input: float | None = None
    as_of: str = ""
    cache_write: float | None = None

    @classmethod
    def given(cls, price: Mapping[str, Any]) -> Price | None:
        """None, which is "unpriced" and never 0, unless input and output both have a price. Raises
        ConfigError for what is none."""
        kinds, rates = ("input", "output", "cached_input", "cache_write"), dict[str, float]()
        for name in price.keys() - {*kinds, "as_of"}:
            raise ConfigError(f"is no price: it is one of {', '.join(kinds)}", key=f"price.{name}")
        for kind in kinds:
            rate = price.get(kind)
            if isinstance(rate, int | float) and rate >= 0:
                rates[kind] = float(rate)
            elif rate is not None:
                wanted = f"must be US dollars per million tokens, got {rate!r}"
                raise ConfigError(wanted, key=f"price.{kind}")
        if not {"input", "output"} <= rates.keys():
            return None
        return cls(**rates, as_of=str(price.get("as_of") or ""))

    def cost(self, usage: Usage) -> float:
        cached_rate = self.input if self.cached_input is None else self.cached_input
        write_rate = self.input if self.cache_write is None else self.cache_write
        cached = min(usage.cached_tokens, usage.prompt_tokens)
        written = min(usage.written_tokens, usage.prompt_tokens - cached)
        plain = usage.prompt_tokens - cached - written
        prompt = plain * self.input + cached * cached_rate + written * write_rate
        return (prompt + usage.completion_tokens * self.output) / 1e6


FREE = Price(0.0, 0.0, 0.0, as_of="runs on this machine")


@dataclass(frozen=True)
class ModelInfo:
    """What the harness knows of a model. ``context_window``, in its own tokens, holds a prompt and
    the text of its reply; ``reasoning_tokens``, for what it thinks unseen, come on top.
    ``simulated`` is shown in every table and plot. ``limits``: what the endpoint may be sent; None
    for one that orders its own queue. ``own_temperature``: it takes no other, and is sent none.
    ``cached_by_message``: its cache keeps whole messages. ``token_margin``: see its setting."""

    name: str
    endpoint: str
    context_window: int
    price: Price | None = None
    simulated: bool = False
    limits: Limits | None = None
    reasoning_tokens: int = 0
    own_temperature: bool = False
    cached_by_message: bool = False
    token_margin: float = 1.0

    def spend(self, usage: Usage, calls: int = 1) -> Spend:
        """What so many calls with this ``usage`` together take; ``usd`` is None without a price."""
        usd = None if self.price is None else self.price.cost(usage)
        return Spend(calls, usage.prompt_tokens + usage.completion_tokens, usd)

    def worst(self, usage: Usage, calls: int = 1) -> Spend:
        """The same where a provider may put the prompts into its cache, if that is dearer."""
        if self.price is not None and (self.price.cache_write or 0.0) > self.price.input:
            usage = replace(usage, written_tokens=usage.prompt_tokens)
        return self.spend(usage, calls)


class Model(Protocol):
    """What chat and embedding models have in common. ``check`` starts nothing and raises
    ConfigError for what can't work; ``open`` makes the model ready, and safe for threads; ``info``
    is final after it."""

    @property
    def info(self) -> ModelInfo: ...

    def check(self) -> None: ...

    def open(self) -> None: ...

    def close(self) -> None: ...


class ChatModel(Model, Protocol):
    """A language model. ``complete`` makes one attempt and raises ProviderError (BilledError when
    it costs) or ContextOverflow. Retries, caps and records are the model client's business."""

    def complete(
        self,
        messages: Sequence[Message],
        *,
        max_tokens: int,
        temperature: float | None,
        options: Options = NO_OPTIONS,
    ) -> Reply: ...

    def count_tokens(self, messages: Sequence[Message]) -> int: ...


@dataclass(frozen=True)
class CallTags:
    """Where a call belongs in the tree of one result."""

    role: Role = "root"
    depth: int = 0
    parent_call_id: str | None = None
    from_repl: bool = False


@dataclass(frozen=True)
class Completion:
    """A reply with the id its call is recorded under."""

    text: str
    call_id: str
    finish_reason: str
    usage: Usage
    cached_response: bool = False
    tool_calls: str = ""
    thoughts: str = ""

    @property
    def no_reply(self) -> NoReply | None:
        """Why it has no text, where that has a name."""
        if self.text.strip() or self.tool_calls or self.finish_reason not in NOT_SAID:
            return None
        outcome, message = NOT_SAID[self.finish_reason]
        return NoReply(message, outcome)


@dataclass(eq=False)
class Request:
    """One prompt on its way to the model of ``info``: ``ask`` makes an attempt, ``count`` counts
    the prompt's tokens, ``reply_tokens`` is all that a reply may take.

    ``call_id`` is what the call is recorded under; ids sort by when the calls were asked for."""

    info: ModelInfo
    messages: Sequence[Message]
    reply_tokens: int
    tags: CallTags
    ask: Callable[[], Reply]
    count: Callable[[], int]
    #: What is held for it in the ledger; None where its answer seems to be known.
    held: Reservation | None = None
    overflow: ContextOverflow | None = None
    #: The share of it with which it begins like an earlier prompt of its arm.
    reused: float = 0.0
    #: What its answer is kept under in the run's memory; None where it may not come from there.
    memory_key: Hashable | None = None

    def __post_init__(self) -> None:
        self.call_id = f"{time.time_ns():016x}{secrets.token_hex(4)}"
        self.sha256, size = prompt_digest(self.messages)
        self.bytes = size + MESSAGE_OVERHEAD_TOKENS * len(self.messages)

    @cached_property
    def prompt_tokens(self) -> int:
        return self.count()

    def measure(self, reply_tokens: int, count: Callable[[Sequence[Message]], int]) -> None:
        """Set ``overflow`` where the window is too small for it and a text of ``reply_tokens``.
        A token is at least one byte, so most prompts fit without counting. Of a huge one the
        beginning is counted, and the rest taken to be like it."""
        window, needed = self.info.context_window, 0
        if self.bytes + reply_tokens <= window:
            return
        if self.bytes > 12 * window:
            texts = [message["content"] for message in self.messages]
            heads = [text[: 6 * window] for text in texts]
            least = count([user(head) for head in heads])
            if least + reply_tokens > window:
                needed = least * sum(map(len, texts)) // sum(map(len, heads)) + reply_tokens
        needed = needed or self.prompt_tokens + reply_tokens
        if needed > window:
            self.overflow = ContextOverflow(
                f"the prompt and its answer need {needed:,} tokens, {needed - window:,} more "
                f"than the window of {window:,} of {self.info.name}",
                excess_tokens=needed - window,
            )

    def worst_case(self, ledger: Ledger) -> Spend:
        """What the call takes at most, its prompt put into a cache. Where no cap on tokens or
        dollars holds the prompt is not counted, only guessed from its bytes."""
        prompt = self.prompt_tokens if ledger.counts_tokens else self.bytes // 3
        return self.info.worst(Usage(prompt, self.reply_tokens))

    def call(self, result_key: str, restart: int, used: Usage) -> Call:
        """The record of one attempt that used this much."""
        reused = int(self.reused * used.prompt_tokens)
        reused = reused if reused >= Prefixes.LEAST else 0
        # A provider that writes its cache at a price would have written all that is new.
        new = used.prompt_tokens - reused if used.written_tokens or used.cached_tokens else 0
        own = replace(used, cached_tokens=reused, written_tokens=new)
        tokens = {name: count for name, count in vars(used).items() if name != "estimated"}
        return Call(
            call_id=self.call_id,
            result_key=result_key,
            restart=restart,
            model=self.info.name,
            endpoint=self.info.endpoint,
            prompt_sha256=self.sha256,
            cost_usd=self.info.spend(used).usd,
            latency_s=0.0,
            attempt=1,
            cached_response=False,
            finish_reason="",
            usage_estimated=used.estimated,
            started_at=now(),
            **vars(self.tags),
            **tokens,
            reused_tokens=reused,
            list_usd=self.info.spend(replace(used, cached_tokens=0, written_tokens=0)).usd,
            own_usd=self.info.spend(own).usd,
        )


def kept_messages(messages: Sequence[Message]) -> int:
    """How many messages from the first on a cache of whole messages is asked to keep: all of a
    chat, which goes on; of what is asked once, what comes before its last message."""
    return len(messages) if any(m["role"] == "assistant" for m in messages) else len(messages) - 1


class Prefixes:
    """How prompts began: what a prompt cache would give an arm that has it to itself. A model of
    OpenAI's and Anthropic's: the longest prefix that was sent before, in steps of 512 bytes (some
    128 tokens) or of messages, from 1,024 of the provider's tokens on. Nothing is forgotten while a
    run goes on; one that is resumed begins anew. Safe for threads: adding to a set is atomic."""

    #: Bytes of a step; tokens of the shortest beginning that is kept.
    STEP, LEAST = 512, 1024

    def __init__(self) -> None:
        self._seen: dict[Hashable, set[bytes]] = {}

    def reused(
        self, scope: Hashable, messages: Sequence[Mapping[str, str]], *, by_message: bool = False
    ) -> float:
        """The share of a prompt, however short, that an earlier one in ``scope`` began with; the
        prompt is then one of them. Whether a cache keeps it, a request says (``LEAST``)."""
        seen = self._seen.setdefault(scope, set())
        texts = ["\0".join([*m.values(), ""]).encode("utf-8", "replace") for m in messages]
        data, digest, known, going = b"".join(texts), hashlib.blake2b(digest_size=8), 0, True
        ends = accumulate(map(len, texts[: kept_messages(messages)]), initial=0)
        for start, end in pairwise(ends if by_message else range(0, len(data) + 1, self.STEP)):
            digest.update(data[start:end])
            mark = digest.digest()
            going = going and mark in seen
            if going:
                known = end
            else:
                seen.add(mark)
        return known / len(data) if known else 0.0


def prompt_digest(messages: Sequence[Message]) -> tuple[str, int]:
    """The SHA-256 that a prompt is recorded under, and its bytes. Hashed is, for each field of each
    message, a line with its name and its length in UTF-8, then its text; and a line end."""
    digest, size = hashlib.sha256(), 0
    for message in messages:
        for name, text in message.items():
            data = text.encode("utf-8", "surrogatepass")
            digest.update(f"{name} {len(data)}\n".encode())
            digest.update(data)
            size += len(name) + len(data)
        digest.update(b"\n")
    return digest.hexdigest(), size


def shown(messages: Sequence[Message], options: Options) -> Sequence[Message]:
    """All that a model reads, to be counted: options first, as providers have and cache them, in
    the first message, since chat templates refuse a user before the system."""
    if not options or not messages:
        return messages
    told, first = storable(json.dumps(dict(options), ensure_ascii=False)), messages[0]
    return [{**first, "content": f"{told}\n\n{first['content']}"}, *messages[1:]]


def user(text: str) -> Message:
    return {"role": "user", "content": text}


def assistant(text: str) -> Message:
    return {"role": "assistant", "content": text}
