"""What stands in a reply: thoughts in all their forms, code in all shapes of fences."""

from __future__ import annotations

import json
import time
import warnings
from pathlib import Path

import pytest

from rlm_eval.methods.agent.chat import parse_reply
from rlm_eval.methods.agent.paper_final import read_final
from rlm_eval.models.replies import said

CASES = [json.loads(line) for line in (Path(__file__).parent / "code_blocks.jsonl").open()]
CODE = "```python\nsubmit('right')\n```"


@pytest.mark.parametrize(
    ("reply", "expected"),
    [
        ("<think>A, B or C</think>\n\nB", "B"),
        ("First <think>A</think> then <THINK kind='x'>C</THINK> B", "First  then  B"),
        ("<Thinking>\nA\n</Thinking>\nB", "B"),
        ("<thought>A</thought>B", "B"),
        ("<reasoning effort=high>A</reasoning>B", "B"),
        ("<think>\n\n</think>\n\nB", "B"),
        ("A, maybe C</think>\n\nB", "B"),
        ("<think>A</think> more A</think>B", "B"),
        ("<think>A <think>C</think> D</think>B", "B"),
        ("<think>I open <think> once more</think>B", "B"),
        ('<think>I end with `</think>`, or "</think>"</think>B', "B"),
        ("[THINK]A[/THINK]B", "B"),
        ("◁think▷A◁/think▷B", "B"),
        ("<|START_THINKING|>A<|END_THINKING|><|START_RESPONSE|>B<|END_RESPONSE|>", "B"),
        ("<|begin_of_thought|>A<|end_of_thought|><|begin_of_solution|>B<|end_of_solution|>", "B"),
        ("<seed:think>A</seed:think>B", "B"),
        ("<unused94>thought\nA<unused95>B", "B"),
        (
            "<|channel|>analysis<|message|>A or C<|end|><|start|>assistant<|channel|>final"
            "<|message|>B<|return|>",
            "B",
        ),
        (
            "<|channel|>analysis<|message|>A<|end|><|start|>assistant<|channel|>commentary"
            "<|message|>C<|end|><|start|>assistant<|channel|>final<|message|>B",
            "B",
        ),
        ("A or C<|end|><|start|>assistant<|channel|>final<|message|>B", "B"),
        ("analysisWe weigh A and C.assistantfinalB", "B"),
        (f"<think>\n```python\nsubmit('wrong')\n```\n</think>\n{CODE}", CODE),
        (f"<think>\n```python\nsubmit('wrong')\n</think>\n{CODE}", CODE),
        (f"perhaps\n```python\nsubmit('wrong')\n</think>\n{CODE}", CODE),
        ("<think>A</think>", ""),
    ],
)
def test_thoughts_are_taken_out(reply: str, expected: str) -> None:
    assert said(reply) == (expected, True)


@pytest.mark.parametrize(
    "reply",
    [
        "<think>It may be A, B or C",
        "B? <think>or A",
        "<think>A</think>B<think>or C",
        "[THINK]A",
        "◁think▷A",
        "<|channel|>analysis<|message|>A or C",
        "<|channel|>analysis",
        "analysisWe weigh A and C",
        f"<think>\n{CODE}",
    ],
)
def test_a_thought_without_its_end_says_nothing_yet(reply: str) -> None:
    assert said(reply) == ("", False)


@pytest.mark.parametrize(
    "reply",
    [
        "B",
        "an analysis of A\r\nand B",
        "5 < think > 3",
        "The tag is `<think>`, or in full `<think>…</think>`.",
        'It says "<think>" there.',
        '```python\nmark = "<think>"\nprint(context.split(mark)[0])\n```',
        '```python\nprompt = """\n<think>\nplan\n</think>\n"""\nprint(llm_query(prompt))\n```',
        "```python\n# </think> ends it\nprint(1)\n```",
        "Such a record:\n```xml\n<think>x</think>\n```\nholds B.",
    ],
)
def test_a_tag_that_is_spoken_of_is_no_thought(reply: str) -> None:
    assert said(reply) == (reply, True)


@pytest.mark.parametrize("case", CASES, ids=lambda case: case["case"])
def test_code_is_found_in_the_fences_that_models_write(case: dict[str, object]) -> None:
    assert list(parse_reply(str(case["reply"])).blocks) == case["blocks"]


TEXT = 'ask = f"""Text:\n```\n{context[:9]}\n```\nWhich?"""\nprint(ask)'


@pytest.mark.parametrize(
    ("reply", "blocks"),
    [
        (f"```repl\n{TEXT}\n```", [TEXT]),
        (f"```python\n{TEXT}\n```\nThen\n```python\nsubmit(1)\n```", [TEXT, "submit(1)"]),
        (f"````python\n{TEXT}\n````", [TEXT]),
        (f"~~~python\n{TEXT}\n~~~", [TEXT]),
        (f"```python\n{TEXT}", [TEXT]),
        (f"```python\r\n{TEXT}\r\n```".replace("\n", "\r\n").replace("\r\r", "\r"), [TEXT]),
        ('```python\ndef f():\n    """Like\n    ```python\n    f()\n    ```\n    """\nf()\n```',
         ['def f():\n    """Like\n    ```python\n    f()\n    ```\n    """\nf()']),
        ("```python\ns = '''\n~~~\n```\n~~~'''\n```", ["s = '''\n~~~\n```\n~~~'''"]),
        ("```python\nx = (1\n```\nand\n```python\nprint(2)\n```", ["x = (1", "print(2)"]),
        ("```python\nprint(1)```\nThen:\n```python\nprint(2)\n```", ["print(1)", "print(2)"]),
        ("```python\nprint(1)\n```python\nprint(2)\n```", ["print(1)", "print(2)"]),
        ("```python\nx = 1  # not ```\nprint(x)\n```", ["x = 1  # not ```\nprint(x)"]),
        ("- step\n  - ```python\n    for x in y:\n        print(x)\n    ```",
         ["for x in y:\n    print(x)"]),
        ("1) ```python\n   x = 1\n   ```\n2) ```py\n   print(x)\n   ```", ["x = 1", "print(x)"]),
        ("> ```python\n> x = 1\n> print(x)\n> ```", ["x = 1\nprint(x)"]),
        ("  ```python\n  s = '''\nleft\n'''\n  ```", ["s = '''\nleft\n'''"]),
        ("```python\n    x = 1\n    print(x)\n```", ["x = 1\nprint(x)"]),
        ('"```python\nprint(1)\n```"', ["print(1)"]),
        ("```{python}\nprint(1)\n```", ["print(1)"]),
        ("```python3.11\nprint(1)\n```", ["print(1)"]),
        ("I answer in ```python fences.\n```python\nprint(1)\n```", ["print(1)"]),
        ("Use ```print(1)``` here", []),
        ("```json\n{\"a\": 1}```\n```python\nprint(1)\n```", ["print(1)"]),
        ("```markdown\n# T\n```python\nprint(1)\n```\n```", []),
        ("```bash\nls\n```\n```python\nprint(1)\n```", ["print(1)"]),
    ],
)  # fmt: skip
def test_more_shapes_of_fences(reply: str, blocks: list[str]) -> None:
    assert list(parse_reply(reply).blocks) == blocks


def test_no_code_is_read_in_a_thought_nor_as_a_statement() -> None:
    parsed = parse_reply(f"<think>FINAL(wrong)\n{CODE.replace('right', 'wrong')}</think>FINAL(B)")
    assert (parsed.blocks, parsed.prose) == ((), ("FINAL(B)",))
    assert parse_reply(f"```python\n{TEXT}\nFINAL(x)\n```").prose == ("", "")


def test_a_models_backslashes_are_no_warnings_to_the_user() -> None:
    """From Python 3.12 on its parser would write a line on standard error for each."""
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        assert parse_reply("```python\nx = '\\d'\n```").blocks == ("x = '\\d'",)
        assert read_final(["FINAL('\\d')"], lambda name: None, failed=False) == "\\d"
        assert read_final(["FINAL(the '\\d')"], lambda name: None, failed=False) == "the '\\d'"
    assert {warning.category for warning in told} == {DeprecationWarning}


@pytest.mark.parametrize(
    "reply",
    [
        "```\n" * 30_000,
        "```python x\n" * 20_000,
        "`" * 100_000 + "x`",
        "``` x " * 30_000,
        "~~~\n" + "```\n" * 20_000,
        "<think>" * 30_000,
        "`<think>` " * 20_000,
        "```python\n" + "(" * 100_000 + "\n```",
    ],
    ids=range(8),
)
def test_a_degenerate_reply_takes_no_time(reply: str) -> None:
    started = time.process_time()
    parse_reply(reply)
    assert time.process_time() - started < 15
