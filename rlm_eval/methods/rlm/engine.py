"""The method, and one RLM's run: metadata in, code out, output in, until the answer is set.

Paper: arXiv 2512.24601, Algorithm 1; its turns are methods/agent/loop.py. Depth 0 is a REPL
without sub-calls, depth 1 has plain sub-calls, from depth 2 on a sub-call may be an RLM with a REPL
of its own.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from rlm_eval.errors import ConfigError, SampleFailure
from rlm_eval.ledger import Ledger
from rlm_eval.methods.agent.coverage import ContextCoverage
from rlm_eval.methods.agent.loop import Brief, Loop
from rlm_eval.methods.agent.subcalls import SubCalls
from rlm_eval.methods.agent.trace import Trace
from rlm_eval.methods.fitting import offline_tokens
from rlm_eval.methods.method import Forecast, Method, Shape
from rlm_eval.methods.rlm.children import Children
from rlm_eval.methods.rlm.finish import finish_for
from rlm_eval.methods.rlm.settings import RlmSettings
from rlm_eval.methods.rlm.task import Task
from rlm_eval.models.client import LM, CallTags
from rlm_eval.models.protocol import ModelInfo
from rlm_eval.records import Answer, Content, Outcome, Problem, Role


class Rlm(RlmSettings, Method):
    """A Recursive Language Model. In its REPL ``context`` is a str, a list of str, or a dict of
    str to str, as the problem's content is a string, documents, or documents by name."""

    roles: tuple[Role, ...] = ("root", "sub")

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.max_depth == 0:
            self.roles = ("root",)

    def prompt_name(self) -> str:
        return self.loaded_prompt.name

    def prompt_source(self) -> str:
        return self.loaded_prompt.source

    def check(self, models: Mapping[Role, ModelInfo]) -> None:
        nothing = Task("", "", 0).opening(self.loaded_prompt, self.enabled(0, 0), 0, 0)
        frame = offline_tokens(nothing)
        for role in dict.fromkeys(map(self.role, range(max(1, self.max_depth)))):
            info = models.get(role, models["root"])
            if info.context_window < frame + 2 * self.turn_tokens:
                raise ConfigError(
                    f"method.rlm: the prompt without its task takes {frame} tokens and two turns "
                    f"{2 * self.turn_tokens}, {info.name} has a window of {info.context_window}: "
                    "lower method.rlm.turn_tokens"
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
        trace.start("rlm", self, self.sandbox.level, ledger)

        def run() -> tuple[Outcome, str | None]:
            return RlmRun(self, lm, ledger, trace, task, depth=0, parent=None).answer()

        return trace.answer(run, sandbox_level=self.sandbox.level, protocol=self.protocol)

    def close(self) -> None:
        self.sandbox.close()


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
        self._shown = rlm.preview_head, rlm.preview_tail
        turns = rlm.iterations(depth, lm, ledger)
        self._enabled = replace(
            rlm.enabled(depth, lm.info("sub").context_window), max_iterations=turns
        )
        brief = Brief(
            task.opening(rlm.loaded_prompt, self._enabled, *self._shown),
            self._enabled,
            task.question,
            task.max_answer_tokens,
            forced_room=rlm.turn_tokens,
        )
        self._loop = Loop(
            rlm,
            brief,
            finish_for(rlm.protocol),
            lm,
            ledger,
            trace,
            tags=CallTags(rlm.role(depth), depth, parent, from_repl=depth > 0),
            share=rlm.history_share,
            note=trace.coverage.note,
        )
        self._calls = SubCalls(
            lm,
            self._loop.ledger,
            trace.coverage,
            trace.sub_call,
            depth=depth,
            max_tokens=rlm.sub_tokens,
            concurrency=rlm.concurrency,
        )
        self._children = Children(self._run_child, self._calls, rlm.concurrency)

    def answer(self) -> tuple[Outcome, str | None]:
        """Outcome and answer text of the whole run; raises SampleFailure where there is none."""
        calls, children = self._calls, self._children
        host = {**calls.functions(self._enabled), **children.functions(self._enabled)}
        with self._rlm.sandbox.session(host, submit=self._rlm.protocol == "submit") as session:
            session.load("context", self._task.content)
            self._note_previews()
            return self._loop.run(session, calls)

    def _note_previews(self) -> None:
        for start, end in self._task.previews(*self._shown):
            if self._depth == 0:
                self._trace.coverage.add(start, end)
            else:
                self._trace.coverage.note(self._task.text[start:end])

    def _run_child(self, question: str, content: Content, parent: str | None) -> str:
        """A child RLM on ``content``, paid by what this one has left."""
        trace = self._trace.child(parent)
        ledger = self._loop.ledger.child(scope="child")
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
