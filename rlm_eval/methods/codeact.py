"""CodeAct (Wang et al., arXiv 2402.01030), the agent that the RLM paper compares with.

The input is in the prompt, as in the paper's section 3; the REPL holds no copy of it. An input that
has no room is cut as ``direct`` cuts it, refused, or left to its tools alone: the RLM paper's
CodeAct ran into the limit (refuse) or, on BrowseComp-Plus, only searched (omit).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from functools import partial
from typing import ClassVar, Literal

from rlm_eval.errors import ConfigError
from rlm_eval.ledger import Ledger
from rlm_eval.methods.agent.chat import Parsed
from rlm_eval.methods.agent.loop import Agent, Run
from rlm_eval.methods.agent.subcalls import Enabled
from rlm_eval.methods.agent.trace import Trace
from rlm_eval.methods.fitting import Fitted, Overflow, cut_to_fit, document_spans, offline_tokens
from rlm_eval.methods.method import Bounds, Forecast, Shape, kept_of
from rlm_eval.models.client import LM, Completion
from rlm_eval.models.protocol import Message, ModelInfo
from rlm_eval.records import Answer, Problem, Role
from rlm_eval.repl.session import ReplSession

#: How much of the input a prompt shows.
How = Literal["whole", "part", "none"]


@dataclass
class CodeAct(Agent):
    """An agent whose actions are Python code (arXiv 2402.01030). It reads the input in its prompt;
    what its code is to work on, it writes into the code, or finds there by ``search``. It answers
    by ``submit``, or by a reply without code. Settings: conf/method/codeact.yaml."""

    prompt_folder: ClassVar[str] = "codeact"
    answers_in_words: ClassVar[bool] = True

    prompt: str = "plain"
    sub_calls: bool = False
    overflow: Overflow = "truncate_middle"
    work_tokens: int = 2048

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.work_tokens < 2 * self.turn_tokens:
            raise ConfigError(
                f"must hold at least two turns of turn_tokens={self.turn_tokens}, got "
                f"{self.work_tokens}",
                key="work_tokens",
            )
        if self.overflow == "omit" and not self.tools:
            told = "must not be omit without tools: nothing could be read"
            raise ConfigError(told, key="overflow")
        self.roles: tuple[Role, ...] = ("root", "sub") if self.sub_calls else ("root",)

    def check(self, models: Mapping[Role, ModelInfo]) -> None:
        super().check(models)
        window = models["root"].context_window
        frame = self._frame_tokens()
        if self.work_tokens + frame >= window:
            raise ConfigError(
                f"must be lower than {self.work_tokens}: with the prompt without its input, "
                f"{frame} tokens, it must fit the model's window of {window}",
                key="work_tokens",
            )

    def kept(self, shape: Shape, models: Mapping[Role, ModelInfo]) -> float:
        if self.overflow == "omit":
            return 1.0  # what is not shown is searched
        opening, room = self._sizes(shape, models["root"])
        return kept_of(shape, opening - room, refused=self.overflow == "refuse")

    def _sizes(self, shape: Shape, model: ModelInfo) -> tuple[int, int]:
        """Tokens of the chat before the first turn, and the room for it."""
        opening = self._frame_tokens() + shape.question_tokens + shape.context_tokens
        return opening, self._room(model, shape.max_answer_tokens)

    def bounds(self, shape: Shape, models: Mapping[Role, ModelInfo]) -> Bounds:
        opening, room = self._sizes(shape, models["root"])
        if opening > room:
            if self.overflow == "refuse":
                return (), ()
            omitted = self._frame_tokens("none") + shape.question_tokens
            opening = omitted if self.overflow == "omit" else room
        most = [self.turns_limit(shape, models["root"].context_window)]
        if self.sub_calls:
            most.append(self.sub_calls_limit(models))
        return (Forecast(1, opening, 1),), tuple(most)

    def answer(self, problem: Problem, lm: LM, ledger: Ledger) -> Answer:
        context = problem.context
        enabled = self.enabled(self.most_turns(ledger), lm.info("sub").context_window)
        opening = self._opening(problem, lm, enabled)
        trace = Trace(problem.watch)
        trace.start("codeact", self, self.sandbox.level, ledger)
        tools = self.toolset.over(context.content) if self.tools else None
        functions = tools.functions if tools else {}
        run = Run(self, problem, lm, ledger, trace, enabled, opening.messages, tools=functions)
        truncated = opening.truncated_tokens
        answer = trace.answer(run.answer, truncated_tokens=truncated, protocol=enabled.protocol)
        found = tools.seen(trace.texts) if tools else ()
        return replace(answer, spans_read=document_spans(context, opening.spans) + found)

    def in_reply(
        self, session: ReplSession, reply: Completion, parsed: Parsed, *, failed: bool
    ) -> str | None:
        """A reply without code: an action is code, or words to the user (arXiv 2402.01030,
        section 2). An RLM's never is."""
        if parsed.blocks or parsed.unknown or reply.finish_reason == "length":
            return None
        return reply.text.strip() or None

    def powers(self, depth: int) -> tuple[bool, bool, bool]:
        return self.sub_calls, self.sub_calls, False

    def _opening(self, problem: Problem, lm: LM, enabled: Enabled) -> Fitted:
        """The chat before the first turn: worked examples, as much of the input as has room, the
        question. Raises ContextOverflow."""
        text = problem.context.text
        room = self._room(lm.info(), problem.max_answer_tokens)
        how: How = "none" if self.overflow == "omit" else "part"
        chat = partial(self._chat, question=problem.question, chars=len(text), enabled=enabled)
        whole = chat("whole", text)
        size = lm.prompt_tokens(whole)
        if size <= room:
            return Fitted(whole, size, [(0, len(text))])
        return cut_to_fit(text, self.overflow, lm.prompt_tokens, room, size, partial(chat, how))

    def _room(self, model: ModelInfo, answer_tokens: int) -> int:
        """Tokens of the window beside what is left to the turns: also to two of them and the
        answer, and up to half of the rest to what a model may write that it did not think away."""
        room = model.context_window - max(self.work_tokens, answer_tokens + 2 * self.turn_tokens)
        return room - min(2 * model.reasoning_tokens, max(0, room) // 2)

    def _chat(
        self, how: How, text: str, question: str, chars: int, enabled: Enabled
    ) -> list[Message]:
        shown = {"how": how, "context": text, "chars": chars, "question": question}
        return self.loaded_prompt.messages(**asdict(enabled), **shown)

    def _frame_tokens(self, how: How = "whole") -> int:
        """Offline tokens of the chat before the first turn, without input and question."""
        return offline_tokens(self._chat(how, "", "", 0, self.enabled(self.max_iterations, 0)))
