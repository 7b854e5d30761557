"""Plain long context: the whole input and the question in one prompt, asked once or voted on.

Votes are self-consistency (Wang et al., arXiv 2203.11171, section 2): one prompt sampled several
times, and the answer given most often. No seed is sent, so they differ from run to run. A run that
leaves the temperature to its provider (``temperature=null``) leaves it that of the votes too.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal

from rlm_eval.errors import ConfigError, at_least
from rlm_eval.ledger import Ledger
from rlm_eval.methods.fitting import (
    Fitted,
    check_window,
    cut_to_fit,
    document_spans,
    largest_fitting,
    offline_tokens,
)
from rlm_eval.methods.method import (
    Forecast,
    Method,
    Shape,
    kept_of,
    prompt_tokens_left,
    without_failures,
)
from rlm_eval.methods.prompts import Prompted, load_prompt
from rlm_eval.models.client import LM, Completion, Temperature
from rlm_eval.models.protocol import Message, ModelInfo
from rlm_eval.records import Answer, Problem, Role, Span, documents_of

Overflow = Literal["refuse", "truncate_head", "truncate_middle", "truncate_tail"]
QuestionAt = Literal["after", "before", "both"]


@dataclass
class Direct(Prompted, Method):
    """The input and the question in one prompt.

    ``overflow`` says what happens to an input larger than the window: ``refuse`` it
    (context_overflow), or cut away its head, middle or tail, which a line in its place says. The
    question comes after the input, before it, or on both sides (``question_at``).

    With ``think`` the model may reason first, in up to ``think_tokens`` beside the answer's own,
    and hands the answer in between tags (:func:`final_answer`).

    More than one of the ``votes`` are sampled at ``vote_temperature`` (None, here or for the run:
    the provider's own), and the answer given most often counts, of equals the one given first.
    With ``matched`` there are as many as the sample's cap on tokens or dollars buys, each at its
    largest; where ``votes`` is 1 the first of them is the plain reply.
    """

    prompt: str = "plain"
    overflow: Overflow = "truncate_middle"
    question_at: QuestionAt = "after"
    think: bool = False
    think_tokens: int = 512
    votes: int = 1
    vote_temperature: float | None = 0.7
    matched: bool = False

    def __post_init__(self) -> None:
        at_least(1, think_tokens=self.think_tokens, votes=self.votes)
        if self.vote_temperature is not None and self.vote_temperature <= 0:
            told = "must be above 0 (at 0 all votes are the same), or null for the provider's own"
            raise ConfigError(told, key="vote_temperature")
        self.loaded_prompt = load_prompt("direct", self.prompt)
        needed = {
            "think": "<answer>" if self.think else "",
            "question_at": "question_at" if self.question_at != "after" else "",
        }
        for key, word in needed.items():
            if word not in self.loaded_prompt.source:
                raise ConfigError(
                    f"needs {word} in the prompt {self.prompt}: see conf/prompt/direct/plain.yaml",
                    key=key,
                )

    def check(self, models: Mapping[Role, ModelInfo]) -> None:
        window = models["root"].context_window
        left = check_window(self._messages("", ""), window)
        if self.think and self.think_tokens > left:
            raise ConfigError(
                f"leaves too little of the window of {window}: lower it to {left} or less",
                key="think_tokens",
            )

    def answer(self, problem: Problem, lm: LM, ledger: Ledger) -> Answer:
        max_tokens = self._max_tokens(problem.max_answer_tokens)
        context, question = problem.context, problem.question
        text, room = context.text, lm.info().context_window - max_tokens
        whole, chars = self._messages(text, question), sum(map(len, documents_of(context.content)))
        chat = Fitted(whole, lm.prompt_tokens(whole), [(0, len(text))])
        read: tuple[Span, ...] = ((0, chars),) if chars else ()
        if chat.tokens > room:
            part = partial(self._messages, question=question)
            chat = cut_to_fit(text, self.overflow, lm.prompt_tokens, room, chat.tokens, part)
            read = document_spans(context, chat.spans)
        votes = self.votes
        first: Temperature = "run" if votes == 1 else self.vote_temperature
        if self.matched:
            votes = votes_within_cap(ledger, lm.info(), chat.tokens, max_tokens) or votes
        # Asked alone, the first leaves the prompt in the server's cache, where the others find it.
        replies = [
            lm.complete(chat.messages, ledger=ledger, max_tokens=max_tokens, temperature=first)
        ]
        if votes > 1:
            replies += self._other_votes(votes - 1, chat.messages, lm, ledger, max_tokens)
        cast: list[tuple[str | None, str]] = [
            final_answer(reply) if self.think else (reply.text, "whole reply") for reply in replies
        ]
        given = [text for text, _ in cast if text and text.strip()]
        trajectory: tuple[Mapping[str, Any], ...] = ()
        if self.think or votes > 1:
            event = {
                "type": "votes",
                "first_at": lm.temperature(first),
                "others_at": lm.temperature(self.vote_temperature),
                "votes": [
                    {"call_id": reply.call_id, "answer": text, "taken": taken}
                    for reply, (text, taken) in zip(replies, cast, strict=True)
                ],
            }
            trajectory = (event,)
        return Answer(
            text=majority(given) if given else None,
            outcome="answered" if given else "no_answer",
            iterations=votes,
            truncated_tokens=chat.truncated_tokens,
            spans_read=read,
            trajectory=trajectory,
            error="" if given else f"no answer in {votes} {'reply' if votes == 1 else 'replies'}",
        )

    def _other_votes(
        self, count: int, messages: Sequence[Message], lm: LM, ledger: Ledger, max_tokens: int
    ) -> list[Completion]:
        """Side by side, but for the embedded model, whose parallel slots share no prompt. Raises
        the failure of a vote that could not be had: fewer votes are another method."""
        replies = lm.complete_batch(
            [messages] * count,
            ledger=ledger,
            max_tokens=max_tokens,
            temperature=self.vote_temperature,
            concurrency=1 if lm.info().endpoint == "local" else 64,
        )
        return without_failures(replies)

    # -- the prompt ------------------------------------------------------------------------------

    def _max_tokens(self, answer_tokens: int) -> int:
        return answer_tokens + (self.think_tokens if self.think else 0)

    def _messages(self, text: str, question: str) -> list[Message]:
        return self.loaded_prompt.messages(
            context=text, question=question, question_at=self.question_at, think=self.think
        )

    # -- the forecast ----------------------------------------------------------------------------

    def forecast_size(self, shape: Shape) -> int:
        """Tokens that the whole input, the question and the largest reply are expected to take."""
        questions = 2 if self.question_at == "both" else 1
        prompt = offline_tokens(self._messages("", ""))
        prompt += shape.context_tokens + questions * shape.question_tokens
        return prompt + self._max_tokens(shape.max_answer_tokens)

    def kept(self, shape: Shape, models: Mapping[Role, ModelInfo]) -> float:
        over = self.forecast_size(shape) - models["root"].context_window
        return kept_of(shape, over, refused=self.overflow == "refuse")

    def forecast(self, shape: Shape, models: Mapping[Role, ModelInfo]) -> tuple[Forecast, ...]:
        """Each vote at its largest. What ``matched`` changes follows from the cap and is not in
        it."""
        window, votes = models["root"].context_window, self.votes
        completion = self._max_tokens(shape.max_answer_tokens)
        size = self.forecast_size(shape)
        if size > window and self.overflow == "refuse":
            return ()
        prompt = min(size, window) - completion
        again = (votes - 1) * prompt
        return (Forecast(votes, votes * prompt, votes * completion, repeated_tokens=again),)


def final_answer(reply: Completion) -> tuple[str | None, str]:
    """The answer in a reply that was given room to think, None where it has none, and what was
    taken for it: what is in the last ``<answer>`` tag, a form that no task's own answer form
    contains. Without a tag it is the last line: never all of its thoughts, in which a scorer that
    looks for substrings would find much. A reply that was cut off before its end has none."""
    cut_off = reply.finish_reason == "length"
    _, tag, rest = reply.text.rpartition("<answer>")
    inside, closed, _ = rest.partition("</answer>")
    if tag and (closed or not cut_off):
        return inside.strip(), "tag"
    lines = [line.strip() for line in reply.text.split("\n") if line.strip()]
    return (None, "nothing") if cut_off or not lines else (lines[-1], "last line")


def normalised(answer: str) -> str:
    """Equal for answers that count as the same vote: letter case, white space and punctuation at
    the end are put aside."""
    return " ".join(answer.casefold().split()).rstrip(" .,;:!?")


def majority(answers: Sequence[str]) -> str:
    """The answer given most often, worded as it was first; of equals the one given first."""
    counts = Counter(map(normalised, answers))
    return max(answers, key=lambda answer: counts[normalised(answer)])


def votes_within_cap(
    ledger: Ledger, info: ModelInfo, prompt_tokens: int, max_tokens: int
) -> int | None:
    """How many votes the sample's cap on tokens or dollars buys, each at its largest, at least 1
    (where not even that fits, the call itself is refused); None where no such cap holds."""

    def left(votes: int) -> int | None:
        return prompt_tokens_left(ledger, info, calls=votes, completion_tokens=max_tokens)

    if (for_prompts := left(0)) is None:
        return None
    calls = ledger.remaining()["calls"]
    most = for_prompts // prompt_tokens
    most = most if calls is None else min(most, int(calls))
    return max(1, largest_fitting(most, lambda n: (left(n) or 0) >= n * prompt_tokens))
