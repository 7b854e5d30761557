"""What a method is. A new one is a subclass with ``answer`` and one YAML file in conf/method/."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from rlm_eval.errors import SampleFailure
from rlm_eval.ledger import Ledger, Spend
from rlm_eval.models.client import LM, Completion
from rlm_eval.models.protocol import ModelInfo, Usage
from rlm_eval.records import Answer, Context, Problem, Role

#: Sub-calls that a turn is reckoned to make at most where nothing limits them.
SUB_CALLS_A_TURN = 64

#: A task's scripted solver: the answer to a question from the context's surface, None where it
#: has no idea.
CodeOracle = Callable[[str, Context], str | None]


@dataclass(frozen=True)
class Shape:
    """The sizes a forecast is made from, in tokens."""

    context_tokens: int
    question_tokens: int
    max_answer_tokens: int


@dataclass(frozen=True)
class Forecast:
    """What one answer is expected to take of one role's model: calls that are sent, and their
    tokens together, those of the replies' texts alone. ``repeated_tokens`` of the prompts' were
    sent before for the same answer: they cost, but a server's prompt cache saves the time. Of a
    bound, ``assumed`` says that no setting limits its calls."""

    calls: int
    prompt_tokens: int
    completion_tokens: int
    role: Role = "root"
    repeated_tokens: int = 0
    assumed: bool = False

    def usage(self, info: ModelInfo) -> Usage:
        """What ``info`` may bill for it at most: each reply with all that may be thought unseen."""
        thought = self.calls * info.reasoning_tokens
        return Usage(self.prompt_tokens, self.completion_tokens + thought)


#: The least and the most of one answer; the most is None where no setting limits it.
Bounds = tuple[tuple[Forecast, ...], tuple[Forecast, ...] | None]


class Method:
    """One way to answer a question about a long input. Called from several threads at once, so
    ``answer`` keeps its state in local variables."""

    #: Whose models it speaks to, with the settings it has.
    roles: tuple[Role, ...] = ("root",)
    #: Whether a model reads all of the input. Methods that don't are asked first of all.
    reads_everything: bool = True
    #: Whether it spends up to the sample's cap on tokens or dollars (``budget.matched``).
    matched: bool = False

    def answer(self, problem: Problem, lm: LM, ledger: Ledger) -> Answer:
        """Answer ``problem``, every model call through ``lm`` and paid by ``ledger``.

        Raises a :class:`rlm_eval.errors.SampleFailure` that becomes the sample's outcome.
        """
        raise NotImplementedError

    def prompt_name(self) -> str:
        """The prompt's name as shown in tables."""
        return ""

    def prompt_source(self) -> str:
        """Everything that shapes this method's prompts; its hash is part of a result's key."""
        return ""

    def check(self, models: Mapping[Role, ModelInfo]) -> None:
        """Raise ConfigError for what can't work with these models. Nothing has started yet."""

    def bind(self, code_oracle: CodeOracle, count_alone: CodeOracle) -> None:
        """Take the task's scripts: its solver, and what counts without reading. Only the controls
        that run them do."""

    def forecast(
        self, shape: Shape, models: Mapping[Role, ModelInfo]
    ) -> tuple[Forecast, ...] | None:
        """What one answer will take of each role, from the sizes alone; None where they don't
        tell. No model is asked."""
        return None

    def bounds(self, shape: Shape, models: Mapping[Role, ModelInfo]) -> Bounds | None:
        """One turn, and all that its settings allow, where the model decides what is taken."""
        return None

    def kept(self, shape: Shape, models: Mapping[Role, ModelInfo]) -> float:
        """The share of an input that its prompts will show, as far as the sizes tell: less than 1
        where it would have to be cut, 0 where it is refused."""
        return 1.0

    def spends_up_to_cap(self, ledger: Ledger) -> bool:
        """Whether it buys as much as the sample of ``ledger`` may cost in tokens or dollars."""
        return self.matched and ledger.budget.bounds_what_is_bought

    def stores_input(self) -> bool:
        """Whether the input, or what is made of it, is written to a disk meanwhile."""
        return False

    def close(self) -> None:
        """Give back what the method holds (a sandbox)."""


def kept_of(shape: Shape, over: int, *, refused: bool) -> float:
    """:meth:`Method.kept` for an input that is so many tokens ``over`` its room."""
    if over <= 0:
        return 1.0
    return 0.0 if refused else max(0.0, 1 - over / shape.context_tokens)


def affords(lm: LM, ledger: Ledger, load: Sequence[Forecast]) -> bool:
    """Whether calls like these fit what is left under every cap."""
    models = [(part, lm.info(part.role)) for part in load]
    spends = [info.worst(part.usage(info), part.calls) for part, info in models]
    return ledger.affords(sum(spends, Spend()))


def without_failures(outcomes: Sequence[Completion | SampleFailure]) -> list[Completion]:
    """The replies of a batch. Raises its first failure: with fewer it would be another method."""
    for outcome in outcomes:
        if isinstance(outcome, SampleFailure):
            raise outcome
    return [outcome for outcome in outcomes if isinstance(outcome, Completion)]
