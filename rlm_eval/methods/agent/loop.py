"""The turns of an agent: code out, output in, until its answer is handed in.

An RLM (arXiv 2512.24601, Algorithm 1) and CodeAct (arXiv 2402.01030) take the same turns. They
differ in the first chat, in what the REPL holds, and in what ends a run.
"""

from __future__ import annotations

from collections.abc import Container, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any, ClassVar, Literal

from rlm_eval.errors import BudgetExceeded, ConfigError, at_least
from rlm_eval.ledger import Budget, Ledger, Spend, hold_back
from rlm_eval.methods.agent.chat import History, Parsed, parse_reply
from rlm_eval.methods.agent.subcalls import Enabled, RunChild, SubCalls
from rlm_eval.methods.agent.trace import Trace
from rlm_eval.methods.method import SUB_CALLS_A_TURN, Forecast, Method, Shape
from rlm_eval.methods.prompts import Prompted, load_prompt
from rlm_eval.methods.tools import Toolset
from rlm_eval.models.client import LM, CallTags, Completion
from rlm_eval.models.protocol import Message, ModelInfo, Usage, user
from rlm_eval.records import Content, Outcome, Problem, Role
from rlm_eval.repl.capture import cut
from rlm_eval.repl.results import BlockResult, HostFunction, Variable
from rlm_eval.repl.session import ReplSession, Sandbox

#: The most turns of a matched run, however large its cap: a model that goes round in circles would
#: spend it to the end for nothing.
MATCHED_ITERATIONS = 100
#: What weak coders forget to import; prompts mention it.
IMPORTS = "import json, math, re\nfrom collections import Counter"
#: Template and request around the last turn that a forced turn repeats.
_SLACK_TOKENS = 256
_LOST = "Its process ended between blocks. All variables but the context are gone."


class UnclearFinalError(ValueError):
    """A final answer that can be read in more than one way. The message is for the model."""


@dataclass
class Agent(Prompted, Method):
    """A method whose model writes code in turns. Settings: conf/method/rlm.yaml. The code of one
    answer makes at most ``max_sub_calls``, with all that child RLMs ask."""

    #: The folder of its prompts in conf/prompt/.
    prompt_folder: ClassVar[str]
    #: How a run ends (:data:`rlm_eval.methods.rlm.Protocol`).
    protocol = "submit"
    #: Whether a turn may be the answer itself, which it then has room for.
    answers_in_words: ClassVar[bool] = False

    sandbox: Sandbox
    prompt: str = ""
    max_iterations: int = 8
    turn_tokens: int = 384
    sub_tokens: int = 64
    max_sub_calls: int | Literal["auto"] | None = "auto"
    output_chars: int = 2000
    concurrency: int = 64
    force_answer: bool = True
    matched: bool = False
    tools: list[Any] = field(default_factory=list)
    piece_tokens: int = 128

    def __post_init__(self) -> None:
        names = ("max_iterations", "turn_tokens", "sub_tokens", "output_chars", "concurrency")
        at_least(1, **{name: getattr(self, name) for name in names})
        at_least(8, piece_tokens=self.piece_tokens)
        self.toolset = Toolset(self.tools, self.piece_tokens)
        #: Name → what the prompt says of it; a trajectory has them among the settings.
        self.tool_texts = self.toolset.texts
        if isinstance(self.max_sub_calls, int):
            at_least(1, max_sub_calls=self.max_sub_calls)
        self.loaded_prompt = load_prompt(self.prompt_folder, self.prompt)

    def powers(self, depth: int) -> tuple[bool, bool, bool]:
        """Whether an agent at ``depth`` has sub-calls, batches of them, and child RLMs."""
        raise NotImplementedError

    def enabled(self, turns: int, sub_window: int, depth: int = 0) -> Enabled:
        """What its prompt speaks of; its sub-calls' model has a window of ``sub_window``."""
        return Enabled(
            *(self.protocol, turns, *self.powers(depth)),
            sub_window=sub_window,
            sub_tokens=self.sub_tokens,
            budget="budget()" in self.loaded_prompt.source,
            tools=self.tool_texts,
        )

    def check(self, models: Mapping[Role, ModelInfo]) -> None:
        blanks: dict[str, dict[str, Any]] = {  # for what its templates are filled with
            "observation": observed(BlockResult(variables=(Variable("x", "int", ""),)), 1, ()),
            "no_code": {"unknown": (), "cut_off": False},
            "repeated": {},
            "forced": {"question": ""},
            **({"unclear": {"reason": ""}} if self.protocol == "paper" else {}),
        }
        enabled = asdict(self.enabled(self.max_iterations, 0))
        for key, values in blanks.items():
            self.loaded_prompt.text(key, **enabled, **values)
        sub = models.get("sub", models["root"])
        if "sub" in self.roles and self.sub_tokens >= sub.context_window:
            told = f"leaves no room for a prompt in {sub.name}'s window of {sub.context_window}"
            raise ConfigError(f"{told}: lower it", key="sub_tokens")

    def most_turns(self, ledger: Ledger) -> int:
        """The most turns that ``ledger`` pays; where ``matched`` leaves the end to the sample's
        cap on tokens or dollars, so many that no sensible run has them."""
        capped = self.spends_up_to_cap(ledger)
        return max(self.max_iterations, MATCHED_ITERATIONS) if capped else self.max_iterations

    def most_sub_calls(self) -> int | None:
        """The most calls that the code of one answer may make; None where nothing limits them:
        ``auto`` leaves a matched run's to its cap."""
        if self.max_sub_calls != "auto":
            return self.max_sub_calls
        return None if self.matched else self.max_iterations * SUB_CALLS_A_TURN

    def turns_limit(self, shape: Shape, window: float) -> Forecast:
        """All turns of the root, the forced one too, each with a full ``window``."""
        calls = self.max_iterations + self.force_answer
        reply = max(self.turn_tokens, shape.max_answer_tokens)
        return Forecast(calls, calls * int(window), calls * reply)

    def sub_calls_limit(
        self, models: Mapping[Role, ModelInfo], depth: int = 1, role: Role = "sub"
    ) -> Forecast:
        """All calls of the code, to ``depth`` levels, each with a full window of ``role``."""
        limit = self.most_sub_calls()
        calls = (self.max_iterations * SUB_CALLS_A_TURN) ** depth if limit is None else limit
        reply = self.sub_tokens if depth == 1 else max(self.turn_tokens, self.sub_tokens)
        window = models.get(role, models["root"]).context_window
        return Forecast(calls, calls * window, calls * reply, role, assumed=limit is None)

    def in_block(self, session: ReplSession, block: BlockResult) -> str | None:
        """The final answer that a block of code handed in."""
        return block.submitted

    def in_reply(
        self, session: ReplSession, reply: Completion, parsed: Parsed, *, failed: bool
    ) -> str | None:
        """The final answer in a reply whose code has run; ``failed``: some of it did. Raises
        UnclearFinalError, which the model is shown by the template ``unclear``."""
        return None

    def close(self) -> None:
        self.sandbox.close()


@dataclass
class Run:
    """One agent at work on one problem, with its own REPL and its share of the ledger.

    ``opening`` is the chat before its first turn, which tells of what is ``enabled``. The
    ``role``'s model takes the turns; chats and replies fill at most ``window_share`` of its window.
    Beside the sub-calls, its REPL begins with ``tools``, ``context`` and what the code ``setup``
    defines. ``run_child`` starts a child RLM.
    """

    agent: Agent
    problem: Problem
    lm: LM
    ledger: Ledger
    trace: Trace
    enabled: Enabled
    opening: Sequence[Message]
    role: Role = "root"
    window_share: float = 1.0
    tools: Mapping[str, HostFunction] = field(default_factory=dict)
    context: Content | None = None
    setup: str = ""
    run_child: RunChild | None = None

    def __post_init__(self) -> None:
        #: Pays for all that comes before a forced turn, which ``ledger`` pays; and, of that, for
        #: what the code asks.
        self.loop_ledger = self.code_ledger = self.ledger
        self.answer_tokens = self.problem.max_answer_tokens
        self._history = History(self.opening)

    def answer(self) -> tuple[Outcome, str | None]:
        """Outcome and answer text; raises SampleFailure where there is none."""
        agent = self.agent
        if agent.force_answer:
            self.loop_ledger = self._hold_back()
        limit = Budget(calls=agent.most_sub_calls())
        self.code_ledger = self.loop_ledger.child(limit, scope="REPL")
        sizes = agent.sub_tokens, agent.concurrency
        calls = SubCalls(self.lm, self.code_ledger, self.trace, *sizes, self.run_child)
        host = {**calls.functions(self.enabled), **self.tools}
        submit = self.enabled.protocol == "submit"
        with agent.sandbox.session(host, submit=submit) as session:
            if self.context is not None:
                session.load("context", self.context)
            try:
                text = self._turns(session, calls)
            except BudgetExceeded:
                if not agent.force_answer:
                    raise
                text = None
            if text is not None:
                return "answered", text
            return self._forced(session, calls) if agent.force_answer else ("no_answer", None)

    def _turns(self, session: ReplSession, calls: SubCalls) -> str | None:
        """The answer that is handed in; None at the limit of turns."""
        agent, setup = self.agent, f"{IMPORTS}\n{self.setup}"
        given = {variable.name for variable in session.run(setup).variables}
        last_blocks: tuple[str, ...] = ()
        lost = False
        for number in range(1, self.enabled.max_iterations + 1):
            if number > 1 and self._must_end():
                break
            messages = self._history.messages(self._fits)
            if self._history.keep_in(session, lost=lost):  # a worker that died since the last block
                session.run(setup)
                self._history.keep_in(session, lost=True)
                messages = [*messages[:-1], user(f"{messages[-1]['content']}\n\n{_LOST}")]
            room = self._room(messages) if agent.answers_in_words else agent.turn_tokens
            reply, parsed = self._ask(number, messages, room, self.loop_ledger)
            calls.turn = reply.call_id
            shown: list[str] = []
            failed = lost = False
            for code in parsed.blocks:
                text, result, told = self._ran(session, reply, code, given)
                shown.append(told)
                if text is not None:
                    return text
                if lost := result.state == "lost":
                    session.run(setup)
                if failed := lost or result.error is not None:
                    if len(shown) < len(parsed.blocks):
                        shown.append("[The blocks after it were not run.]")
                    break
            self.trace.texts.append("\n\n".join(shown))
            try:
                text = agent.in_reply(session, reply, parsed, failed=failed)
                if text is not None:
                    return text
                cut_off = reply.finish_reason == "length"
                if not parsed.blocks or (cut_off and failed and not parsed.prose[-1].strip()):
                    shown.append(self._text("no_code", unknown=parsed.unknown, cut_off=cut_off))
            except UnclearFinalError as unclear:
                shown.append(self._text("unclear", reason=str(unclear)))
            if session.lost:
                lost = True
                session.run(setup)
                shown.append(_LOST)
            if parsed.blocks and parsed.blocks == last_blocks:
                shown.append(self._text("repeated"))
            last_blocks = parsed.blocks or last_blocks
            if reply.no_reply:
                shown.insert(0, f"[No reply came: {reply.no_reply}.]")
            self._history.add(reply.text, "\n\n".join(shown))
        return None

    def _forced(self, session: ReplSession, calls: SubCalls) -> tuple[Outcome, str | None]:
        """One last turn for an answer in plain text, or by code as ever, marked as forced."""

        def fits(messages: Sequence[Message]) -> bool:
            asked = self._asked(messages)
            return self._fits(asked, self.answer_tokens) and (
                not self.ledger.counts_tokens
                or self.ledger.affords(self._spend(self._tokens(asked), self.answer_tokens))
            )

        asked = self._asked(self._history.messages(fits))
        room = self.lm.info(self.role).context_window - self._tokens(asked)
        most = max(1, min(self.answer_tokens, room))
        reply, parsed = self._ask(self.trace.iterations + 1, asked, most, self.ledger, forced=True)
        final, calls.turn = None, reply.call_id
        try:
            self._history.keep_in(session, lost=False)
            for code in parsed.blocks:
                final, result, _ = self._ran(session, reply, code, ())
                if final is not None or result.error is not None:
                    break
            # What it says in words counts though its code failed: it is asked no more.
            final = final or self.agent.in_reply(session, reply, parsed, failed=False)
        except UnclearFinalError:
            return "no_answer", None
        text = (reply.text if final is None else final).strip()
        return ("forced", text) if text else ("no_answer", None)

    def _ran(
        self, session: ReplSession, reply: Completion, code: str, given: Container[str]
    ) -> tuple[str | None, BlockResult, str]:
        """A block of a reply: what it hands in, what came of it, and what the model is shown."""
        try:
            result = session.run(code)
        except BudgetExceeded as spent:  # by a loop that took no notice of refusals
            result = BlockResult(error=str(spent), error_type=type(spent).__name__)
        text = self.agent.in_block(session, result)
        if session.lost:
            result = replace(result, state="lost", error=_LOST)
        told = self._text("observation", **observed(result, self.agent.output_chars, given))
        self.trace.block(self.trace.iterations, reply.call_id, code, told, result)
        return text, result, told

    def _ask(
        self, number: int, messages: Sequence[Message], tokens: int, ledger: Ledger, **more: bool
    ) -> tuple[Completion, Parsed]:
        """Turn ``number``, paid by ``ledger``: the reply, and what is in it."""
        trace = self.trace
        tags = CallTags(self.role, trace.depth, trace.parent, from_repl=trace.depth > 0)
        reply = self.lm.complete(messages, ledger=ledger, max_tokens=tokens, tags=tags)
        trace.turn(number, reply, messages, budget_left=ledger.remaining(), **more)
        return reply, parse_reply(reply.text)

    # -- what the model is shown -----------------------------------------------------------------

    def _asked(self, messages: Sequence[Message]) -> list[Message]:
        """The chat with the request for a forced answer at its end."""
        request = self._text("forced", question=self.problem.question)
        return [*messages[:-1], user(f"{messages[-1]['content']}\n\n{request}")]

    def _text(self, key: str, **values: Any) -> str:
        return self.agent.loaded_prompt.text(key, **asdict(self.enabled), **values)

    # -- what there is room for ------------------------------------------------------------------

    def _fits(self, messages: Sequence[Message], reply_tokens: int = 0) -> bool:
        """Whether the window holds a chat and a turn's reply, or one of ``reply_tokens`` if that is
        more. A token is at least one byte, so most chats need no counting."""
        reply_tokens = max(self.agent.turn_tokens, reply_tokens)
        room = self.lm.info(self.role).context_window * self.window_share - reply_tokens
        size = sum([len(m["content"].encode("utf-8", "replace")) + 8 for m in messages])
        return size <= room or self._tokens(messages) <= room

    def _room(self, messages: Sequence[Message]) -> int:
        """Tokens of a turn's reply that may be the answer: up to those of an answer, as far as the
        window and the cap have them."""
        least = self.agent.turn_tokens
        if self.answer_tokens <= least:
            return least
        size, window = self._tokens(messages), self.lm.info(self.role).context_window
        most = max(least, min(self.answer_tokens, int(window * self.window_share) - size))
        return most if self.loop_ledger.affords(self._spend(size, most)) else least

    def _hold_back(self) -> Ledger:
        """Who pays for the turns and for what their code asks: the ledger less one forced turn in
        its shortest chat, with the last turn in it, so that a forced answer is never priced out.
        A cap on seconds holds nothing back."""
        tokens = 0
        if self.ledger.counts_tokens:
            shortest = self._tokens(self._asked(self.opening))
            tokens = shortest + self.agent.turn_tokens + _SLACK_TOKENS
        return hold_back(self.ledger, self._spend(tokens, self.answer_tokens))

    def _must_end(self) -> bool:
        """Whether the cap, too small for a forced turn to be held back, leaves room for one now
        that another turn would take."""
        ledger, turn_tokens = self.ledger, self.agent.turn_tokens
        held = self.loop_ledger is not ledger
        if held or not self.agent.force_answer or not ledger.budget.bounds_what_is_bought:
            return False
        tokens = self._tokens(self._asked(self._history.messages(self._fits)))
        now = self._spend(tokens, self.answer_tokens)
        later = self._spend(tokens + turn_tokens + _SLACK_TOKENS, self.answer_tokens)
        turn = self._spend(tokens, turn_tokens)
        return ledger.affords(now) and not ledger.affords(turn + later)

    def _tokens(self, messages: Sequence[Message]) -> int:
        return self.lm.prompt_tokens(messages, self.role)

    def _spend(self, prompt_tokens: int, reply_tokens: int) -> Spend:
        """What one turn takes at most."""
        info = self.lm.info(self.role)
        return info.worst(Usage(prompt_tokens, reply_tokens + info.reasoning_tokens))


def observed(result: BlockResult, chars: int, given: Container[str]) -> dict[str, Any]:
    """What the template ``observation`` is filled with: a block's output, of ``chars`` characters
    at most, with its full length; its error; the variables there are, less those ``given``."""
    output = result.stdout + (result.value or "")
    if result.stderr:
        output += f"\n[stderr]\n{result.stderr}"
    output = output.strip()
    return {
        "output": cut(output, chars),
        "output_chars": result.stdout_chars + result.stderr_chars + result.value_chars,
        "truncated": len(output) > chars or result.stdout_chars > len(result.stdout),
        "error": result.error,
        "interrupted": result.interrupted,
        "state": result.state,
        "variables": [v for v in result.variables if v.name not in given],
    }
