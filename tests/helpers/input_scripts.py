"""A stand-in that plays a capable root model on tests/inputs.jsonl, for runs through the command
line: it sees only its messages and writes code for the question it is asked."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from rlm_eval.models.protocol import Message
from rlm_eval.models.scripted import Script, ScriptedModel

#: Words of a question, and the two turns that answer it.
PLAYS = {
    "had no space left": (
        'hits = [l for l in context.splitlines() if "No space left" in l]; print(hits)',
        "submit(hits[0].split()[3])",
    ),
    "FEE_PER_DAY": (
        'print([n for n, t in context.items() if "FEE_PER_DAY =" in t])',
        r'submit(re.search(r"FEE_PER_DAY = (\S+)", context["library/settings.py"])[1])',
    ),
    "new meeting point": (
        'told = [l for l in context.splitlines() if "meeting point" in l]; print(told[-1])',
        'submit(llm_query_batched([told[-1] + "\\nWhich place?"])[0])',
    ),
    "Lena's mail": (
        'order = re.search(r"order (\\d+)", context["mail_from_lena.txt"])[1]; print(order)',
        'rows = context["orders.csv"].splitlines()\n'
        'submit(next(row.split(",")[1] for row in rows if row.startswith(order + ",")))',
    ),
    "status=open": (
        'found = [l.split()[0].removeprefix("ticket=") for l in context.splitlines()'
        ' if l.endswith("status=open")]; print(len(found))',
        'submit("\\n".join(found))',
    ),
}


def play(messages: Sequence[Message]) -> str:
    if "`context`" not in messages[0]["content"]:
        return "boathouse" if "boathouse" in messages[-1]["content"] else "no idea"
    asked = [m["content"] for m in messages if "Question: " in m["content"]][-1]
    question = asked.rpartition("Question: ")[2]
    first, second = next(turns for words, turns in PLAYS.items() if words in question)
    return f"```python\n{first if asked == messages[-1]['content'] else second}\n```"


@dataclass
class InputsModel(ScriptedModel):
    script: Script | None = play
