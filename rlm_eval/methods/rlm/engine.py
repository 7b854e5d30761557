"""The loop of one RLM: metadata in, code out, output in, until the answer is set.

Paper: arXiv 2512.24601, Algorithm 1. Depth 0 is a REPL without sub-calls, depth 1 has plain
sub-calls, from depth 2 on a sub-call may be an RLM with a REPL of its own.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

from rlm_eval.errors import BudgetExceeded, ConfigError, SampleFailure
from rlm_eval.ledger import Ledger
from rlm_eval.methods.method import Method, at_least
from rlm_eval.methods.prompts import Prompt, load_prompt
from rlm_eval.methods.rlm.code import parse_reply
from rlm_eval.methods.rlm.finish import FinishName, finish_for
from rlm_eval.methods.rlm.history import History
from rlm_eval.methods.rlm.host import SubCalls
from rlm_eval.methods.rlm.trace import Trace
from rlm_eval.models.door import LM, CallTags, Completion
from rlm_eval.models.protocol import Message, ModelInfo, user
from rlm_eval.records import Answer, Content, Context, Outcome, Problem, Role
from rlm_eval.repl.capture import cut
from rlm_eval.repl.results import BlockResult
from rlm_eval.repl.session import ReplSession, Sandbox

#: What weak coders forget to import; prompts say so.
_IMPORTS = "import json, math, re\nfrom collections import Counter"


@dataclass
class Rlm(Method):
    """A Recursive Language Model.

    ``max_depth`` levels of sub-calls, ``max_iterations`` root turns of at most ``turn_tokens``
    each. ``output_chars`` of a block's output are shown (head and tail, the full length always
    stated), ``preview_head`` and ``preview_tail`` characters of the context are shown at the
    start. A sub-call answers in at most ``sub_tokens``; a batch runs ``concurrency`` at once.
    ``history_share`` of the window is the most a turn's prompt fills. With ``force_answer`` a
    run at its limit is asked once for an answer in plain text, which is marked ``forced``.
    """

    sandbox: Sandbox
    prompt: str = "compact"
    protocol: FinishName = "submit"
    max_depth: int = 1
    max_iterations: int = 12
    turn_tokens: int = 512
    sub_tokens: int = 256
    output_chars: int = 2000
    preview_head: int = 500
    preview_tail: int = 100
    batch: bool = True
    concurrency: int = 64
    history_share: float = 0.8
    force_answer: bool = True

    roles: ClassVar[tuple[Role, ...]] = ("root", "sub")

    def __post_init__(self) -> None:
        at_least(0, **{"method.rlm.max_depth": self.max_depth})
        at_least(0, preview_head=self.preview_head, preview_tail=self.preview_tail)
        at_least(
            1,
            **{
                "method.rlm.max_iterations": self.max_iterations,
                "method.rlm.turn_tokens": self.turn_tokens,
                "method.rlm.sub_tokens": self.sub_tokens,
                "method.rlm.output_chars": self.output_chars,
                "method.rlm.concurrency": self.concurrency,
            },
        )
        if not 0.1 <= self.history_share <= 1:
            raise ConfigError("method.rlm.history_share is a share of the window: 0.1 to 1")
        self.loaded_prompt: Prompt = load_prompt("rlm", self.prompt)

    def prompt_name(self) -> str:
        return self.loaded_prompt.name

    def prompt_source(self) -> str:
        return self.loaded_prompt.source

    def check(self, models: Mapping[Role, ModelInfo]) -> None:
        window = models["root"].context_window
        if window < 2 * self.turn_tokens:
            raise ConfigError(
                f"method.rlm: turns of {self.turn_tokens} tokens need a window of at least "
                f"{2 * self.turn_tokens}, the model has {window}: lower method.rlm.turn_tokens"
            )

    def answer(self, problem: Problem, lm: LM, ledger: Ledger) -> Answer:
        trace = Trace(problem.context.text)
        run = RlmRun(self, lm, ledger, trace, depth=0, parent=None)
        try:
            (outcome, text), error = run.answer(problem), ""
        except SampleFailure as failure:
            outcome, text, error = failure.outcome, None, str(failure)
        return Answer(
            text=text,
            outcome=outcome,
            iterations=trace.iterations,
            code_errors=trace.code_errors,
            context_chars_read_by_lm=trace.coverage.chars(),
            last_subcall_used=trace.last_subcall_used,
            sandbox_s=trace.sandbox_s,
            sandbox_level=self.sandbox.level,
            protocol=self.protocol,
            error=error,
            trajectory=tuple(trace.events),
        )

    def close(self) -> None:
        self.sandbox.close()


class RlmRun:
    """One RLM at one depth, with its own REPL and its share of the ledger."""

    def __init__(
        self, rlm: Rlm, lm: LM, ledger: Ledger, trace: Trace, *, depth: int, parent: str | None
    ) -> None:
        self._rlm = rlm
        self._lm = lm
        self._ledger = ledger
        self._trace = trace
        self._depth = depth
        self._parent = parent
        self._sub_calls = depth < rlm.max_depth
        self._recursive = depth + 1 < rlm.max_depth
        self._calls = SubCalls(
            lm,
            ledger,
            trace.coverage,
            trace.sub_call,
            depth=depth,
            max_tokens=rlm.sub_tokens,
            concurrency=rlm.concurrency,
        )
        self._finish = finish_for(rlm.protocol)

    def answer(self, problem: Problem) -> tuple[Outcome, str | None]:
        """Outcome and answer text of the whole run; raises SampleFailure where there is none."""
        host = self._calls.functions(
            sub_calls=self._sub_calls,
            batch=self._rlm.batch,
            run_child=self._run_child if self._recursive else None,
        )
        submit = self._rlm.protocol == "submit"
        with self._rlm.sandbox.session(host, submit=submit) as session:
            session.load("context", problem.context.content)
            session.run(f"{_IMPORTS}\n{self._finish.setup}")
            history = History(self._opening(problem))
            try:
                text = self._loop(session, history)
            except BudgetExceeded as spent:
                return self._forced(history, problem, spent)
        if text is not None:
            return "answered", text
        return self._forced(history, problem, None)

    def _loop(self, session: ReplSession, history: History) -> str | None:
        last_code = ""
        for number in range(1, self._rlm.max_iterations + 1):
            reply = self._ask(history.messages(self._fits), self._rlm.turn_tokens)
            self._trace.turn(self._depth, number, reply)
            self._calls.parent = reply.call_id
            parsed = parse_reply(reply.text)
            code = "\n\n".join(parsed.blocks)
            if not code:
                history.add(reply.text, self._text("no_code", unknown=parsed.unknown))
                continue
            text, observation = self._run_blocks(session, number, parsed.blocks)
            if text is not None:
                return text
            if code == last_code:
                observation += "\n\n" + self._text("repeated")
            last_code = code
            history.add(reply.text, observation)
        return None

    def _run_blocks(
        self, session: ReplSession, number: int, blocks: Sequence[str]
    ) -> tuple[str | None, str]:
        """Run a turn's blocks up to the first error; (final answer, what the model is shown)."""
        shown: list[str] = []
        for code in blocks:
            result = session.run(code)
            observation = self._observation(result)
            self._trace.block(self._depth, number, code, observation, result)
            shown.append(observation)
            text = self._finish.answer(session, result)
            if text is not None:
                if self._trace.last_subcall_used is False:
                    self._trace.last_subcall_used = True
                return text, ""
            if result.error is not None or result.state != "kept":
                break
        observation = "\n\n".join(shown)
        self._trace.coverage.note(observation)
        return None, observation

    def _observation(self, result: BlockResult) -> str:
        output = result.stdout
        if result.value is not None:
            output += result.value
        if result.stderr:
            output += f"\n[stderr]\n{result.stderr}"
        limit = self._rlm.output_chars
        return self._text(
            "observation",
            output=cut(output.strip(), limit),
            output_chars=result.stdout_chars + result.stderr_chars,
            truncated=len(output.strip()) > limit or result.stdout_chars > len(result.stdout),
            error=result.error,
            interrupted=result.interrupted,
            state=result.state,
            variables=[v for v in result.variables if v.name != "context"],
        )

    def _opening(self, problem: Problem) -> list[Message]:
        context = problem.context
        text = context.text if isinstance(context.content, tuple) else context.content
        head = text[: self._rlm.preview_head]
        rest = len(text) - len(head)
        tail = text[max(len(head), len(text) - self._rlm.preview_tail) :] if rest > 0 else ""
        messages = self._rlm.loaded_prompt.messages(
            **self._enabled(),
            question=problem.question,
            kind="str" if isinstance(context.content, str) else "list of str",
            items=None if isinstance(context.content, str) else len(context.content),
            lines=text.count("\n") + 1,
            chars=len(text),
            head=head,
            tail=tail if self._rlm.preview_tail else "",
        )
        self._trace.coverage.note(messages[-1]["content"])
        return messages

    def _enabled(self) -> dict[str, Any]:
        """What a prompt may speak of."""
        return {
            "sub_calls": self._sub_calls,
            "batch": self._sub_calls and self._rlm.batch,
            "recursive": self._recursive,
            "protocol": self._rlm.protocol,
            "max_iterations": self._rlm.max_iterations,
        }

    def _text(self, key: str, **values: Any) -> str:
        return self._rlm.loaded_prompt.text(key, **self._enabled(), **values)

    def _ask(self, messages: Sequence[Message], max_tokens: int) -> Completion:
        tags = CallTags("root", self._depth, self._parent, from_repl=self._depth > 0)
        return self._lm.complete(messages, ledger=self._ledger, max_tokens=max_tokens, tags=tags)

    def _fits(self, messages: Sequence[Message]) -> bool:
        room = self._lm.info().context_window * self._rlm.history_share - self._rlm.turn_tokens
        size = sum(len(m["content"].encode("utf-8", "replace")) + 8 for m in messages)
        return size <= room or self._lm.prompt_tokens(messages) <= room

    def _forced(
        self, history: History, problem: Problem, failure: BudgetExceeded | None
    ) -> tuple[Outcome, str | None]:
        """One last turn for an answer in plain text, always marked as forced."""
        if not self._rlm.force_answer:
            if failure is not None:
                raise failure
            return "no_answer", None
        messages = history.messages(self._fits)
        asked = self._text("forced", question=problem.question)
        messages[-1] = user(f"{messages[-1]['content']}\n\n{asked}")
        try:
            reply = self._ask(messages, problem.max_answer_tokens)
        except BudgetExceeded as spent:
            raise failure or spent from spent
        self._trace.turn(self._depth, self._trace.iterations + 1, reply)
        if not reply.text.strip():
            return "no_answer", None
        return "forced", reply.text.strip()

    def _run_child(self, question: str, content: Content, parent: str | None) -> str:
        """A child RLM on ``content``, paid by what this one has left."""
        child = RlmRun(
            self._rlm,
            self._lm,
            self._ledger.child(scope="child"),
            self._trace,
            depth=self._depth + 1,
            parent=parent,
        )
        context = Context.of(content)
        problem = Problem("child", question, context, max_answer_tokens=self._rlm.sub_tokens)
        outcome, text = child.answer(problem)
        if text is None:
            raise SampleFailure(f"the child RLM ended without an answer ({outcome})")
        self._trace.events.append(
            {"type": "answer", "depth": self._depth + 1, "outcome": outcome, "text": text}
        )
        return text
