"""Everything that can go wrong on purpose. Each failure of a sample names its outcome."""

from __future__ import annotations

import errno
import math
from typing import Literal

from rlm_eval.records import PENDING, Outcome

#: The outcome, and the kind of a provider's error, where a filter refused the prompt or the reply.
CONTENT_FILTER: Literal["content_filter"] = "content_filter"


class ConfigError(Exception):
    """Bad input. The message says what to do; nothing has been started or spent (exit code 2).
    ``key``, with which the text begins, is the setting as the class that raises it calls it; what
    built that class adds its place with :meth:`within`. ``unset`` is the environment variable that
    a run lacks and a dry run doesn't need.
    """

    def __init__(self, message: str, *, key: str = "", unset: str = "") -> None:
        super().__init__(f"{key} {message}" if key else message)
        self.message = message
        self.key = key
        self.unset = unset

    def within(self, where: str) -> ConfigError:
        """The same error about ``where.key``; unchanged where no key was named."""
        return ConfigError(self.message, key=f"{where}.{self.key}") if self.key else self


def at_least(
    least: float, *, up_to: float = math.inf, above: bool = False, **settings: float | None
) -> None:
    """Raise ConfigError, by its key, for the first of ``settings`` that is set and less than
    ``least`` (with ``above``, no more than that) or more than ``up_to``."""
    for key, value in settings.items():
        if value is not None and not (value > least if above else value >= least):
            bound = f"above {least}" if above else f"at least {least}"
            raise ConfigError(f"must be {bound}, got {value}", key=key)
        if value is not None and value > up_to:
            raise ConfigError(f"must be at most {up_to}, got {value}", key=key)


class SampleFailure(Exception):
    """A question that could not be answered. Becomes ``outcome``, never an empty answer."""

    outcome: Outcome = "no_answer"

    @property
    def leaves_pending(self) -> bool:
        """Whether it is the provider's or the sandbox's, and not a prompt's own: whatever else is
        asked for the same question would be for nothing."""
        return self.outcome in PENDING and getattr(self, "kind", "") not in THE_PROMPTS


class NoReply(SampleFailure):
    """A model was asked and said nothing that counts, for a reason that ``outcome`` names."""

    def __init__(self, message: str, outcome: Outcome) -> None:
        super().__init__(message)
        self.outcome = outcome


class BudgetExceeded(SampleFailure):
    """A cap of the sample, or of an RLM inside it, is spent."""

    outcome: Outcome = "budget_exceeded"


class ContextOverflow(SampleFailure):
    """A prompt is larger than the model's window. ``excess_tokens`` says by how much."""

    outcome: Outcome = "context_overflow"

    def __init__(self, message: str, excess_tokens: int = 0) -> None:
        super().__init__(message)
        self.excess_tokens = excess_tokens


class ProviderError(SampleFailure):
    """The model's provider failed. ``retryable``: worth sending the same request again."""

    outcome: Outcome = "provider_error"

    def __init__(
        self, message: str, *, kind: str, retryable: bool, retry_after_s: float | None = None
    ) -> None:
        super().__init__(message)
        self.kind = kind
        self.retryable = retryable
        self.retry_after_s = retry_after_s
        if kind == CONTENT_FILTER:  # the provider did its work, and would do the same again
            self.outcome = CONTENT_FILTER


#: Kinds of a provider's failure that no repetition mends: they are about key, account or settings.
PERMANENT = frozenset({"authentication", "not_found", "quota", "bad_request"})
#: Kinds that are a prompt's own: who asked may ask otherwise, or for less.
THE_PROMPTS = frozenset({"bad_request", "over_rate_limit", "unreadable_call"})


class SandboxError(SampleFailure):
    """The sandbox itself failed (not the code in it)."""

    outcome: Outcome = "sandbox_error"


class InvalidAnswer(SampleFailure):
    """An answer came that the method's own protocol does not allow."""

    outcome: Outcome = "invalid_answer"


#: The disk takes no more (full, over quota, a file too large, read-only, broken, gone), or the
#: machine has no more files, memory or processes to give.
_MACHINE = {
    *(errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS, errno.EIO, errno.ESTALE),
    *(errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.EAGAIN),
}


def is_the_machines(error: Exception) -> bool:
    """Whether it is the machine that failed, so that every sample would: the run stops there."""
    if isinstance(error, OSError):
        return error.errno in _MACHINE
    threads = isinstance(error, RuntimeError) and "can't start new thread" in str(error)
    return isinstance(error, MemoryError) or threads


class RunBudgetExceeded(Exception):
    """A cap of the run is spent: the run stops and what is left stays pending."""
