"""The loop of one RLM: metadata in, code out, output in, until the answer is set.

Paper: arXiv 2512.24601, Algorithm 1. Depth 0 is a REPL without sub-calls, depth 1 has plain
sub-calls, from depth 2 on a sub-call may be an RLM with a REPL of its own.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import ClassVar

from rlm_eval.errors import BudgetExceeded, ConfigError, SampleFailure
from rlm_eval.ledger import Ledger
from rlm_eval.methods.agent.asker import Asker
from rlm_eval.methods.agent.code import IMPORTS, parse_reply
from rlm_eval.methods.agent.coverage import ContextCoverage
from rlm_eval.methods.agent.history import History
from rlm_eval.methods.agent.reserve import Reserve
from rlm_eval.methods.agent.trace import Trace
from rlm_eval.methods.method import Forecast, Method, Shape
from rlm_eval.methods.rlm.finish import UnclearFinalError, finish_for
from rlm_eval.methods.rlm.host import SubCalls
from rlm_eval.methods.rlm.settings import RlmSettings
from rlm_eval.methods.rlm.view import Task, View
from rlm_eval.models.door import LM, CallTags
from rlm_eval.models.protocol import Message, ModelInfo
from rlm_eval.records import Answer, Content, Outcome, Problem, Role, content_hash
from rlm_eval.repl.session import ReplSession


class Rlm(RlmSettings, Method):
    """A Recursive Language Model. In its REPL ``context`` is a str, a list of str, or a dict of
    str to str, as the problem's content is a string, documents, or documents by name."""

    roles: ClassVar[tuple[Role, ...]] = ("root", "sub")

    def prompt_name(self) -> str:
        return self.loaded_prompt.name

    def prompt_source(self) -> str:
        return self.loaded_prompt.source

    def check(self, models: Mapping[Role, ModelInfo]) -> None:
        for role in dict.fromkeys(map(self.role, range(max(1, self.max_depth)))):
            info = models.get(role, models["root"])
            if info.context_window < 2 * self.turn_tokens:
                raise ConfigError(
                    f"method.rlm: turns of {self.turn_tokens} tokens need a window of at least "
                    f"{2 * self.turn_tokens}, {info.name} has {info.context_window}: lower "
                    "method.rlm.turn_tokens"
                )

    def forecast(
        self, shape: Shape, models: Mapping[Role, ModelInfo]
    ) -> tuple[Forecast, ...] | None:
        """None: sizes don't say it. What an RLM takes follows from the code its model writes: the
        same input is answered by one search, or by a sub-call for each of its lines, and outlying
        runs are far dearer than the median (paper, observation 4). Past runs do say it."""
        return None

    def answer(self, problem: Problem, lm: LM, ledger: Ledger) -> Answer:
        task = Task(problem.question, problem.context.content, problem.max_answer_tokens)
        trace = Trace(ContextCoverage(task.text))
        trace.start(
            method="rlm",
            prompt=self.prompt_name(),
            prompt_hash=content_hash(self.prompt_source()),
            sandbox_level=self.sandbox.level,
            settings={k: v for k, v in vars(self).items() if isinstance(v, str | int | float)},
            budget=asdict(ledger.budget),
        )

        def run() -> tuple[Outcome, str | None]:
            return RlmRun(self, lm, ledger, trace, task, depth=0, parent=None).answer()

        return trace.answer(run, sandbox_level=self.sandbox.level, protocol=self.protocol)

    def close(self) -> None:
        self.sandbox.close()


@dataclass(frozen=True)
class Ran:
    """A turn's blocks: the final ``answer`` they gave, what the model is ``shown``, and whether
    one ``failed``, after which no other was run."""

    answer: str | None = None
    shown: tuple[str, ...] = ()
    failed: bool = False


class RlmRun:
    """One RLM at one depth on one task, with its own REPL and its share of the ledger."""

    def __init__(
        self,
        rlm: Rlm,
        lm: LM,
        ledger: Ledger,
        trace: Trace,
        task: Task,
        *,
        depth: int,
        parent: str | None,
    ) -> None:
        self._rlm = rlm
        self._lm = lm
        self._trace = trace
        self._task = task
        self._depth = depth
        role = rlm.role(depth)
        tags = CallTags(role, depth, parent, from_repl=depth > 0)
        self._asker = Asker(lm, trace, tags, rlm.history_share)
        self._iterations = rlm.iterations(depth, lm, ledger)
        self._enabled = replace(rlm.enabled(depth, lm), max_iterations=self._iterations)
        self._view = View(
            rlm.loaded_prompt, self._enabled, rlm.output_chars, rlm.preview_head, rlm.preview_tail
        )
        self._finish = finish_for(rlm.protocol)
        self._history = History(self._view.opening(task))
        self._reserve = Reserve(lm, role, ledger, task.max_answer_tokens)
        self._given = {"context"}
        self._last_blocks: tuple[str, ...] = ()
        self._purse = self._ledger = ledger
        if rlm.force_answer:
            shortest = self._asked(self._history.messages(lambda _: True))
            self._ledger = self._reserve.loop_ledger(shortest, rlm.turn_tokens)
        self._calls = SubCalls(
            lm,
            self._ledger,
            trace.coverage,
            trace.sub_call,
            self._run_child,
            depth=depth,
            max_tokens=rlm.sub_tokens,
            concurrency=rlm.concurrency,
        )

    def answer(self) -> tuple[Outcome, str | None]:
        """Outcome and answer text of the whole run; raises SampleFailure where there is none."""
        host = self._calls.functions(self._enabled)
        with self._rlm.sandbox.session(host, submit=self._rlm.protocol == "submit") as session:
            session.load("context", self._task.content)
            ready = session.run(f"{IMPORTS}\n{self._finish.setup}")
            self._given |= {variable.name for variable in ready.variables}
            try:
                text = self._loop(session)
            except BudgetExceeded:
                if not self._rlm.force_answer:
                    raise
                text = None
            if text is not None:
                self._trace.answered()
                return "answered", text
            return self._forced(session) if self._rlm.force_answer else ("no_answer", None)

    def _loop(self, session: ReplSession) -> str | None:
        self._note_previews()
        for number in range(1, self._iterations + 1):
            if number > 1 and self._last_chance():
                break
            text = self._turn(session, number)
            if text is not None:
                return text
        return None

    def _last_chance(self) -> bool:
        """Whether the cap leaves room for a forced turn that another turn would take."""
        if not self._reserve.tight:
            return False
        asked = self._asked(self._history.messages(self._fits))
        return self._reserve.last_chance(asked, self._rlm.turn_tokens)

    def _note_previews(self) -> None:
        for start, end in self._view.previews(self._task):
            if self._depth == 0:
                self._trace.coverage.add(start, end)
            else:
                self._trace.coverage.note(self._task.text[start:end])

    def _turn(self, session: ReplSession, number: int) -> str | None:
        """One reply: its code is run, then its prose is looked at; the final answer, if any."""
        messages = self._history.messages(self._fits)
        self._history.keep_in(session)
        reply = self._asker.ask(number, messages, self._rlm.turn_tokens, self._ledger)
        self._calls.parent = reply.call_id
        parsed = parse_reply(reply.text)
        ran = self._run_blocks(session, number, reply.call_id, parsed.blocks)
        if ran.answer is not None:
            return ran.answer
        shown = list(ran.shown)
        try:
            text = self._finish.in_reply(session, parsed.prose, failed=ran.failed)
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
            answer = self._finish.in_block(session, result)
            if answer is not None:
                return Ran(answer)
            failed = result.error is not None or result.state != "kept"
            if failed:
                break
        self._trace.coverage.note("\n\n".join(shown))
        return Ran(None, tuple(shown), failed)

    def _forced(self, session: ReplSession) -> tuple[Outcome, str | None]:
        """One last turn for an answer in plain text, always marked as forced."""

        def fits(messages: Sequence[Message]) -> bool:
            asked = self._asked(messages)
            return self._fits(asked) and self._reserve.affords(asked)

        messages = self._asked(self._history.messages(fits))
        number, tokens = self._trace.iterations + 1, self._task.max_answer_tokens
        reply = self._asker.ask(number, messages, tokens, self._purse, forced=True)
        try:
            final = self._finish.in_reply(session, parse_reply(reply.text).prose, failed=False)
        except UnclearFinalError:
            return "no_answer", None
        text = (reply.text if final is None else final).strip()
        return ("forced", text) if text else ("no_answer", None)

    def _asked(self, messages: Sequence[Message]) -> list[Message]:
        return self._view.asked(messages, "forced", question=self._task.question)

    def _fits(self, messages: Sequence[Message]) -> bool:
        return self._asker.fits(messages, self._rlm.turn_tokens)

    def _run_child(self, question: str, content: Content, parent: str | None) -> str:
        """A child RLM on ``content``, paid by what this one has left."""
        trace = self._trace.child(parent)
        ledger = self._ledger.child(scope="child")
        task = Task(question, content, self._rlm.sub_tokens)
        try:
            child = RlmRun(
                self._rlm, self._lm, ledger, trace, task, depth=self._depth + 1, parent=parent
            )
            outcome, text = child.answer()
            trace.ended(outcome, text)
        except SampleFailure as failure:
            trace.ended(failure.outcome, None, str(failure))
            raise
        finally:
            self._trace.adopt(trace)
        if text is None:
            raise SampleFailure(f"the child RLM ended without an answer ({outcome})")
        return text
