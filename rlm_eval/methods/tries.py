"""Any method several times, and one answer of all that it said.

The majority is self-consistency (Wang et al., arXiv 2203.11171, section 2), a model's choice
best-of-N; SRLM (arXiv 2603.15653) holds such a choice among programs against recursion.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal

from rlm_eval.errors import BudgetExceeded, ConfigError, ContextOverflow, SampleFailure, at_least
from rlm_eval.ledger import Ledger, Spend
from rlm_eval.methods.fitting import offline_tokens
from rlm_eval.methods.method import Bounds, CodeOracle, Forecast, Method, Shape
from rlm_eval.methods.prompts import load_prompt
from rlm_eval.methods.rag.rag import numbers_in
from rlm_eval.models.client import LM
from rlm_eval.models.protocol import ModelInfo
from rlm_eval.records import PENDING, SCORED, Answer, Problem, Role, union

Choose = Literal["majority", "judge"]
#: The most tries that a cap buys: a method that costs next to nothing would never end.
MOST_TRIES = 100
#: Tokens of the judge's reply.
CHOICE_TOKENS = 16


@dataclass
class Tries(Method):
    """The method ``of``, asked several times one after the other, and the answer given most often
    (of equals the first), or the one that a judge takes (where it names none, the majority).
    Settings: conf/method/tries.yaml.

    A try without an answer abstains. One after which the sample's cap can't pay another as dear is
    the last, and so is one refused before its first turn; one that the provider or the sandbox
    fails leaves the sample pending. With ``matched`` there are at most :data:`MOST_TRIES`. No seed
    is sent, so that tries differ from run to run."""

    of: Method
    tries: int = 5
    temperature: float | None = 0.7
    choose: Choose = "majority"
    prompt: str = "plain"
    matched: bool = False

    def __post_init__(self) -> None:
        at_least(1, tries=self.tries)
        if self.temperature is not None and self.temperature <= 0:
            told = "must be above 0 (at 0 all tries are the same), or null for the provider's own"
            raise ConfigError(told, key="temperature")
        self.of.matched = False  # no try spends the cap of all
        self.loaded_prompt = load_prompt("tries", self.prompt)
        self.roles = self.of.roles
        self.reads_everything = self.of.reads_everything
        #: The sandbox that the method has, if it has one.
        self.sandbox = getattr(self.of, "sandbox", None)

    def answer(self, problem: Problem, lm: LM, ledger: Ledger) -> Answer:
        capped = self.spends_up_to_cap(ledger)
        made: list[Answer] = []
        dearest = Spend()
        for number in range(1, (MOST_TRIES if capped else self.tries) + 1):
            if capped and made and not ledger.affords(dearest):
                break
            before, own = ledger.spent, lm.sampled(self.temperature)
            try:
                answer = self.of.answer(problem, own, ledger)
            except SampleFailure as failure:
                answer = Answer(None, failure.outcome, error=str(failure))
            lm.last = own.last
            if answer.outcome in PENDING:  # with fewer tries it would be another method
                before_it = (event for a in made for event in a.trajectory)
                return replace(answer, trajectory=(*before_it, *answer.trajectory))
            spent = ledger.spent - before
            usd = None if spent.usd is None else max(dearest.usd or 0.0, spent.usd)
            dearest = Spend(max(dearest.calls, spent.calls), max(dearest.tokens, spent.tokens), usd)
            said = {"number": number, "answer": answer.text, "outcome": answer.outcome}
            event = {"type": "try", **said, **({"error": answer.error} if answer.error else {})}
            made.append(replace(answer, trajectory=(*answer.trajectory, event)))
            refused = answer.outcome in ("budget_exceeded", "context_overflow")
            if refused and not answer.iterations:  # the next one would come no further
                break
            if answer.outcome == "budget_exceeded" and not ledger.affords(dearest):
                break
        given = [a for a in made if a.outcome in SCORED and (a.text or "").strip()]
        chosen = self._chosen(given, problem, lm, ledger) if given else made[-1]
        spans = [a.spans_read for a in made if a.spans_read is not None]
        return replace(
            chosen,
            iterations=sum(a.iterations for a in made),
            code_errors=sum(a.code_errors for a in made),
            sandbox_s=sum(a.sandbox_s for a in made),
            spans_read=tuple(union(s for each in spans for s in each)) if spans else None,
            trajectory=tuple(event for a in made for event in a.trajectory),
            error="" if given else f"no answer in {len(made)} tries, the last: {chosen.error}",
        )

    def _chosen(self, given: Sequence[Answer], problem: Problem, lm: LM, ledger: Ledger) -> Answer:
        """One of ``given``, which all have a text."""
        times = Counter(normalised(a.text or "") for a in given)
        first = {text: next(a for a in given if normalised(a.text or "") == text) for text in times}
        most = first[max(times, key=lambda text: times[text])]  # of equals the first
        if self.choose == "majority" or len(times) == 1:
            return most
        candidates = [(first[text].text, number) for text, number in times.items()]
        try:
            reply = lm.complete(
                self.loaded_prompt.messages(question=problem.question, candidates=candidates),
                ledger=ledger,
                max_tokens=CHOICE_TOKENS,
            )
        except (BudgetExceeded, ContextOverflow):
            return most
        said = normalised(reply.text)
        if said in first and not re.fullmatch(r"\W*\d+\W*", said):
            return first[said]
        named = numbers_in(reply.text, len(first))
        return list(first.values())[named[0]] if named else most

    # -- what the method itself says -------------------------------------------------------------

    def prompt_name(self) -> str:
        return self.of.prompt_name()

    def prompt_source(self) -> str:
        judge = self.loaded_prompt.source if self.choose == "judge" else ""
        return self.of.prompt_source() + judge

    def check(self, models: Mapping[Role, ModelInfo]) -> None:
        self.loaded_prompt.messages(question="", candidates=[])
        try:
            self.of.check(models)
        except ConfigError as error:
            raise error.within("of") from error

    def bind(self, code_oracle: CodeOracle, count_alone: CodeOracle) -> None:
        self.of.bind(code_oracle, count_alone)

    def stores_input(self) -> bool:
        return self.of.stores_input()

    def close(self) -> None:
        self.of.close()

    def kept(self, shape: Shape, models: Mapping[Role, ModelInfo]) -> float:
        return self.of.kept(shape, models)

    def forecast(
        self, shape: Shape, models: Mapping[Role, ModelInfo]
    ) -> tuple[Forecast, ...] | None:
        """What the tries take at their largest, all but the first on prompts that were read before.
        What ``matched`` changes follows from the cap and is not in it."""
        each = self.of.forecast(shape, models)
        if not each:
            return each
        return (*(self._times(f, again=True) for f in each), *self._judging(shape))

    def bounds(self, shape: Shape, models: Mapping[Role, ModelInfo]) -> Bounds | None:
        found = self.of.bounds(shape, models)
        if found is None:
            return None
        least, most = found
        if most is not None:
            most = (*map(self._times, most), *self._judging(shape))
        return tuple(map(self._times, least)), most

    def _times(self, one: Forecast, *, again: bool = False) -> Forecast:
        prompts = self.tries * one.prompt_tokens
        return replace(
            one,
            calls=self.tries * one.calls,
            prompt_tokens=prompts,
            completion_tokens=self.tries * one.completion_tokens,
            repeated_tokens=prompts - one.prompt_tokens + one.repeated_tokens if again else 0,
        )

    def _judging(self, shape: Shape) -> Sequence[Forecast]:
        if self.choose == "majority":
            return ()
        prompt = offline_tokens(self.loaded_prompt.messages(question="", candidates=[]))
        prompt += shape.question_tokens + self.tries * shape.max_answer_tokens
        return (Forecast(1, prompt, CHOICE_TOKENS),)


def normalised(answer: str) -> str:
    """Equal for answers that count as the same: letter case, white space and punctuation at the end
    are put aside."""
    return " ".join(answer.casefold().split()).rstrip(" .,;:!?")
