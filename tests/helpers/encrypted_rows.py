"""Rows in the form of BrowseComp-Plus, encrypted with a canary made up for tests."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rlm_eval.tasks.datasets.browsecomp_plus import encrypt

CANARY = "a canary made up for these tests"


def document(name: str, text: str) -> dict[str, str]:
    page = f"---\ntitle: {name}\n---\n{text}"
    return {"docid": f"id-{name}", "text": page, "url": f"https://{name}.example"}


def plain_row(i: int, negatives: int = 4, words: int = 30) -> dict[str, Any]:
    """Question ``i``: its gold document holds the answer and is evidence too, a second document
    is evidence only; all of its texts hold a word that nothing else does."""
    gold = document(f"gold{i}", f"zinnia{i} The harbour of town{i} was built by Mason{i}. ")
    other = document(f"evidence{i}", f"zinnia{i} The town with a blue clock is town{i}. ")
    filler = f"zinnia{i} sentence about nothing much, " * words
    return {
        "query_id": str(700 + i),
        "query": f"zinnia{i}: who built the harbour of the town with a blue clock?",
        "answer": f"Mason{i} of zinnia{i}",
        "gold_docs": [gold],
        "evidence_docs": [gold, other],
        "negative_docs": [document(f"negative{i}.{k}", filler) for k in range(negatives)],
    }


def encrypted(value: Any, canary: str = CANARY) -> Any:
    """``value`` with every text in it encrypted, the query's id aside."""
    if isinstance(value, str):
        return encrypt(value, canary)
    if isinstance(value, list):
        return [encrypted(part, canary) for part in value]
    return {k: v if k == "query_id" else encrypted(v, canary) for k, v in value.items()}


def write_rows(path: Path, rows: Sequence[Any]) -> str:
    """A file of encrypted rows: parquet by its suffix, else JSONL."""
    hidden = [encrypted(row) for row in rows]
    if path.suffix == ".parquet":
        import pyarrow as pa
        import pyarrow.parquet as pq

        pq.write_table(pa.Table.from_pylist(hidden), path)
    else:
        path.write_text("\n".join(map(json.dumps, hidden)))
    return str(path)
