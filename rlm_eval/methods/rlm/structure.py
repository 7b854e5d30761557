"""The form of a context, told to the root as metadata: it can't see the text itself."""

from __future__ import annotations

import json
import re
from collections import Counter

#: A field at a line's start or after a separator: a short name, a colon, a space.
_FIELD = re.compile(r"(?:^|(?P<separator>\s*(?:\|\|?|;|\t|,)\s*))(?P<name>[A-Z][\w-]{0,20}): ")
_LINES_READ = 400
#: A line's form counts as the text's when at least this share of the lines has it.
_SHARE = 0.7


def structure_of(text: str) -> str:
    """``records, one a line: Date: … || User: … || Note: …``, ``JSON lines with the keys a, b``
    or ``running text``, judged by the first 400 lines that aren't blank."""
    lines = [line for line in text[: _LINES_READ * 400].splitlines() if line.strip()][:_LINES_READ]
    if len(lines) < 3:
        return "running text"
    for form_of, said in (
        (_json_keys, "JSON lines with the keys"),
        (_fields, "records, one a line:"),
    ):
        forms = Counter(form for line in lines if (form := form_of(line)))
        if forms:
            form, count = forms.most_common(1)[0]
            if count >= _SHARE * len(lines):
                return f"{said} {form}"
    return "running text"


def _fields(line: str) -> str:
    """A line's field names with their values left out; empty unless there are at least two."""
    found = list(_FIELD.finditer(line))
    if len(found) < 2:
        return ""
    return "".join(f"{m['separator'] or ''}{m['name']}: …" for m in found)


def _json_keys(line: str) -> str:
    if not line.startswith("{"):
        return ""
    try:
        value = json.loads(line)
    except ValueError:
        return ""
    return ", ".join(value) if isinstance(value, dict) else ""
