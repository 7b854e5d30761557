"""The knobs of CodeAct, checked: what conf/method/codeact.yaml sets."""

from __future__ import annotations

from dataclasses import dataclass

from rlm_eval.errors import ConfigError
from rlm_eval.methods.agent.settings import TEMPLATES, check
from rlm_eval.methods.agent.view import Enabled
from rlm_eval.methods.codeact.opening import Overflow
from rlm_eval.methods.method import at_least
from rlm_eval.methods.prompts import Prompt, load_prompt
from rlm_eval.methods.rag.ranking import Bm25, Indices
from rlm_eval.repl.session import Sandbox


@dataclass
class CodeActSettings:
    """How CodeAct runs.

    ``bm25`` gives its code ``search`` over pieces of ``piece_tokens`` (offline tokenizer),
    ``sub_calls`` the functions ``llm_query`` and ``llm_query_batched``. ``work_tokens`` of the
    window are kept free of the input for up to ``max_iterations`` turns of ``turn_tokens`` each
    and for ``output_chars`` of what each block prints; ``overflow`` says what happens to an input
    that the rest can't hold. A sub-call answers in at most ``sub_tokens``; a batch runs
    ``concurrency`` at once. With ``force_answer`` a run at its limit is asked once for an answer in
    plain text, which is marked ``forced``. ``matched`` lets the sample's cap on tokens or dollars
    end the run in place of ``max_iterations``.
    """

    sandbox: Sandbox
    prompt: str = "plain"
    bm25: bool = False
    sub_calls: bool = False
    overflow: Overflow = "truncate_middle"
    work_tokens: int = 2048
    max_iterations: int = 8
    turn_tokens: int = 384
    sub_tokens: int = 64
    output_chars: int = 2000
    concurrency: int = 64
    piece_tokens: int = 128
    force_answer: bool = True
    matched: bool = False

    def __post_init__(self) -> None:
        check("method.codeact", self)
        at_least(8, **{"method.codeact.piece_tokens": self.piece_tokens})
        if self.work_tokens < 2 * self.turn_tokens:
            raise ConfigError(
                f"method.codeact.work_tokens={self.work_tokens} must hold at least two turns of "
                f"turn_tokens={self.turn_tokens}"
            )
        if self.overflow == "omit" and not self.bm25:
            raise ConfigError(
                "method.codeact.overflow=omit leaves nothing to read without method.codeact.bm25"
            )
        self.loaded_prompt: Prompt = load_prompt("codeact", self.prompt)
        self.loaded_prompt.require(*TEMPLATES)
        self.indices: Indices[Bm25] = Indices()

    def enabled(self, sub_window: int, iterations: int) -> Enabled:
        """What the run's prompt speaks of."""
        return Enabled(
            protocol="submit",
            max_iterations=iterations,
            sub_calls=self.sub_calls,
            batch=self.sub_calls,
            recursive=False,
            sub_window=sub_window,
            sub_tokens=self.sub_tokens,
        )
