"""One sample's turns: code out, output in, until the answer is handed in.

Like an RLM's turns (:mod:`rlm_eval.methods.rlm.engine`), of whose parts it is made, with one
ending, one depth, and nothing in the REPL but the tools.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from rlm_eval.errors import BudgetExceeded, SampleFailure
from rlm_eval.ledger import Ledger
from rlm_eval.methods.agent.asker import Asker
from rlm_eval.methods.agent.code import IMPORTS, parse_reply
from rlm_eval.methods.agent.history import History
from rlm_eval.methods.agent.reserve import Reserve
from rlm_eval.methods.agent.trace import Trace
from rlm_eval.methods.codeact.search import Search
from rlm_eval.methods.codeact.settings import CodeActSettings
from rlm_eval.methods.rlm.host import SubCalls
from rlm_eval.methods.rlm.view import Enabled, View
from rlm_eval.models.door import LM, CallTags, Completion
from rlm_eval.models.protocol import Message
from rlm_eval.records import Content, Outcome, Problem
from rlm_eval.repl.results import HostFunction
from rlm_eval.repl.session import ReplSession


class Loop:
    """CodeAct on one problem, with its own REPL and its share of the ledger."""

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
        self._problem = problem
        self._trace = trace
        self._asker = Asker(lm, trace, CallTags())
        self._enabled = enabled
        self._search = search
        self._view = View(settings.loaded_prompt, enabled, settings.output_chars, 0, 0)
        self._history = History(opening)
        self._reserve = Reserve(lm, "root", ledger, problem.max_answer_tokens)
        self._given: frozenset[str] = frozenset()
        self._last_blocks: tuple[str, ...] = ()
        self._purse = self._ledger = ledger
        if settings.force_answer:
            self._ledger = self._reserve.loop_ledger(self._asked(opening), settings.turn_tokens)
        self._calls = SubCalls(
            lm,
            self._ledger,
            trace.coverage,
            self._log,
            _no_child,
            depth=0,
            max_tokens=settings.sub_tokens,
            concurrency=settings.concurrency,
        )

    def answer(self) -> tuple[Outcome, str | None]:
        """Outcome and answer text; raises SampleFailure where there is none."""
        with self._settings.sandbox.session(self._tools()) as session:
            ready = session.run(IMPORTS)
            self._given = frozenset(variable.name for variable in ready.variables)
            try:
                for number in range(1, self._enabled.max_iterations + 1):
                    if number > 1 and self._last_chance():
                        break
                    text = self._turn(session, number)
                    if text is not None:
                        self._trace.answered()
                        return "answered", text
            except BudgetExceeded:
                if not self._settings.force_answer:
                    raise
        return self._forced() if self._settings.force_answer else ("no_answer", None)

    def _tools(self) -> Mapping[str, HostFunction]:
        """What the prompt tells of, and nothing else."""
        tools = dict(self._calls.functions(self._enabled)) if self._enabled.sub_calls else {}
        if self._search is not None:
            tools["search"] = self._search.search
        return tools

    def _last_chance(self) -> bool:
        """Whether the cap leaves room for a forced turn that another turn would take."""
        if not self._reserve.tight:
            return False
        tokens = self._settings.turn_tokens
        asked = self._asked(self._history.messages(lambda chat: self._asker.fits(chat, tokens)))
        return self._reserve.last_chance(asked, tokens)

    def _turn(self, session: ReplSession, number: int) -> str | None:
        """One reply: its code is run, or, without code, it is the answer (an action is code, or
        words to the user: arXiv 2402.01030, section 2). The answer that was given, if any."""
        tokens = self._settings.turn_tokens
        messages = self._history.messages(lambda chat: self._asker.fits(chat, tokens))
        self._history.keep_in(session)
        reply = self._asker.ask(number, messages, tokens, self._ledger)
        self._calls.parent = reply.call_id
        parsed = parse_reply(reply.text)
        cut_off = reply.finish_reason == "length"
        if not (parsed.blocks or parsed.unknown or cut_off) and reply.text.strip():
            return reply.text.strip()
        shown: list[str] = []
        for code in parsed.blocks:
            result = session.run(code)
            shown.append(self._view.observation(result, self._given))
            self._trace.block(number, reply.call_id, code, shown[-1], result)
            if result.submitted is not None:
                return result.submitted
            if result.error is not None or result.state != "kept":
                break
        self._note("\n\n".join(shown))
        if not parsed.blocks:
            shown.append(self._view.text("no_code", unknown=parsed.unknown, cut_off=cut_off))
        elif parsed.blocks == self._last_blocks:
            shown.append(self._view.text("repeated"))
        self._last_blocks = parsed.blocks or self._last_blocks
        self._history.add(reply.text, "\n\n".join(shown))
        return None

    def _forced(self) -> tuple[Outcome, str | None]:
        """One last turn for an answer in plain text, always marked as forced."""
        tokens = self._problem.max_answer_tokens

        def fits(chat: Sequence[Message]) -> bool:
            asked = self._asked(chat)
            return self._asker.fits(asked, tokens) and self._reserve.affords(asked)

        messages = self._asked(self._history.messages(fits))
        number = self._trace.iterations + 1
        text = self._asker.ask(number, messages, tokens, self._purse, forced=True).text.strip()
        return ("forced", text) if text else ("no_answer", None)

    def _asked(self, messages: Sequence[Message]) -> list[Message]:
        return self._view.asked(messages, "forced", question=self._problem.question)

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


def _no_child(question: str, content: Content, parent: str | None) -> str:
    raise SampleFailure("CodeAct has no child runs")
