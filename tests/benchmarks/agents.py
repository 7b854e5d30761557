"""What the embedded model does as a coding agent, from the runs in results/published/agents, and
how much the agents send first.

PYTHONPATH=tests python tests/benchmarks/agents.py > results/published/agents/agents.md

The runs: ``python -m rlm_eval -m task=needle,aggregation 'task.lengths=[2048]' task.n=2
'method=[mini_swe_agent]' method.mini_swe_agent.context=file,prompt
method.mini_swe_agent.config=mini_textbased method.mini_swe_agent.max_turns=4
method.mini_swe_agent.turn_tokens=256 stop_on_forecast=false results_dir=results/published/agents``,
and with ``config=mini`` the needle alone, since the model made not one call of a tool there.
"""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pandas as pd
import yaml

from helpers.agent_provider import AgentProvider
from helpers.chat import Table, problem
from rlm_eval.methods.foreign.agents import ClaudeCode, CodingAgent, MiniSweAgent, OpenCode
from rlm_eval.models.litellm_client import LitellmModel
from rlm_eval.tokens import load_tokenizer

RUNS = Path("results/published/agents")
HEAD = """\
# Coding agents with the embedded model

`PYTHONPATH=tests python tests/benchmarks/agents.py`: runs in this folder (commands in the script),
a demonstration. Qwen2.5-Coder-1.5B in a window of 8,192 tokens, inputs of 2,048, at most 4 turns.
n is too small for any claim but one: whether the model can drive the agent at all. Handed in: it
came to an answer of its own within its turns.

| agent | its prompts | input | task | n | handed in | score | turns | tokens | outcomes |
|---|---|---|---|---|---|---|---|---|---|
"""


def main() -> None:
    print(HEAD + "\n".join(sorted(map(row, RUNS.glob("*/config.yaml")))))
    print("\nWhat each sends first, its tools with it, in tokens of o200k_base:\n")
    print("| agent | tokens | in a window of 8,192 |\n|---|---|---|")
    for agent in (MiniSweAgent(), OpenCode(), ClaudeCode()):
        print(f"| {' | '.join(opening(agent))} |")


def row(config: Path) -> str:
    (arm,) = yaml.safe_load(config.read_text())["method"].values()
    results = pd.read_parquet(config.with_name("results.parquet"))
    outcomes = results.outcome.value_counts()
    cells: list[Any] = ["mini-swe-agent", arm["config"], arm["context"], results.task[0]]
    cells += [len(results), int((results.outcome == "answered").sum())]
    cells += [f"{results.score.fillna(0).mean():.2f}", f"{results.iterations.mean():.1f}"]
    cells += [f"{(results.prompt_tokens + results.completion_tokens).mean():,.0f}"]
    cells += [", ".join(f"{count} {name}" for name, count in outcomes.items())]
    return f"| {' | '.join(map(str, cells))} |"


def opening(agent: CodingAgent) -> tuple[str, str, str]:
    """The agent, what it sends first, and whether the embedded model's window holds it."""
    program = getattr(agent, "command", None)
    if program and not shutil.which(program):
        return agent.name, "not installed here", "–"
    with AgentProvider() as provider:
        model = LitellmModel("openai/fake", 200_000, provider.api_base, fixed_api_key="k")
        table = Table(model)
        asked = problem("What is the code for key?", "The code for key is value.")
        agent.answer(asked, table.lm(), table.ledger())
    first = next(body for body in provider.received if body.get("tools"))
    text = json.dumps([first["messages"], first["tools"]], ensure_ascii=False)
    tokens = load_tokenizer("o200k_base").count(text)
    fits = "fits" if tokens < 8192 - 1024 else "leaves no room for a reply: it can't be driven"
    return agent.version(), f"{tokens:,}", fits


if __name__ == "__main__":
    main()
