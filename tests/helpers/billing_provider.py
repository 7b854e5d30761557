"""A provider that numbers its bills, so that a journal can be laid beside them call by call."""

from __future__ import annotations

import itertools
import threading
import time
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from helpers.chat import block
from helpers.fake_provider import BEHAVIOURS, Behaviour, FakeProvider, chat_reply
from rlm_eval.models.protocol import prompt_digest

#: US dollars per million tokens.
INPUT_PRICE, OUTPUT_PRICE = 2.0, 8.0
#: What happens to every eighth request, in turn.
FAULTS = ("500", "429", "reset", "empty_choices", "503")


@dataclass(frozen=True)
class Bill:
    """What the provider charged for one request. Without a ``reported`` bill the client never saw
    what it was: it must assume the worst for the prompt of this hash."""

    number: int
    prompt_sha256: str
    prompt: int
    completion: int
    reported: bool

    @property
    def sign(self) -> object:
        """What a journal's call for this bill is known by."""
        return (self.number, self.prompt, self.completion) if self.reported else self.prompt_sha256

    @property
    def tokens(self) -> int:
        return self.prompt + self.completion

    @property
    def usd(self) -> float:
        return (self.prompt * INPUT_PRICE + self.completion * OUTPUT_PRICE) / 1e6


class BillingProvider(FakeProvider):
    """Plays an RLM's turns and sub-calls, takes its time, fails now and then, and bills amounts
    that differ from request to request, always below what the request could cost at most. A
    bill's number stands in the field for reasoning tokens, which cost nothing of their own."""

    def __init__(self, *, latency_s: float = 0.03) -> None:
        super().__init__(latency_s=latency_s)
        self.bills: list[Bill] = []
        self._numbers = itertools.count(1)
        self._faults = itertools.cycle(FAULTS)
        self._taking = threading.Lock()

    def meet(self, body: Mapping[str, Any]) -> Behaviour:
        return self.take(body)

    def take(self, body: Mapping[str, Any]) -> Behaviour:
        super().take(body)
        messages = body["messages"]
        with self._taking:
            number = next(self._numbers)
            fault = next(self._faults) if number % 8 == 0 else ""
        bill = Bill(
            number, prompt_digest(messages)[0], 5 + number % 11, 1 + number % 5, fault != "reset"
        )

        def behaviour(handler: Any) -> None:
            if fault in ("", "empty_choices"):
                self.bills.append(bill)
                body = chat_reply(_reply(messages), usage=_usage(bill))
                handler.send_json(200, body | {"choices": []} if fault else body)
                return
            if fault == "reset":
                self.bills.append(bill)
            BEHAVIOURS[fault](handler)

        return behaviour

    def wait_idle(self) -> None:
        """Until what was asked before a kill is worked off."""
        calm = 0
        while calm < 3:
            time.sleep(0.005)
            calm = 0 if self._unread() or self.busy else calm + 1

    def _unread(self) -> bool:
        """Whether a socket of this server's holds anything that nobody has read, or a connection
        that nobody has accepted."""
        port = f":{self._server.server_address[1]:04X}"
        sockets = [line.split() for line in Path("/proc/net/tcp").read_text().splitlines()[1:]]
        return any(s[1].endswith(port) and int(s[4].partition(":")[2], 16) for s in sockets)


def _usage(bill: Bill) -> Mapping[str, object]:
    return {
        "prompt_tokens": bill.prompt,
        "completion_tokens": bill.completion,
        "total_tokens": bill.tokens,
        "completion_tokens_details": {"reasoning_tokens": bill.number},
    }


def _reply(messages: Sequence[Mapping[str, str]]) -> str:
    """An RLM's turns: a batch with a prompt that is there twice, then one sub-call and the end.
    Prompts differ from question to question."""
    if "`context`" not in messages[0]["content"]:
        return "seven"
    mark = zlib.crc32(messages[1]["content"].encode())
    if any(message["role"] == "assistant" for message in messages):
        return block(f"submit(llm_query('{mark} last'))")
    return block(f"print(llm_query_batched(['{mark} ' + letter for letter in 'aabc']))")
