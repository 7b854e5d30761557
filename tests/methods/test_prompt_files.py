"""A prompt file of the user's own that is wrong is one clear line."""

from __future__ import annotations

from pathlib import Path

import pytest

from rlm_eval.errors import ConfigError
from rlm_eval.methods.prompts import load_prompt


@pytest.mark.parametrize(
    ("data", "message"),
    [
        ("turns:\n- role: user\n  text: café".encode("latin-1"), "is not in UTF-8: convert it"),
        (b"turns: [", "is no valid YAML: while parsing a flow node expected"),
        (b"turns: 3", "needs a list called turns"),
        (b"turns:\n- 3", "a turn has role and text"),
        (b"turns:\n- {role: user}", "a turn has role and text"),
        (b"turns:\n- {role: user, text: 3}", "a turn has role and text"),
        (b"turns:\n- {role: user, text: a, 3: b}", "a turn has role and text"),
    ],
)
def test_a_wrong_prompt_file_is_one_line(data: bytes, message: str, tmp_path: Path) -> None:
    path = tmp_path / "mine.yaml"
    path.write_bytes(data)
    with pytest.raises(ConfigError) as caught:
        load_prompt("direct", str(path))
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)
