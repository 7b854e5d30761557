"""Answers per token: our engine and rlms, the paper's reference implementation, answer the same
questions with the same small model. `python tests/benchmarks/answers.py` prints Markdown tables.

A demonstration, not evidence of which engine is better: few samples, and a 1.5B model, far smaller
than those rlms is made for. Wants an environment with both:

    python -m venv V && V/bin/pip install rlms==0.1.3 -e ".[local]"
    V/bin/python tests/benchmarks/answers.py --n 3

A prompt may weigh more than an engine, so there are two for each. For capable models: rlms' own
(`rlms:default`), and ours (`rlm_eval:orchestrator`, the slowest, run when --engines names it);
neither was written for a small model. For this very model: ours (`rlm_eval:compact`), tuned on
these tasks' families at other seeds (1000 and up), and the same words in rlms (`rlms:compact`): its
examples in the one system text that rlms takes, where ours sends chat turns; metadata and preview
with the question.

Equal for all: the embedded model in one llama.cpp server, with room for every slot's whole window;
temperature 0; recursion depth 1; --iterations turns; --turn-tokens a turn and --sub-tokens a
sub-call's reply; the wall limit, past which an answer is none; questions, contexts and the task's
own scorer. Every call goes through the same client (rlms reaches it through rlm_eval.models.proxy)
and is counted by what the server reports: nothing is taken from what an engine says of itself. The
client's memory of identical sub-calls is off. After its last turn each engine asks once more for a
plain answer, in its own words. Engines take turns at going first. A prompt's beginning that the
server knows shows as cached, and in the seconds; each is new to it once. Two runs may differ by an
answer: how llama.cpp rounds depends on which requests share a batch.

Not equal, since it is the engine: rlms tells the root type and length of the context, ours also the
form of its lines and 600 characters of it (put into the question of `rlms:compact`). rlms runs
blocks marked `repl`, ours also those marked `python`, and one that the token limit cut off. rlms
sends up to 16 sub-calls at once, ours 64; the server has 4 slots. A chat that outgrows the window
is shortened by ours; rlms would compact it, which is off by default and knows no window of this
model. The code that rlms runs is run in its process, in a sandbox as a whole; its seconds hold that
process's start. Model-written code of ours runs in our sandbox.
"""

from __future__ import annotations

import argparse
import os
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from itertools import chain
from statistics import mean
from typing import Any

from rlm_eval.errors import SampleFailure
from rlm_eval.ledger import Budget, Ledger
from rlm_eval.methods.agent.view import Enabled
from rlm_eval.methods.foreign.rlms import Rlms
from rlm_eval.methods.method import Method
from rlm_eval.methods.prompts import load_prompt
from rlm_eval.methods.rlm.engine import Rlm
from rlm_eval.methods.rlm.task import Task as RlmTask
from rlm_eval.models.client import ModelClient
from rlm_eval.models.local.model import LocalModel
from rlm_eval.models.protocol import ChatModel
from rlm_eval.records import SCORED, Answer, Call, Context, Problem, Sample, Score
from rlm_eval.repl.session import Sandbox
from rlm_eval.tasks.aggregation import Aggregation
from rlm_eval.tasks.constant import best_constant
from rlm_eval.tasks.needle import Needle
from rlm_eval.tasks.protocol import Task

ENGINES = ("rlm_eval:compact", "rlms:compact", "rlms:default", "rlm_eval:orchestrator")
HEAD = (
    *("engine", "questions", "n", "right", "score", "handed in / forced / none", "calls"),
    *("prompt tokens", "of them cached", "completion tokens", "seconds", "tokens per right answer"),
)


@dataclass(frozen=True)
class Question:
    """A sample with its task; ``constant`` is what the best fixed answer scores on it."""

    kind: str
    task: Task
    context: Context
    sample: Sample
    constant: float


@dataclass(frozen=True)
class Tried:
    """What one engine made of a question. ``score`` is None without an answer in time."""

    engine: str
    question: Question
    answer: Answer
    score: Score | None
    calls: tuple[Call, ...]
    seconds: float


def questions(n: int, seed: int) -> Iterator[Question]:
    """``n`` of each kind, one after another of each: each on a context of its own."""
    counting = {"n": n, "seed": seed, "questions_per_context": 1, "kinds": ["label_count"]}
    tasks: Mapping[str, Task] = {
        "needle": Needle(lengths=[1500], n=n, seed=seed),
        "counting, label written out": Aggregation(lengths=[1800], structured=True, **counting),
        "counting, label to be judged": Aggregation(lengths=[1650], **counting),
    }
    asked = []
    for kind, task in tasks.items():
        pairs = list(task.build())
        constants = best_constant(task, [sample for _, sample in pairs])
        asked.append([Question(kind, task, c, s, constants[s.id]) for c, s in pairs])
    return chain.from_iterable(zip(*asked, strict=True))


def engine(name: str, sandbox: Sandbox, args: argparse.Namespace) -> Method:
    whose, prompt = name.split(":")
    limits = {"max_depth": 1, "max_iterations": args.iterations}
    if whose == "rlm_eval":
        tokens = {"turn_tokens": args.turn_tokens, "sub_tokens": args.sub_tokens}
        return Rlm(sandbox, prompt=prompt, **limits, **tokens)
    kwargs: dict[str, Any] = {
        "sampling_args": {"max_tokens": args.turn_tokens},
        "sub_sampling_args": {"max_tokens": args.sub_tokens},
    }
    if prompt != "default":
        system, _ = in_rlms_terms(prompt, RlmTask("", "", 0))
        kwargs |= {"custom_system_prompt": system, "orchestrator": False}
    return Rlms(**limits, seconds=args.limit, isolation=args.isolation, kwargs=kwargs)


def in_rlms_terms(prompt: str, task: RlmTask) -> tuple[str, str]:
    """One of our prompts for rlms, which takes a system text and a question: the worked examples
    stand in the former; metadata and preview, with the question, are the latter. With rlms' own
    ending and fences, and nothing imported beforehand."""
    enabled = Enabled("answer_dict", 0, True, True, False, sub_window=0, sub_tokens=0)
    ends = Rlm.preview_head, Rlm.preview_tail
    system, *examples, last = task.opening(load_prompt("rlm", prompt), enabled, *ends)
    shown = [f"{m['role'].upper()}:\n{m['content']}" for m in examples]
    text = "\n\n".join([system["content"], "Examples:", *shown, "Now your task."])
    text = text.replace(" re, json, math and Counter are imported.", "")
    text = text.replace("```python", "```repl")
    text = text.replace("```repl\n#", "```repl\nimport re\nfrom collections import Counter\n#")
    return text.replace("{", "{{").replace("}", "}}"), last["content"]


def tried(name: str, method: Method, question: Question, model: ChatModel, limit: float) -> Tried:
    calls: list[Call] = []
    client = ModelClient({"root": model}, lambda call, reply: calls.append(call), memoize=False)
    sample, asked = question.sample, question.sample.question
    if name == "rlms:compact":
        task = RlmTask(asked, question.context.content, sample.max_answer_tokens)
        _, asked = in_rlms_terms("compact", task)
    problem = Problem(sample.id, asked, question.context, sample.max_answer_tokens)
    ledger = Ledger().child(Budget(seconds=limit))
    began = time.perf_counter()
    try:
        answer = method.answer(problem, client.lm(name, memory_scope=name), ledger)
    except SampleFailure as failure:
        answer = Answer(None, failure.outcome, error=str(failure))
    seconds = time.perf_counter() - began
    in_time = answer.outcome in SCORED and answer.text is not None and seconds <= limit
    score = question.task.score(sample, answer.text or "") if in_time else None
    return Tried(name, question, answer, score, tuple(calls), seconds)


def run(args: argparse.Namespace) -> list[Tried]:
    """Every question put to every engine, while the time left holds one more like the longest."""
    out: list[Tried] = []
    model = LocalModel(pool_windows=4)
    model.check()
    model.open()
    try:
        with Sandbox() as sandbox:
            methods = {name: engine(name, sandbox, args) for name in args.engines}
            for method in methods.values():
                method.check({"root": model.info})
            ends = time.perf_counter() + args.minutes * 60
            longest = 0.0
            for number, question in enumerate(questions(args.n, args.seed)):
                began = time.perf_counter()
                if began + longest > ends:
                    break
                turn = number % len(methods)
                for name in (*args.engines[turn:], *args.engines[:turn]):
                    out.append(tried(name, methods[name], question, model, args.limit))
                    print(_line(out[-1]), file=sys.stderr, flush=True)
                longest = max(longest, time.perf_counter() - began)
    finally:
        model.close()
    return out


def _line(done: Tried) -> str:
    score = "-" if done.score is None else f"{done.score.value:.2f}"
    said = done.answer.error or " ".join((done.answer.text or "").split())
    kind, outcome = done.question.kind, done.answer.outcome
    return f"{done.engine}: {kind}: {score} {outcome} {done.seconds:.0f} s: {said[:160]}"


def row(name: str, kind: str, done: Sequence[Tried]) -> str:
    calls = [call for one in done for call in one.calls]
    prompt = sum(call.prompt_tokens for call in calls)
    completion = sum(call.completion_tokens for call in calls)
    right = sum(one.score is not None and one.score.correct for one in done)
    ends = [one.answer.outcome for one in done if one.score is not None]
    handed, forced = ends.count("answered"), ends.count("forced")
    cells = (
        *(name, kind, len(done), right),
        f"{mean(one.score.value if one.score else 0.0 for one in done):.2f}",
        f"{handed} / {forced} / {len(done) - handed - forced}",
        *(len(calls), f"{prompt:,}", f"{sum(call.cached_tokens for call in calls):,}"),
        *(f"{completion:,}", f"{sum(one.seconds for one in done):.0f}"),
        f"{(prompt + completion) / right:,.0f}" if right else "–",
    )
    return f"| {' | '.join(map(str, cells))} |"


def table(done: Sequence[Tried]) -> str:
    """Sums over the questions of a kind, and over all; scores are means."""
    names = list(dict.fromkeys(one.engine for one in sorted(done, key=_place)))
    kinds = list(dict.fromkeys(one.question.kind for one in done))
    lines = [f"| {' | '.join(HEAD)} |", "|" + "---|" * len(HEAD)]
    for name in names:
        own = [one for one in done if one.engine == name]
        lines += [row(name, k, [one for one in own if one.question.kind == k]) for k in kinds]
        lines.append(row(f"**{name}**", "**all**", own))
    asked = {one.question.sample.id: one.question for one in done}.values()
    scores = [f"{k} {mean(q.constant for q in asked if q.kind == k):.2f}" for k in kinds]
    return "\n".join([*lines, "", f"The best constant answer scores {'; '.join(scores)}."])


def answers(done: Sequence[Tried]) -> str:
    """Each answer beside its gold."""
    lines = ["| questions | gold | engine | answer | score |", "|" + "---|" * 5]
    for one in done:
        said = one.answer.outcome if one.score is None else one.score.parsed
        text = " ".join(said.split()).replace("|", "\\|")
        score = "–" if one.score is None else f"{one.score.value:.2f}"
        gold = ", ".join(one.question.sample.gold)
        lines.append(f"| {one.question.kind} | {gold} | {one.engine} | {text[:80]} | {score} |")
    return "\n".join(lines)


def _place(one: Tried) -> int:
    return ENGINES.index(one.engine)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--n", type=int, default=3, help="questions of each kind")
    parser.add_argument("--seed", type=int, default=3, help="below 1000: prompts were tuned above")
    parser.add_argument("--engines", nargs="+", choices=ENGINES, default=ENGINES[:3])
    parser.add_argument("--iterations", type=int, default=8)
    parser.add_argument("--turn-tokens", type=int, default=512)
    parser.add_argument("--sub-tokens", type=int, default=256)
    parser.add_argument("--limit", type=float, default=240.0, help="seconds an answer may take")
    parser.add_argument("--minutes", type=float, default=25.0, help="for the whole")
    parser.add_argument("--isolation", choices=("confined", "none"), default="confined")
    args = parser.parse_args()
    done = run(args)
    print("# Answers per token: two engines, one small model\n")
    print(f"`python tests/benchmarks/answers.py {' '.join(sys.argv[1:])}`. A demonstration:")
    print(f"{LocalModel.name}, temperature 0, depth 1, at most {args.iterations} turns of")
    print(f"{args.turn_tokens} tokens, {args.sub_tokens} a sub-call's reply, {args.limit:g} s a")
    print(f"question; seed {args.seed}; rlms {version('rlms')}, rlm_eval {version('rlm_eval')},")
    print(f"xllamacpp {version('xllamacpp')}; {os.cpu_count()} cores, load")
    print(f"{os.getloadavg()[0]:.1f}. What is equal and what is not: see the script.\n")
    print(table(done) if done else "The time allowed holds no question.")
    print(f"\n{answers(done)}")


if __name__ == "__main__":
    main()
