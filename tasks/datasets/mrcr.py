"""mrcr: find the n-th of several alike pieces in a long conversation, and repeat it.

Source: OpenAI MRCR; a row's prompt is a list of chat messages, of which the last is the question
and the rest the context. Score: official. The reply must start with a given random prefix, else it
scores 0 (with text before it: ``score_anywhere``); then the score is the SequenceMatcher ratio
against the wanted piece. Only of replies of a million characters and more the end is left out of
the comparison: at most 0.01 is at stake.

Known shortcut: the wanted request is repeated word for word in the conversation, so code that
splits it into turns finds the piece without reading it (``code_oracle``).
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from itertools import pairwise

from rlm_eval.errors import ConfigError
from rlm_eval.records import Context

from ..sizing import document_spans
from .dataset import Fields, Row
from .fixed import Fixed


class MRCR(Fixed):
    name = scorer = "mrcr"
    columns = ("prompt", "answer", "random_string_to_prepend", "n_needles", "desired_msg_index")
    max_answer_tokens = 2048
    constant_answers = ("",)  # the prefix differs from row to row

    def items(self, row: Row) -> Iterator[Fields]:
        try:
            *turns, last = json.loads(row["prompt"])
            content = tuple(f"{turn['role']}: {turn['content']}" for turn in turns)
            question = last["content"]
        except (ValueError, KeyError, TypeError) as error:
            raise ConfigError(f"{self.name}: a prompt is no list of chat messages") from error
        reply = f"assistant: {row['answer'].removeprefix(row['random_string_to_prepend'])}"
        yield {
            "content": content,
            "question": question,
            "gold": (row["answer"], row["random_string_to_prepend"]),
            "group": f"{row['n_needles']}needle",
            "knobs": {
                "n_needles": row["n_needles"],
                "desired_msg_index": row["desired_msg_index"],
            },
            "evidence": document_spans(content, [content.index(reply)] if reply in content else []),
        }

    def code_oracle(self, question: str, context: Context) -> str | None:
        asked = re.search(r"Prepend (\S+) to the (\d+)\w* (\(1 indexed\) )?(.+?)\.", question)
        if asked is None or isinstance(context.content, str):
            return None
        wanted = asked[4].lower()
        turns = context.content
        hits = [
            reply.removeprefix("assistant: ")
            for request, reply in pairwise(turns)
            if request.startswith("user: ") and wanted in request.lower()
        ]
        place = int(asked[2]) - 1
        return asked[1] + hits[place] if place < len(hits) else None
