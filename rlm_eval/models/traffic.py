"""How many requests an endpoint is sent, at once and per minute, and how often one is sent again.

At once: additive increase, multiplicative decrease (Chiu and Jain 1989), as TCP does it. A
refusal (429, 503, 529) or a timeout halves what may be in flight and holds everybody back for as
long as the provider asks; every full round of answers allows one more. Per minute: what was sent in
the last 60 s counts.
"""

from __future__ import annotations

import random
import threading
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass

from rlm_eval.errors import ProviderError, at_least

_MINUTE_S = 60.0
#: What a server that has too much to do answers.
_TOO_MUCH = ("rate_limit", "unavailable", "timeout")


@dataclass(frozen=True)
class RetryPolicy:
    """Exponential back-off with full jitter; a provider's Retry-After wins when it is longer. At
    most ``attempts`` requests for one call, none later than ``deadline_s`` after the first, without
    the time that it waits for a place."""

    attempts: int = 8
    base_s: float = 1.0
    max_s: float = 30.0
    deadline_s: float = 1800.0

    def __post_init__(self) -> None:
        at_least(1, attempts=self.attempts)
        at_least(0, base_s=self.base_s, max_s=self.max_s, deadline_s=self.deadline_s)

    def wait_s(
        self, failure: Exception, attempt: int, elapsed_s: float = 0.0, left_s: float | None = None
    ) -> float | None:
        """Seconds to wait after the ``attempt`` that failed, ``elapsed_s`` after the first began
        and with ``left_s`` of a budget; None when its failure is final."""
        if not isinstance(failure, ProviderError) or not failure.retryable:
            return None
        longest = min(self.max_s, self.base_s * 2.0 ** min(attempt - 1, 60))
        wait = max(random.uniform(0, longest), failure.retry_after_s or 0.0)
        late = elapsed_s + wait > self.deadline_s or (left_s is not None and wait >= left_s)
        return None if late or attempt >= self.attempts else wait


@dataclass(frozen=True)
class Limits:
    """What an endpoint may be sent: ``start`` requests at once in the beginning and ``most`` ever;
    requests and tokens (prompt and largest reply) in any minute, None is no limit."""

    start: int = 16
    most: int = 64
    requests_per_minute: int | None = None
    tokens_per_minute: int | None = None

    def __post_init__(self) -> None:
        at_least(1, **vars(self) | {"start": self.start or 0, "most": self.most or 0})
        at_least(1, up_to=self.most, start=self.start)


@dataclass(eq=False)
class Traffic:
    """The gate in front of one endpoint, safe for threads: ``enter`` before a request, then
    ``leave`` once with how it went. A provider's pause is kept up to ``longest_pause_s``."""

    limits: Limits
    longest_pause_s: float = 600.0
    clock: Callable[[], float] = time.monotonic

    def __post_init__(self) -> None:
        self._changed = threading.Condition()
        self.allowed = self.limits.start
        self._in_flight = 0
        self._answers = 0
        self._not_before = 0.0
        self._shrunk_at = -1.0
        #: When each request of the last minute was sent, and its tokens; only kept under a limit
        #: per minute.
        self._sent: deque[tuple[float, int]] = deque()
        self._sent_tokens = 0

    def enter(self, tokens: int, timeout_s: float | None = None) -> float | None:
        """Wait for a place for a request of ``tokens``; when it was given, None after
        ``timeout_s``."""
        deadline = None if timeout_s is None else self.clock() + timeout_s
        with self._changed:
            while (wait := self._wait_s(tokens)) is None or wait > 0:
                left = None if deadline is None else deadline - self.clock()
                if left is not None and left <= 0:
                    self._changed.notify()  # it may have been woken for a place
                    return None
                self._changed.wait(min((s for s in (wait, left) if s is not None), default=None))
            self._in_flight += 1
            if self._in_flight < self.allowed:
                self._changed.notify()
            now = self.clock()
            if self.limits.requests_per_minute or self.limits.tokens_per_minute:
                self._sent.append((now, tokens))
                self._sent_tokens += tokens
            return now

    def leave(self, entered: float, failure: BaseException | None = None) -> None:
        """The request that ``entered`` then is answered, or failed. Those refused for one and the
        same crowd halve it once."""
        with self._changed:
            now = self.clock()
            self._in_flight -= 1
            if isinstance(failure, ProviderError) and failure.kind in _TOO_MUCH:
                pause = failure.retry_after_s or 0.0
                if pause <= self.longest_pause_s:
                    self._not_before = max(self._not_before, now + pause)
                self._answers = 0
                if entered > self._shrunk_at:
                    self.allowed = max(1, self.allowed // 2)
                    self._shrunk_at = now
            elif failure is None:
                self._answers += 1
                if self._answers >= self.allowed and self.allowed < self.limits.most:
                    self.allowed += 1
                    self._answers = 0
            if self.limits.requests_per_minute or self.limits.tokens_per_minute:
                self._changed.notify_all()  # a small one may go where a large one may not
            else:
                self._changed.notify(max(1, self.allowed - self._in_flight))

    def _wait_s(self, tokens: int) -> float | None:
        """Seconds until a request may be sent: 0 is now, None when another one's end decides. One
        that is larger than a minute's tokens goes out alone."""
        if self._in_flight >= self.allowed:
            return None
        now = self.clock()
        wait = max(self._not_before - now, 0.0)
        while self._sent and self._sent[0][0] <= now - _MINUTE_S:
            self._sent_tokens -= self._sent.popleft()[1]
        requests, total = len(self._sent) + 1, self._sent_tokens + tokens
        most, most_tokens = self.limits.requests_per_minute, self.limits.tokens_per_minute
        for sent_at, size in self._sent:  # until enough of them are a minute old
            if (most is None or requests <= most) and (most_tokens is None or total <= most_tokens):
                break
            requests, total = requests - 1, total - size
            wait = max(wait, sent_at + _MINUTE_S - now)
        return wait
