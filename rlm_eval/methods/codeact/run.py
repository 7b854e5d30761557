"""One sample's run: its tools, what ends it, and what of the input its model has been shown."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from rlm_eval.errors import SampleFailure
from rlm_eval.ledger import Ledger
from rlm_eval.methods.agent.code import Parsed
from rlm_eval.methods.agent.loop import Brief, Loop
from rlm_eval.methods.agent.subcalls import SubCalls
from rlm_eval.methods.agent.trace import Trace
from rlm_eval.methods.agent.view import Enabled
from rlm_eval.methods.codeact.search import Search
from rlm_eval.methods.codeact.settings import CodeActSettings
from rlm_eval.models.client import LM, CallTags, Completion
from rlm_eval.models.protocol import Message
from rlm_eval.records import Outcome, Problem
from rlm_eval.repl.results import HostFunction
from rlm_eval.repl.session import BlockResult, ReplSession


class CodeActRun:
    """CodeAct on one problem, with its own REPL, which holds nothing but the tools, and its share
    of the ledger."""

    def __init__(
        self,
        settings: CodeActSettings,
        problem: Problem,
        lm: LM,
        ledger: Ledger,
        trace: Trace,
        enabled: Enabled,
        opening: Sequence[Message],
        search: Search | None,
    ) -> None:
        self._settings = settings
        self._trace = trace
        self._enabled = enabled
        self._search = search
        tokens = problem.max_answer_tokens
        brief = Brief(opening, enabled, problem.question, tokens, forced_room=tokens)
        self._loop = Loop(
            settings,
            brief,
            CodeOrWords(),
            lm,
            ledger,
            trace,
            tags=CallTags(),
            share=1.0,
            note=self._note,
        )
        self._calls = SubCalls(
            lm,
            self._loop.ledger,
            trace.coverage,
            self._log,
            depth=0,
            max_tokens=settings.sub_tokens,
            concurrency=settings.concurrency,
        )

    def answer(self) -> tuple[Outcome, str | None]:
        """Outcome and answer text; raises SampleFailure where there is none."""
        with self._settings.sandbox.session(self._tools()) as session:
            return self._loop.run(session, self._calls)

    def _tools(self) -> Mapping[str, HostFunction]:
        """What the prompt tells of, and nothing else."""
        tools = dict(self._calls.functions(self._enabled)) if self._enabled.sub_calls else {}
        if self._search is not None:
            tools["search"] = self._search.search
        return tools

    # -- what models have seen -------------------------------------------------------------------

    def _note(self, shown: str) -> None:
        """What a block printed."""
        self._trace.coverage.note(shown)
        if self._search is not None:
            self._search.note(shown)

    def _log(
        self, outcome: Completion | SampleFailure, prompt: str, depth: int, parent: str | None
    ) -> None:
        """A sub-call. What of the input its prompt covers is noted where it is sent."""
        self._trace.sub_call(outcome, prompt, depth, parent)
        if self._search is not None:
            self._search.note(prompt)


class CodeOrWords:
    """A block calls ``submit(answer)``, or a reply has no code: an action is code, or words to the
    user (arXiv 2402.01030, section 2)."""

    setup = ""

    def in_block(self, session: ReplSession, block: BlockResult) -> str | None:
        return block.submitted

    def in_reply(
        self, session: ReplSession, reply: Completion, parsed: Parsed, *, failed: bool
    ) -> str | None:
        if parsed.blocks or parsed.unknown or reply.finish_reason == "length":
            return None
        return reply.text.strip() or None
