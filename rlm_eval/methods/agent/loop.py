"""The turns of an agent: code out, output in, until its answer is handed in.

An RLM (arXiv 2512.24601, Algorithm 1) and CodeAct (arXiv 2402.01030) take the same turns. What they
differ in is given: the first chat, what the REPL holds, and what ends the run.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from rlm_eval.errors import BudgetExceeded
from rlm_eval.ledger import Ledger
from rlm_eval.methods.agent.asker import Asker
from rlm_eval.methods.agent.code import IMPORTS, parse_reply
from rlm_eval.methods.agent.ending import Ending, UnclearFinalError
from rlm_eval.methods.agent.history import History
from rlm_eval.methods.agent.reserve import Reserve
from rlm_eval.methods.agent.settings import AgentSettings
from rlm_eval.methods.agent.subcalls import SubCalls
from rlm_eval.methods.agent.trace import Trace
from rlm_eval.methods.agent.view import Enabled, View
from rlm_eval.models.client import LM, CallTags
from rlm_eval.models.protocol import Message
from rlm_eval.records import Outcome
from rlm_eval.repl.session import ReplSession


@dataclass(frozen=True)
class Brief:
    """What one agent is to do. ``opening``: the chat before its first turn, which tells of what is
    ``enabled``; ``question`` is asked again for the forced answer, whose chat leaves
    ``forced_room`` tokens of the window free."""

    opening: Sequence[Message]
    enabled: Enabled
    question: str
    answer_tokens: int
    forced_room: int


@dataclass(frozen=True)
class Ran:
    """A turn's blocks: the final ``answer`` they gave, what the model is ``shown``, and whether
    one ``failed``, after which no other was run."""

    answer: str | None = None
    shown: tuple[str, ...] = ()
    failed: bool = False


class Loop:
    """One agent's turns. ``tags`` mark its calls, of whose window chats and replies fill at most
    ``share``; ``note`` is told what its code printed.

    ``ledger`` pays for the turns and for what their code asks: the one that is given, less what is
    held back for the forced turn.
    """

    def __init__(
        self,
        settings: AgentSettings,
        brief: Brief,
        ending: Ending,
        lm: LM,
        ledger: Ledger,
        trace: Trace,
        *,
        tags: CallTags,
        share: float,
        note: Callable[[str], None],
    ) -> None:
        self._settings = settings
        self._brief = brief
        self._ending = ending
        self._trace = trace
        self._note = note
        self._asker = Asker(lm, trace, tags, share)
        self._view = View(settings.loaded_prompt, brief.enabled, settings.output_chars)
        self._history = History(brief.opening)
        self._reserve = Reserve(lm, tags.role, ledger, brief.answer_tokens)
        self._given: frozenset[str] = frozenset()
        self._last_blocks: tuple[str, ...] = ()
        self._purse = self.ledger = ledger
        if settings.force_answer:
            asked = self._asked(brief.opening)
            self.ledger = self._reserve.loop_ledger(asked, settings.turn_tokens)

    def run(self, session: ReplSession, calls: SubCalls) -> tuple[Outcome, str | None]:
        """Outcome and answer text; raises SampleFailure where there is none. ``calls`` are told
        which turn's code is running."""
        ready = session.run(f"{IMPORTS}\n{self._ending.setup}")
        self._given = frozenset(variable.name for variable in ready.variables)
        try:
            text = self._turns(session, calls)
        except BudgetExceeded:
            if not self._settings.force_answer:
                raise
            text = None
        if text is not None:
            self._trace.answered()
            return "answered", text
        return self._forced(session) if self._settings.force_answer else ("no_answer", None)

    def _turns(self, session: ReplSession, calls: SubCalls) -> str | None:
        for number in range(1, self._brief.enabled.max_iterations + 1):
            if number > 1 and self._last_chance():
                break
            text = self._turn(session, calls, number)
            if text is not None:
                return text
        return None

    def _last_chance(self) -> bool:
        """Whether the cap leaves room for a forced turn that another turn would take."""
        if not self._reserve.tight:
            return False
        asked = self._asked(self._history.messages(self._fits))
        return self._reserve.last_chance(asked, self._settings.turn_tokens)

    def _turn(self, session: ReplSession, calls: SubCalls, number: int) -> str | None:
        """One reply: its code is run, then it is looked at as a whole; the final answer, if any."""
        messages = self._history.messages(self._fits)
        self._history.keep_in(session)
        reply = self._asker.ask(number, messages, self._settings.turn_tokens, self.ledger)
        calls.parent = reply.call_id
        parsed = parse_reply(reply.text)
        ran = self._run_blocks(session, number, reply.call_id, parsed.blocks)
        if ran.answer is not None:
            return ran.answer
        shown = list(ran.shown)
        try:
            text = self._ending.in_reply(session, reply, parsed, failed=ran.failed)
            if text is not None:
                return text
            if not parsed.blocks:
                cut_off = reply.finish_reason == "length"
                shown.append(self._view.text("no_code", unknown=parsed.unknown, cut_off=cut_off))
        except UnclearFinalError as unclear:
            shown.append(self._view.text("unclear", reason=str(unclear)))
        if parsed.blocks and parsed.blocks == self._last_blocks:
            shown.append(self._view.text("repeated"))
        self._last_blocks = parsed.blocks or self._last_blocks
        self._history.add(reply.text, "\n\n".join(shown))
        return None

    def _run_blocks(
        self, session: ReplSession, number: int, call_id: str, blocks: Sequence[str]
    ) -> Ran:
        """Run a turn's blocks up to the first that fails or ends the run."""
        shown: list[str] = []
        failed = False
        for code in blocks:
            result = session.run(code)
            shown.append(self._view.observation(result, self._given))
            self._trace.block(number, call_id, code, shown[-1], result)
            answer = self._ending.in_block(session, result)
            if answer is not None:
                return Ran(answer)
            failed = result.error is not None or result.state != "kept"
            if failed:
                break
        self._note("\n\n".join(shown))
        return Ran(None, tuple(shown), failed)

    def _forced(self, session: ReplSession) -> tuple[Outcome, str | None]:
        """One last turn for an answer in plain text, always marked as forced."""

        def fits(messages: Sequence[Message]) -> bool:
            asked = self._asked(messages)
            room = self._brief.forced_room
            return self._asker.fits(asked, room) and self._reserve.affords(asked)

        messages = self._asked(self._history.messages(fits))
        number, tokens = self._trace.iterations + 1, self._brief.answer_tokens
        reply = self._asker.ask(number, messages, tokens, self._purse, forced=True)
        parsed = parse_reply(reply.text)
        try:
            final = self._ending.in_reply(session, reply, parsed, failed=False)
        except UnclearFinalError:
            return "no_answer", None
        text = (reply.text if final is None else final).strip()
        return ("forced", text) if text else ("no_answer", None)

    def _asked(self, messages: Sequence[Message]) -> list[Message]:
        return self._view.asked(messages, "forced", question=self._brief.question)

    def _fits(self, messages: Sequence[Message]) -> bool:
        return self._asker.fits(messages, self._settings.turn_tokens)
