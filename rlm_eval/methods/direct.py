"""Plain long context: the whole input and the question in one prompt."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from rlm_eval.errors import ConfigError, ContextOverflow
from rlm_eval.ledger import Ledger
from rlm_eval.methods.fitting import Cut, cut_text, largest_fitting
from rlm_eval.methods.method import Method
from rlm_eval.methods.prompts import load_prompt
from rlm_eval.models.door import LM
from rlm_eval.models.protocol import ModelInfo
from rlm_eval.records import Answer, Problem, Role

Overflow = Literal["refuse", "truncate_head", "truncate_middle", "truncate_tail"]
_CUTS: Mapping[str, Cut] = {
    "truncate_head": "head",
    "truncate_middle": "middle",
    "truncate_tail": "tail",
}
#: The largest share of the window one search step is allowed to leave unused, in characters.
_GRAIN = 64


@dataclass
class Direct(Method):
    """One call with everything in it.

    ``overflow`` says what happens to an input larger than the window: ``refuse`` it
    (context_overflow), or cut away its head, middle or tail; what was cut is recorded in the
    row's ``truncated_tokens``, in the served model's tokens.
    """

    prompt: str = "plain"
    overflow: Overflow = "truncate_middle"

    def __post_init__(self) -> None:
        self._prompt = load_prompt("direct", self.prompt)

    def prompt_name(self) -> str:
        return self._prompt.name

    def prompt_source(self) -> str:
        return self._prompt.source

    def check(self, models: Mapping[Role, ModelInfo]) -> None:
        if models["root"].context_window < 256:
            raise ConfigError("method.direct needs a window of at least 256 tokens")

    def answer(self, problem: Problem, lm: LM, ledger: Ledger) -> Answer:
        text, truncated = self._fitted(problem, lm)
        messages = self._prompt.messages(context=text, question=problem.question)
        reply = lm.complete(messages, ledger=ledger, max_tokens=problem.max_answer_tokens)
        return Answer(
            text=reply.text,
            outcome="answered",
            iterations=1,
            truncated_tokens=truncated,
            context_chars_read_by_lm=len(text),
        )

    def _fitted(self, problem: Problem, lm: LM) -> tuple[str, int]:
        """The input as it will be sent, and how many tokens of it were cut away."""
        full = problem.context.text
        room = lm.info().context_window - problem.max_answer_tokens

        def tokens(text: str) -> int:
            return lm.prompt_tokens(self._prompt.messages(context=text, question=problem.question))

        whole = tokens(full)
        if whole <= room:
            return full, 0
        if self.overflow == "refuse":
            raise ContextOverflow(
                f"the prompt has {whole:,} tokens, the window room for {room:,}", whole - room
            )
        cut = _CUTS[self.overflow]
        steps = largest_fitting(
            len(full) // _GRAIN, lambda n: tokens(cut_text(full, n * _GRAIN, cut)) <= room
        )
        if steps == 0:
            raise ContextOverflow(f"the question alone fills the window of {room:,}", whole - room)
        kept = cut_text(full, steps * _GRAIN, cut)
        return kept, whole - tokens(kept)
