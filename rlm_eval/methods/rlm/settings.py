"""The knobs of an RLM, checked: what conf/method/rlm.yaml sets."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from rlm_eval.errors import ConfigError
from rlm_eval.ledger import Ledger
from rlm_eval.methods.agent.settings import TEMPLATES, check, most_turns
from rlm_eval.methods.agent.view import Enabled
from rlm_eval.methods.method import at_least
from rlm_eval.methods.prompts import Prompt, load_prompt
from rlm_eval.methods.rlm.finish import FinishName
from rlm_eval.models.client import LM
from rlm_eval.records import Role
from rlm_eval.repl.session import Sandbox


@dataclass
class RlmSettings:
    """How an RLM runs.

    ``max_depth`` levels of sub-calls, ``max_iterations`` root turns of at most ``turn_tokens``
    each. ``output_chars`` of a block's output are shown (head and tail, the full length always
    stated), ``preview_head`` and ``preview_tail`` characters of the context are shown at the
    start. A sub-call answers in at most ``sub_tokens``; a batch runs ``concurrency`` at once.
    ``history_share`` of the window is the most a turn's prompt fills. With ``force_answer`` a
    run at its limit is asked once for an answer in plain text, which is marked ``forced``.
    ``child_model`` names the role whose model takes the turns of child RLMs. ``matched`` lets the
    sample's cap on tokens or dollars end the loop in place of ``max_iterations``.
    """

    sandbox: Sandbox
    prompt: str = "compact"
    protocol: FinishName = "submit"
    max_depth: int = 1
    max_iterations: int = 8
    turn_tokens: int = 384
    sub_tokens: int = 64
    output_chars: int = 2000
    preview_head: int = 500
    preview_tail: int = 100
    batch: bool = True
    concurrency: int = 64
    history_share: float = 0.8
    force_answer: bool = True
    child_model: Literal["root", "sub"] = "sub"
    matched: bool = False

    def __post_init__(self) -> None:
        at_least(0, **{"method.rlm.max_depth": self.max_depth})
        at_least(0, preview_head=self.preview_head, preview_tail=self.preview_tail)
        check("method.rlm", self)
        if not 0.1 <= self.history_share <= 1:
            raise ConfigError("method.rlm.history_share is a share of the window: 0.1 to 1")
        self.loaded_prompt: Prompt = load_prompt("rlm", self.prompt)
        self.loaded_prompt.require(*TEMPLATES, *(["unclear"] if self.protocol == "paper" else []))

    def role(self, depth: int) -> Role:
        """Whose model takes the turns of an RLM at ``depth``."""
        return self.child_model if depth else "root"

    def iterations(self, depth: int, lm: LM, ledger: Ledger) -> int:
        """The most turns of an RLM at ``depth`` that ``ledger`` pays. A root's may be matched; its
        children, which it may begin as often as the cap allows, have ``max_iterations`` as ever."""
        return self.max_iterations if depth else most_turns(self, lm, ledger)

    def enabled(self, depth: int, sub_window: int) -> Enabled:
        """What an RLM at ``depth`` may do; its sub-calls' model has a window of ``sub_window``."""
        return Enabled(
            protocol=self.protocol,
            max_iterations=self.max_iterations,
            sub_calls=depth < self.max_depth,
            batch=depth < self.max_depth and self.batch,
            recursive=depth + 1 < self.max_depth,
            sub_window=sub_window,
            sub_tokens=self.sub_tokens,
        )
