"""The Recursive Language Model (Zhang et al., arXiv 2512.24601, Algorithm 1): metadata of the
context go in, code comes out, its output goes in, until the answer is set.

Depth 0 is a REPL without sub-calls, depth 1 has plain sub-calls, from depth 2 on a sub-call may be
an RLM with a REPL of its own. Only the structured channel of its protocol ends a run.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from operator import itemgetter
from typing import Any, ClassVar, Literal

from rlm_eval.errors import ConfigError, SampleFailure, at_least
from rlm_eval.ledger import Ledger
from rlm_eval.methods.agent.chat import Parsed
from rlm_eval.methods.agent.loop import Agent, Run
from rlm_eval.methods.agent.paper_final import read_final
from rlm_eval.methods.agent.subcalls import Enabled
from rlm_eval.methods.agent.trace import Trace
from rlm_eval.methods.fitting import offline_tokens
from rlm_eval.methods.method import Bounds, Forecast, Shape
from rlm_eval.methods.prompts import Prompt
from rlm_eval.models.client import LM, Completion
from rlm_eval.models.protocol import Message, ModelInfo
from rlm_eval.records import Answer, Content, Context, Outcome, Problem, Role, documents_of
from rlm_eval.repl.capture import ADDRESS
from rlm_eval.repl.results import BlockResult
from rlm_eval.repl.session import ReplSession

#: How a run ends. ``submit``: a block calls ``submit(answer)``. ``final_variable``: the variable
#: ``Final`` is set (paper, Algorithm 1). ``answer_dict``: ``answer["ready"]`` is true (the present
#: form of the reference implementation). ``paper``: ``FINAL(text)`` or ``FINAL_VAR(name)`` in the
#: reply, outside code (paper, appendix C).
Protocol = Literal["submit", "final_variable", "answer_dict", "paper"]

#: What the REPL of a protocol holds from the start. In code FINAL and FINAL_VAR end nothing.
_SETUP: Mapping[Protocol, str] = {
    "answer_dict": 'answer = {"content": "", "ready": False}',
    "paper": (
        "def FINAL(*_):\n"
        "    print('FINAL and FINAL_VAR count only in your reply, outside code.')\n"
        "FINAL_VAR = FINAL"
    ),
}
#: How ``answer["ready"]`` reads where it is false, or a text that says so.
_NOT_READY = (None, "", "false", "False", "0", "0.0", "[]", "{}", "()", "set()")
#: Of a dict's names, how many are shown, and how many characters of one.
_NAMES_SHOWN, _NAME_CHARS = 20, 80
#: A field at a line's start or after a separator: a short name, a colon, a space.
_FIELD = re.compile(r"(?:^|(\s{0,3}(?:\|\|?|;|\t|,)\s{0,3}))([A-Z][\w-]{0,20}): ")
_LINES_READ = 400
#: A line's form counts as the text's when at least this share of the lines has it.
_SHARE = 0.7


@dataclass
class Rlm(Agent):
    """A Recursive Language Model (arXiv 2512.24601). In its REPL ``context`` is a str, a list of
    str, or a dict of str to str, as the problem's content is a string, documents, or documents by
    name. Settings: conf/method/rlm.yaml."""

    prompt_folder: ClassVar[str] = "rlm"

    prompt: str = "compact"
    protocol: Protocol = "submit"
    max_depth: int = 1
    preview_head: int = 500
    preview_tail: int = 100
    batch: bool = True
    history_share: float = 0.8
    child_model: Literal["root", "sub"] = "sub"

    def __post_init__(self) -> None:
        super().__post_init__()
        at_least(0, max_depth=self.max_depth)
        at_least(0, preview_head=self.preview_head, preview_tail=self.preview_tail)
        at_least(0.1, up_to=1, history_share=self.history_share)
        if self.max_depth > 1 and "rlm_query" not in self.loaded_prompt.source:
            told = f"must be 0 or 1: the prompt {self.prompt} does not speak of rlm_query"
            raise ConfigError(told, key="max_depth")
        self.roles: tuple[Role, ...] = ("root", "sub") if self.max_depth else ("root",)

    def powers(self, depth: int) -> tuple[bool, bool, bool]:
        asks = depth < self.max_depth
        return asks, asks and self.batch, depth + 1 < self.max_depth

    def check(self, models: Mapping[Role, ModelInfo]) -> None:
        super().check(models)
        frame = self._frame_tokens()
        roles: tuple[Role, ...] = ("root", self.child_model) if self.max_depth > 1 else ("root",)
        for role in roles:
            info = models.get(role, models["root"])
            if info.context_window < frame + 2 * self.turn_tokens:
                raise ConfigError(
                    f"must be lower than {self.turn_tokens}: two turns and the prompt without its "
                    f"task, {frame} tokens, must fit {info.name}'s window of {info.context_window}",
                    key="turn_tokens",
                )
            room = int(info.context_window * self.history_share)
            if room < frame + self.turn_tokens:
                raise ConfigError(
                    f"leaves {room} tokens of {info.name}'s window, and the prompt without its "
                    f"task has {frame}, a turn {self.turn_tokens}",
                    key="history_share",
                )

    def bounds(self, shape: Shape, models: Mapping[Role, ModelInfo]) -> Bounds:
        """Sizes don't tell: the same input is answered by one search, or by a sub-call for each of
        its lines, and outlying runs are far dearer than the median (paper, observation 4)."""
        frame = self._frame_tokens()
        most = [self.turns_limit(shape, models["root"].context_window * self.history_share)]
        # A child's turns may be dearer than what its code asks, so each has all of the calls.
        asked: set[Role] = {"sub", self.child_model} if self.max_depth > 1 else {"sub"}
        for role in sorted(asked) if self.max_depth else ():
            most.append(self.sub_calls_limit(models, self.max_depth, role))
        return (Forecast(1, frame + shape.question_tokens, 1),), tuple(most)

    def _frame_tokens(self) -> int:
        """Offline tokens of the chat before the first turn, without context and question."""
        enabled = self.enabled(self.max_iterations, 0)
        return offline_tokens(opening(self.loaded_prompt, enabled, "", "", "", ""))

    def most_sub_calls(self) -> int | None:
        """``auto`` is no limit for the paper's prompts and protocol, which have none."""
        papers = self.protocol == "paper" or self.prompt.startswith("paper_")
        return None if papers and self.max_sub_calls == "auto" else super().most_sub_calls()

    def answer(self, problem: Problem, lm: LM, ledger: Ledger) -> Answer:
        trace = Trace(problem.watch)
        trace.start("rlm", self, self.sandbox.level, ledger)
        return trace.answer(lambda: self._run(problem, lm, ledger, trace), protocol=self.protocol)

    def _run(
        self, problem: Problem, lm: LM, ledger: Ledger, trace: Trace
    ) -> tuple[Outcome, str | None]:
        """One RLM at the depth of ``trace``; what it has left pays for its children."""
        question, content = problem.question, problem.context.content
        text = "\n".join(documents_of(content))  # what can be found in it: no headings of ours
        head = text[: self.preview_head]
        tail = text[max(len(head), len(text) - self.preview_tail) :]
        # Of matched budgets: children, which a root may begin as often as the cap allows, have
        # max_iterations as ever.
        turns = self.max_iterations if trace.depth else self.most_turns(ledger)
        enabled = self.enabled(turns, lm.info("sub").context_window, trace.depth)

        def run_child(question: str, content: Content, parent: str | None) -> str:
            child = trace.child(parent)
            part = Context("", content)  # without a hash of all of it: nobody looks it up
            asked = Problem(problem.sample_id, question, part, self.sub_tokens)
            outcome, answer, error = "", None, {}
            try:
                paying = run.code_ledger.child(scope="child")
                outcome, answer = self._run(asked, lm, paying, child)
            except SampleFailure as failure:
                outcome, error = failure.outcome, {"error": str(failure)}
                raise
            finally:
                told = {"question": question, "outcome": outcome, "text": answer}
                child.add("answer", parent_call_id=parent, **told, **error)
                trace.join(child)
            if answer is None:
                raise SampleFailure(f"the child RLM ended without an answer ({outcome})")
            return answer

        run = Run(
            self,
            problem,
            lm,
            ledger,
            trace,
            enabled,
            opening(self.loaded_prompt, enabled, question, content, head, tail),
            role=self.child_model if trace.depth else "root",
            window_share=self.history_share,
            tools=self.toolset.over(content).functions if self.tools else {},
            context=content,
            setup=_SETUP.get(self.protocol, ""),
            run_child=run_child,
        )
        return run.answer()

    def in_block(self, session: ReplSession, block: BlockResult) -> str | None:
        match self.protocol:
            case "submit":
                return block.submitted
            case "final_variable":
                text = session.read("Final")
            case "answer_dict" if session.read("answer", "ready") not in _NOT_READY:
                text = session.read("answer", "content")
            case _:
                return None
        return text if text and text.strip() and not ADDRESS.match(text) else None

    def in_reply(
        self, session: ReplSession, reply: Completion, parsed: Parsed, *, failed: bool
    ) -> str | None:
        if self.protocol != "paper":
            return None
        return read_final(parsed.prose, session.read, failed=failed)


def opening(
    prompt: Prompt, enabled: Enabled, question: str, content: Content, head: str, tail: str
) -> list[Message]:
    """The chat before the first turn: the question, the context's metadata and its two ends. The
    context itself is never shown."""
    return prompt.messages(
        **asdict(enabled), **metadata(content), question=question, head=head, tail=tail
    )


def metadata(content: Content) -> dict[str, Any]:
    """Type, size and structure; sizes in characters, of what the documents themselves hold.
    ``items`` is None for a str, ``names`` (the first of a dict's) for all else but a dict."""
    texts, kind = documents_of(content), "str"
    measured = "\n".join(texts)
    names: list[str] | None = None
    if isinstance(content, Mapping):
        kind = "dict of str"
        first = list(content)[:_NAMES_SHOWN]
        names = [repr(n if len(n) <= _NAME_CHARS else n[: _NAME_CHARS - 1] + "…") for n in first]
    elif not isinstance(content, str):
        kind = "list of str"
    return {
        "kind": kind,
        "items": None if kind == "str" else len(texts),
        "names": names,
        "lengths": [len(text) for text in texts],
        "lines": measured.count("\n") + 1,
        "chars": sum(map(len, texts)),
        "structure": structure_of(measured),
    }


def structure_of(text: str) -> str:
    """``records, one a line: Date: … || User: … || Note: …``, ``JSON lines with the keys a, b``
    or ``running text``, judged by the first 400 lines that aren't blank. In the metadata because a
    small model copies the nearest worked example whatever is asked; by the form it chooses between
    searching and sub-calls."""
    lines = [line for line in text[: _LINES_READ * 400].splitlines() if line.strip()][:_LINES_READ]
    if len(lines) < 3:
        return "running text"
    forms: Counter[str] = Counter()
    for line in lines:
        try:
            value = json.loads(line) if line.startswith("{") else None
        except (ValueError, RecursionError):
            value = None
        pairs = _FIELD.findall(line)
        if value:
            forms[f"JSON lines with the keys {', '.join(value)}"] += 1
        elif len(pairs) > 1:
            fields = "".join([f"{separator}{name}: …" for separator, name in pairs])
            forms[f"records, one a line: {fields}"] += 1
    form, count = max(forms.items(), key=itemgetter(1), default=("", 0))
    return form if count >= _SHARE * len(lines) else "running text"
