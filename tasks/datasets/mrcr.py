"""mrcr: find the n-th of several alike pieces in a long conversation, and repeat it.

Source: OpenAI MRCR at the revision with the corrected answers of 5 December 2025; a row's prompt is
a list of chat messages, of which the last is the question and the rest the context. Bins are the
official ones: tokens (o200k) of all messages and the answer, up to 8192, 16384 … 1048576. Score:
official. The reply must start with a given random prefix, else it scores 0 (with text before it:
``score_anywhere``); then the score is the SequenceMatcher ratio against the wanted piece. Only of
replies of a million characters and more the end is left out of the comparison: at most 0.01 is at
stake.

What differs: officially the messages are the model's own chat. Here they are the context, which
methods cut, search or read by code: a document a message, in order, each beginning with ``user: ``
or ``assistant: ``; a method that reads all of it puts them into one message.

Known shortcut: the wanted request is repeated word for word in the conversation, so code that
splits it into turns finds the piece without reading it (``code_oracle``).
"""

from __future__ import annotations

import re
from itertools import pairwise
from typing import Literal

from pydantic import Json

from rlm_eval.records import Context

from ..task import document_spans
from .dataset import AnyText, Fields, Fixed, Row, Text, many, shape

MESSAGE = shape(role=Literal["system", "user", "assistant"], content=AnyText)


class MRCR(Fixed):
    name = scorer = "mrcr"
    schema = shape(
        prompt=Json[many(MESSAGE, 2)],  # type: ignore[misc]
        answer=Text,
        random_string_to_prepend=Text,
        n_needles=int,
        desired_msg_index=int,
    )
    max_answer_tokens = 2048

    def item(self, row: Row) -> Fields:
        *turns, last = row["prompt"]
        content = tuple(f"{turn['role']}: {turn['content']}" for turn in turns)
        reply = f"assistant: {row['answer'].removeprefix(row['random_string_to_prepend'])}"
        return {
            "content": content,
            "question": last["content"],
            "gold": (row["answer"], row["random_string_to_prepend"]),
            "group": f"{row['n_needles']}needle",
            "knobs": {"n_needles": row["n_needles"], "desired_msg_index": row["desired_msg_index"]},
            "evidence": document_spans(content, [content.index(reply)] if reply in content else []),
        }

    def size(self, row: Row) -> int:
        texts = (*(turn["content"] for turn in row["prompt"]), row["answer"])
        return sum(map(self._tok.count, texts))

    def code_oracle(self, question: str, context: Context) -> str | None:
        asked = re.search(r"Prepend (\S+) to the (\d+)\w* (\(1 indexed\) )?(.+?)\.", question)
        if asked is None or isinstance(context.content, str):
            return None
        hits = [
            asked[1] + reply.removeprefix("assistant: ")
            for request, reply in pairwise(context.content)
            if request.startswith("user: ") and asked[4].lower() in request.lower()
        ]
        place = int(asked[2]) - 1
        return hits[place] if place < len(hits) else None
