"""What the RLM paper's table would take at given rates, from its figures and from measured ones:

python tests/benchmarks/paper_table.py > results/published/benchmarks/paper_table.md
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import yaml

from rlm_eval.config.compose import compose_tree
from rlm_eval.journal.journal import read_events

ROOT = Path(__file__).parents[2]
#: A published run whose journal says how large an RLM's calls are, in tokens and in bytes.
MEASURED = ROOT / "results/published/aggregation-default"


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--tokens-per-minute", type=float, default=2e6)
    parser.add_argument("--repeats", type=int, default=1)
    options = parser.parse_args()
    claims = yaml.safe_load((ROOT / "conf/claims/paper_gpt5.yaml").read_text())
    price = compose_tree(["model=gpt-5"])["model"]["price"]
    call_bytes, call_tokens = measured()
    print(f"""\
# The paper's table, GPT-5's half, at given rates

`python tests/benchmarks/paper_table.py --tokens-per-minute N --repeats K`, here
{options.tokens_per_minute:,.0f} and {options.repeats}. Dollars: what the paper says that a question
cost (conf/claims/paper_gpt5.yaml), times its n. Tokens: what these dollars buy at GPT-5's price of
input, ${price["input"]:g} a million (GPT-5-mini's is a fifth of it, replies cost eight times as
much). Hours: those tokens at the rate given. Calls and storage: as if every call were as small as
an RLM's in our published run, {call_tokens:,.0f} tokens and {call_bytes:,.0f} bytes of journal and
trajectory. Rows without a published cost are left out.

| task | n | answers | dollars | tokens, M | calls | hours | storage, MB |
|---|---|---|---|---|---|---|---|""")
    total = [0.0] * 6
    for setting in claims["settings"]:
        usd: dict[str, float] = setting["usd"]
        answers = len(usd) * setting["n"] * options.repeats
        dollars = sum(usd.values()) * setting["n"] * options.repeats
        tokens = dollars / price["input"] * 1e6
        calls = tokens / call_tokens
        hours, storage = tokens / options.tokens_per_minute / 60, calls * call_bytes / 1e6
        row = [answers, dollars, tokens / 1e6, calls, hours, storage]
        total = [a + b for a, b in zip(total, row, strict=True)]
        print(line(setting["task"], setting["n"], row))
    print(line("**all**", "", total))


def line(task: str, n: Any, row: list[float]) -> str:
    answers, dollars, tokens, calls, hours, storage = row
    cells = [task, n, f"{answers:,.0f}", f"${dollars:,.0f}", f"{tokens:,.0f}", f"{calls:,.0f}"]
    return f"| {' | '.join(map(str, [*cells, f'{hours:.1f}', f'{storage:,.0f}']))} |"


def measured() -> tuple[float, float]:
    """Bytes of the record and tokens of one call of an RLM."""
    events = list(read_events(MEASURED, ("call", "result")))
    keys = {e["key"] for e in events if e["type"] == "result" and e["method"] == "rlm"}
    calls = [e for e in events if e["type"] == "call" and e["result_key"] in keys]
    tokens = sum(c["prompt_tokens"] + c["completion_tokens"] for c in calls)
    lines = (MEASURED / "journal.jsonl").read_bytes().splitlines()
    size = sum(len(raw) for raw in lines if any(key.encode() in raw for key in keys))
    size += sum((MEASURED / "trajectories" / f"{key}.jsonl").stat().st_size for key in keys)
    return size / len(calls), tokens / len(calls)


if __name__ == "__main__":
    main()
