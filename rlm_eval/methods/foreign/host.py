"""Runs a Python package's engine on one question, in the engine's process:

    python host.py rlms|dspy SETTINGS

Standard library and that package only; retries, memory and time are the harness's. Its output is
one JSON object: ``text``, ``forced`` and ``blocks`` (the code of the engine's own loop and what it
printed), or ``refused`` when the engine's constructor did not take its settings.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any


def main() -> None:
    out = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # what engine and model code print is no answer
    run = {"rlms": run_rlms, "dspy": run_dspy}[sys.argv[1]]
    context = json.loads(Path(os.environ["DOCUMENTS_FILE"]).read_bytes())
    question = Path(os.environ["QUESTION_FILE"]).read_bytes().decode("utf-8", "surrogatepass")
    json.dump(run(context, question, json.loads(sys.argv[2])), out)
    out.flush()
    os._exit(0)  # nothing is left to tidy up, and Python would take its time


def run_rlms(context: Any, question: str, settings: Mapping[str, Any]) -> Mapping[str, Any]:
    from rlm.core import rlm as core
    from rlm.logger import RLMLogger

    class DepthNamed(core.RLM):  # type: ignore[misc]
        """Its child RLMs go by a model name with their depth, so that the proxy can tell their
        turns from its own."""

        def _subcall(self, prompt: str, model: str | None = None) -> Any:
            named = model or f"{os.environ['OPENAI_MODEL']}@{self.depth + 1}"
            return super()._subcall(prompt, named)

    core.RLM = DepthNamed  # what a child RLM is made from
    client: dict[str, Any] = {
        "base_url": os.environ["OPENAI_BASE_URL"],
        "api_key": os.environ["OPENAI_API_KEY"],
    }
    client |= {"max_retries": 0, "timeout": settings["seconds"]}
    ours: dict[str, Any] = {}
    if settings["instructions"]:  # which rlms formats
        text = settings["instructions"].replace("{", "{{").replace("}", "}}")
        ours = {"custom_system_prompt": text, "orchestrator": False}
    try:
        engine = DepthNamed(
            backend="openai",
            backend_kwargs={"model_name": os.environ["OPENAI_MODEL"], **client},
            other_backends=["openai"],
            other_backend_kwargs=[{"model_name": os.environ["OPENAI_SUB_MODEL"], **client}],
            logger=RLMLogger(),
            **settings["limits"],
            **{**ours, **settings["kwargs"]},
        )
    except (TypeError, ValueError) as error:
        return {"refused": str(error)}
    done = engine.completion(context, root_prompt=question)
    iterations = done.metadata["iterations"]
    blocks = [
        _block(block["code"], block["result"]["stdout"], block["result"]["stderr"])
        for iteration in iterations
        for block in iteration["code_blocks"]
    ]
    # Beyond its limit it asks once more, for an answer from what it has.
    forced = len(iterations) > settings["limits"]["max_iterations"]
    return {"text": done.response, "forced": forced, "blocks": blocks}


def run_dspy(context: Any, question: str, settings: Mapping[str, Any]) -> Mapping[str, Any]:
    # Found in the environment, the address has dspy import litellm, for seconds.
    client: dict[str, Any] = {
        "api_base": os.environ.pop("OPENAI_BASE_URL"),
        "timeout": settings["seconds"],
    }
    client |= {"api_key": os.environ["OPENAI_API_KEY"], "cache": False, "num_retries": 0}
    os.environ["LITELLM_LOCAL_MODEL_COST_MAP"] = "True"  # dspy would fetch prices
    import dspy
    from dspy.primitives.local_interpreter import LocalInterpreter

    root, sub = (f"openai/{os.environ[name]}" for name in ("OPENAI_MODEL", "OPENAI_SUB_MODEL"))
    try:
        engine = dspy.RLM(
            dspy.Signature("context, query -> answer", settings["instructions"] or ""),
            sub_lm=dspy.LM(sub, **client),
            interpreter_factory=LocalInterpreter,
            **settings["limits"],
            **settings["kwargs"],
        )
    except (TypeError, ValueError) as error:
        return {"refused": str(error)}
    with dspy.context(lm=dspy.LM(root, **client)):
        done = engine(context=context, query=question)
    blocks = []
    for entry in done.trajectory:
        output = str(entry["output"])
        failed = output.startswith(("[Error]", "[Type Error]"))
        blocks.append(_block(entry["code"], *(("", output) if failed else (output, ""))))
    # What dspy.RLM says of an answer it had to draw from an unfinished run.
    forced = done.final_reasoning == "Extract forced final output"
    return {"text": str(done.answer), "forced": forced, "blocks": blocks}


def _block(code: str, output: Any, error: Any) -> dict[str, str]:
    """Cut to what one can read."""
    return {"code": code, "output": str(output or "")[:20_000], "error": str(error or "")[:20_000]}


if __name__ == "__main__":
    main()
