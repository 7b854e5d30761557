"""A foreign engine as a method: it runs in a process of its own with its own prompts and loop, and
reaches its models through this sample's proxy and nothing else.

It is given OPENAI_BASE_URL and OPENAI_API_KEY of the proxy, OPENAI_MODEL and OPENAI_SUB_MODEL (the
names its turns and its sub-calls go by), and the paths QUESTION_FILE, CONTEXT_FILE (the input as
one text) and DOCUMENTS_FILE (the same as JSON: a string, a list, or an object by name).

An answer counts as ``answered`` also where a call had been refused. Without one, the last refusal
is the outcome, unless a later call was answered: then the engine failed by itself. A provider's
failure ends the sample at once and leaves it pending, but for what its filter takes and requests
that it refuses (400), sub-calls or turns after one that it answered: they are the engine's to mend.
The wall time holds the process's start.

Without ``from __future__ import annotations``: subclasses in other modules inherit these fields,
and the configuration is checked against the types themselves.
"""

import json
import os
import secrets
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal

from rlm_eval.errors import BudgetExceeded, ConfigError, InvalidAnswer, SampleFailure, at_least
from rlm_eval.ledger import Ledger, Spend
from rlm_eval.methods.agent.trace import Trace, became
from rlm_eval.methods.foreign.confinement import tells_answers
from rlm_eval.methods.foreign.process import (
    MOST_OUTPUT_BYTES,
    UNCONFINED_BYTES,
    memory_folder,
    running,
    why_not_confined,
)
from rlm_eval.methods.method import Bounds, Forecast, Method, Shape
from rlm_eval.models.client import LM, CallTags, Completion
from rlm_eval.models.protocol import Message, ModelInfo
from rlm_eval.models.proxy import Proxy
from rlm_eval.records import Answer, Outcome, Problem, Role
from rlm_eval.repl.capture import cut

#: Characters of a tool's output that stay.
MOST_SHOWN = 20_000
#: Code that the engine ran: ``code``, ``output``, ``error`` (empty when it went well).
Block = Mapping[str, str]


@dataclass
class Record(Trace):
    """What one sample's engine asked, in the format of ``agent/trace.py``. ``iterations`` counts
    the turns of its own loop, ``calls`` all that reached the model client. ``by_wire``: what its
    tools gave is read from what it sends next; else the engine reports its code itself (``ran``).
    Safe for threads."""

    by_wire: bool = False
    calls: int = 0
    _shown: set[tuple[int, int, str | None, str]] = field(default_factory=set)

    def call(
        self, tags: CallTags, messages: Sequence[Message], outcome: Completion | SampleFailure
    ) -> None:
        """One call and what became of it (a :data:`rlm_eval.models.proxy.CallLog`)."""
        turn = tags.role == "root" and isinstance(outcome, Completion)
        if tags.role == "root" and self.by_wire:
            self._outputs(tags.depth, messages)
        texts = [m["content"] for m in messages]
        event: dict[str, Any] = {"role": tags.role, "depth": tags.depth}
        event |= {"parent_call_id": tags.parent_call_id, **became(outcome)}
        if turn:
            event |= {"messages": len(texts), "prompt_chars": sum(map(len, texts))}
            called = outcome.tool_calls if isinstance(outcome, Completion) else ""
            event |= {"tool_calls": json.loads(called)} if called else {}
        first = self.by_wire and all(m["role"] != "assistant" for m in messages)
        if first or not turn:
            event |= self.stored("\n\n".join(texts), outcome)
        with self.lock:
            self.calls += 1
            if turn and tags.depth == 0:
                self.iterations += 1
                event["iteration"] = self.iterations
        self.add("turn" if turn else "call", **event)

    def _outputs(self, depth: int, messages: Sequence[Message]) -> None:
        """A block for what each tool gave that the last reply called, or what was said to it."""
        said = [i for i, message in enumerate(messages) if message["role"] == "assistant"]
        if not said:
            return
        called = json.loads(messages[said[-1]].get("tool_calls", "[]"))
        functions = {call.get("id"): call["function"] for call in called}
        for message in messages[said[-1] + 1 :]:
            which = depth, len(said), message.get("tool_call_id"), message["content"]
            if which in self._shown:  # sent again, after a refusal or a reply that was not kept
                continue
            self._shown.add(which)
            function = functions.get(message.get("tool_call_id"))
            code = f"{function['name']} {function.get('arguments')}" if function else ""
            shown = cut(message["content"], MOST_SHOWN)
            self.add("block", depth=depth, code=code, output=shown, error="")

    def ran(self, blocks: Sequence[Block]) -> None:
        """Put each block after the turn that wrote it and the calls it made."""
        self.code_errors = sum(bool(block["error"]) for block in blocks)
        left: list[dict[str, Any]] = [{"type": "block", "depth": 0, **block} for block in blocks]
        out: list[Mapping[str, Any]] = []
        end: Mapping[str, Any] = {"type": "turn", "depth": 0, "reply": ""}
        reply = ""
        for event in [*self.events, end]:
            if event["type"] == "turn" and event["depth"] == 0:
                while left and (code := _as_written(left[0]["code"].strip(), reply)) is not None:
                    reply = reply[reply.index(code) + len(code) :]
                    out.append(left.pop(0))
                reply = event["reply"]
            out.append(event)
        self.events = [*out[:-1], *left]


def _as_written(code: str, reply: str) -> str | None:
    """``code`` as it stands in a reply: plain, or within a JSON string; None where it doesn't."""
    forms = code, json.dumps(code, ensure_ascii=False)[1:-1]
    return next((form for form in forms if form in reply), None)


Isolation = Literal["confined", "none"]


@dataclass(frozen=True)
class Given:
    """What an engine handed back: its answer, whether its limits forced it, the code it ran."""

    text: str
    forced: bool = False
    blocks: Sequence[Block] = ()


@dataclass(kw_only=True)
class ForeignEngine(Method):
    """What all foreign engines have in common; a subclass says what to run and how to read it.

    ``turn_tokens``: the longest reply where the engine doesn't say. ``seconds``: wall time of one
    sample. ``isolation``: ``confined`` (see ``process.py``) or ``none``, where the engine, and the
    code its model writes as far as the engine lets it, has the user's rights. ``readable``: files
    and folders that a confined engine may read beside the system and Python."""

    turn_tokens: int = 1024
    seconds: float = 1800.0
    isolation: Isolation = "confined"
    readable: list[str] = field(default_factory=list)

    #: Its name in trajectories.
    name: ClassVar[str]
    #: Whether what its tools gave is read from what it sends, for trajectories.
    by_wire: ClassVar[bool] = False
    #: Whether its sub-calls are reckoned rather than limited.
    assumed: ClassVar[bool] = False
    roles = ("root", "sub")

    def __post_init__(self) -> None:
        at_least(1, turn_tokens=self.turn_tokens)
        at_least(0, above=True, seconds=self.seconds)
        for path in self.readable:
            if not os.path.exists(path):
                raise ConfigError(f"must be files and folders: there is no {path}", key="readable")

    # -- what a subclass defines -----------------------------------------------------------------

    def version(self) -> str:
        """The engine and its version, as shown in tables: part of a result's key."""
        raise NotImplementedError

    def argv(self) -> Sequence[str]:
        """What to run; its files by absolute paths."""
        raise NotImplementedError

    def own_files(self) -> Sequence[str]:
        """Files beside ``readable`` that the engine is made of."""
        raise NotImplementedError

    def read(self, output: bytes, *, asked: bool) -> Given | None:
        """The answer in what the engine printed; None when there is none. ``asked``: it had called
        a model by then. Raises InvalidAnswer, or ConfigError for settings it did not take."""
        raise NotImplementedError

    def files(self, problem: Problem) -> Mapping[str, str]:
        """What it is given to read, by the variable that names the file."""
        files = {"QUESTION_FILE": problem.question, "CONTEXT_FILE": problem.context.text}
        return {**files, "DOCUMENTS_FILE": json.dumps(problem.context.content, default=dict)}

    def setup(self) -> Mapping[str, str]:
        """The same, whatever the question."""
        return {}

    def most_calls(self) -> tuple[int, int] | None:
        """The most turns and sub-calls of one answer; None where nothing limits them."""
        return None

    def most_turns(self) -> int | None:
        """Turns of its own loop past which it gets no more, where it keeps no limit itself."""
        return None

    # -- the method ------------------------------------------------------------------------------

    def stores_input(self) -> bool:
        return memory_folder(0 if self.isolation == "confined" else UNCONFINED_BYTES) is None

    def prompt_name(self) -> str:
        return self.version()

    def prompt_source(self) -> str:
        return self.version()

    def check(self, models: Mapping[Role, ModelInfo]) -> None:
        window = min(info.context_window for info in models.values())
        if self.turn_tokens >= window:
            told = f"leaves no room for a prompt in the window of {window} tokens"
            raise ConfigError(told, key="turn_tokens")
        if self.isolation == "confined" and any(map(tells_answers, self.readable)):
            told = "must not hold rlm_eval, which has the answers: name the engine's own files"
            raise ConfigError(told, key="readable")
        if self.isolation == "confined" and (reason := why_not_confined()):
            raise ConfigError(
                "can't be confined on this machine, and the engine runs code that a model wrote "
                f"({reason}). To run it with your files, keys and network open to that code, set "
                "isolation=none",
                key="isolation",
            )

    def bounds(self, shape: Shape, models: Mapping[Role, ModelInfo]) -> Bounds:
        """From one turn to all that the engine takes, each with a full window."""
        least, most = (Forecast(1, shape.question_tokens, 1),), self.most_calls()
        if most is None:
            return least, None
        (turns, subcalls), reply = most, self.turn_tokens
        window = models.get("sub", models["root"]).context_window
        return least, (
            Forecast(turns, turns * models["root"].context_window, turns * reply),
            Forecast(subcalls, subcalls * window, subcalls * reply, "sub", assumed=self.assumed),
        )

    def answer(self, problem: Problem, lm: LM, ledger: Ledger) -> Answer:
        record = Record(by_wire=self.by_wire)
        level = "bwrap" if self.isolation == "confined" else "none"
        record.start(self.name, self, level, ledger)
        return record.answer(lambda: self._run(problem, lm, ledger, record))

    def _run(
        self, problem: Problem, lm: LM, ledger: Ledger, record: Record
    ) -> tuple[Outcome, str | None]:
        token = secrets.token_hex(16)
        files, readable = {**self.setup(), **self.files(problem)}, None
        if self.isolation == "confined":
            readable = [*self.own_files(), *(os.path.abspath(path) for path in self.readable)]
        with (
            running(self.argv(), files, _environment(token), readable) as engine,
            Proxy(
                lm,
                ledger,
                engine.listener(),
                default_max_tokens=self.turn_tokens,
                token=token,
                most_turns=self.most_turns(),
                log=record.call,
                stop=engine.kill,
            ) as proxy,
        ):
            left = ledger.seconds_left()
            limit = self.seconds if left is None else min(self.seconds, left)
            code, output, last_words = engine.wait(limit)
        if proxy.ending is not None:
            raise proxy.ending
        if code is None:  # raises first where it is the run's or the sample's cap
            ledger.release([ledger.reserve(Spend(), wait=False)])
            raise BudgetExceeded(f"no answer within seconds={self.seconds:g}")
        if len(output) == MOST_OUTPUT_BYTES:
            raise InvalidAnswer(f"{self.version()} wrote {MOST_OUTPUT_BYTES:,} bytes or more")
        given = self.read(output, asked=record.calls > 0) if code == 0 else None
        if proxy.refused is not None and not (given and given.text.strip()):
            if proxy.refused.outcome == "provider_error":
                raise InvalidAnswer(f"{self.version()} asked what is refused: {proxy.refused}")
            raise proxy.refused
        if given is None:
            raise InvalidAnswer(f"{self.version()} ended with exit code {code}: {last_words}")
        record.ran(given.blocks)
        return "forced" if given.forced else "answered", given.text


def _environment(token: str) -> dict[str, str]:
    """What the engine's process gets beside the paths of its files; nothing of the user's but where
    programs are."""
    kept = {k: os.environ[k] for k in ("PATH", "LD_LIBRARY_PATH") if k in os.environ}
    names = {"OPENAI_API_KEY": token, "OPENAI_MODEL": "root", "OPENAI_SUB_MODEL": "sub"}
    fixed = {"USER": "engine", "LANG": "C.UTF-8", "PYTHONUTF8": "1", "PYTHONDONTWRITEBYTECODE": "1"}
    # rlms reads keys from the nearest .env above its own files.
    return {**kept, **names, **fixed, "PYTHON_DOTENV_DISABLED": "1"}
