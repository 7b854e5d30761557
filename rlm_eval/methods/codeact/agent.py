"""The method: CodeAct with the input in its prompt, plain, with BM25, or with sub-calls."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, replace

from rlm_eval.errors import ConfigError
from rlm_eval.ledger import Ledger
from rlm_eval.methods.agent.coverage import ContextCoverage
from rlm_eval.methods.agent.settings import most_turns
from rlm_eval.methods.agent.trace import Trace
from rlm_eval.methods.agent.view import Enabled
from rlm_eval.methods.codeact.opening import How, Opening, open_chat
from rlm_eval.methods.codeact.run import CodeActRun
from rlm_eval.methods.codeact.search import Search
from rlm_eval.methods.codeact.settings import CodeActSettings
from rlm_eval.methods.fitting import chunks_of, document_spans, offline_tokens
from rlm_eval.methods.method import Forecast, Method, Shape
from rlm_eval.methods.rag.ranking import Bm25
from rlm_eval.models.client import LM
from rlm_eval.models.protocol import Message, ModelInfo
from rlm_eval.records import Answer, Outcome, Problem, Role

#: Turns a forecast counts with: one that computes or looks up, one that submits.
_USUAL_TURNS = 2


class CodeAct(CodeActSettings, Method):
    """An agent whose actions are Python code. It reads the input in its prompt; what its code is
    to work on, it writes into the code, or finds there by ``search``. It answers by ``submit``, or
    by a reply without code."""

    roles: tuple[Role, ...] = ("root", "sub")

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.sub_calls:
            self.roles = ("root",)

    def prompt_name(self) -> str:
        return self.loaded_prompt.name

    def prompt_source(self) -> str:
        return self.loaded_prompt.source

    def check(self, models: Mapping[Role, ModelInfo]) -> None:
        window = models["root"].context_window
        needed = self.work_tokens + self._frame()
        if needed >= window:
            raise ConfigError(
                f"method.codeact: work_tokens={self.work_tokens} and the prompt without its input "
                f"take {needed} tokens, the model's window has {window}: lower "
                "method.codeact.work_tokens"
            )

    def forecast(
        self, shape: Shape, models: Mapping[Role, ModelInfo]
    ) -> tuple[Forecast, ...] | None:
        """Two turns with full replies, as the prompt's examples have. None with sub-calls: their
        number follows from the code that the model writes."""
        if self.sub_calls:
            return None
        opening = self._frame() + shape.question_tokens + shape.context_tokens
        room = models["root"].context_window - max(self.work_tokens, shape.max_answer_tokens)
        if opening > room and self.overflow == "refuse":
            return ()
        if opening > room:
            left_out = self.overflow == "omit"
            opening = self._frame("none") + shape.question_tokens if left_out else room
        prompt = _USUAL_TURNS * opening + (_USUAL_TURNS - 1) * self.turn_tokens
        return (Forecast(_USUAL_TURNS, prompt, _USUAL_TURNS * self.turn_tokens),)

    def answer(self, problem: Problem, lm: LM, ledger: Ledger) -> Answer:
        enabled = self.enabled(lm.info("sub").context_window, most_turns(self, lm, ledger))
        opening = self._opening(problem, lm, enabled)
        trace = Trace(ContextCoverage(problem.context.text))
        trace.start("codeact", self, self.sandbox.level, ledger)
        for start, end in opening.spans:
            trace.coverage.add(start, end)
        search = self._search(problem) if self.bm25 else None

        def run() -> tuple[Outcome, str | None]:
            return CodeActRun(
                self, problem, lm, ledger, trace, enabled, opening.messages, search
            ).answer()

        shown = document_spans(problem.context, opening.spans)
        answer = trace.answer(
            run,
            truncated_tokens=opening.truncated_tokens,
            sandbox_level=self.sandbox.level,
            protocol=enabled.protocol,
        )
        return replace(answer, spans_read=shown + (search.spans() if search else ()))

    def close(self) -> None:
        self.indices.clear()
        self.sandbox.close()

    def _opening(self, problem: Problem, lm: LM, enabled: Enabled) -> Opening:
        def render(how: How, text: str) -> list[Message]:
            return self._chat(how, text, problem.question, len(problem.context.text), enabled)

        room = lm.info().context_window - max(self.work_tokens, problem.max_answer_tokens)
        return open_chat(problem.context.text, self.overflow, room, render, lm.prompt_tokens)

    def _chat(
        self, how: How, text: str, question: str, chars: int, enabled: Enabled
    ) -> list[Message]:
        return self.loaded_prompt.messages(
            **asdict(enabled),
            bm25=self.bm25,
            how=how,
            context=text,
            chars=chars,
            question=question,
        )

    def _frame(self, how: How = "whole") -> int:
        """Offline tokens of the chat before the first turn, without input and question."""
        return offline_tokens(self._chat(how, "", "", 0, self.enabled(0, self.max_iterations)))

    def _search(self, problem: Problem) -> Search:
        """The search tool over the problem's input; its index is kept for the next question."""
        context = problem.context
        index, _ = self.indices.get(
            context.id, lambda: Bm25(chunks_of(context.content, self.piece_tokens))
        )
        return Search(index)
