"""No test meets what a developer or a machine has set: servers, proxies, keys, git, the terminal.

Done as this is imported: before any test, in each process of pytest-xdist too.
"""

from __future__ import annotations

import os
import re

#: pip's own settings stay: they say where packages come from.
THEIRS = re.compile(
    r"(?!PIP_).*_(PROXY|API_KEY|BASE_URL|API_BASE)|GIT_.*|NO_COLOR|FORCE_COLOR|COLUMNS",
    re.IGNORECASE,
)
for name in filter(THEIRS.fullmatch, list(os.environ)):
    del os.environ[name]
os.environ.update(TERM="xterm", GIT_CONFIG_GLOBAL=os.devnull, GIT_CONFIG_SYSTEM=os.devnull)
