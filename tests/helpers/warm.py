"""Imported once by the fork server of ``attempts``: what every attempt would load for itself."""

from __future__ import annotations

import gc
import importlib
import os
import threading

NAMES = (
    *("h2.connection", "httpcore", "hydra", "litellm._service_logger", "litellm.proxy._types"),
    *("openai.lib.streaming.chat", "openai.resources.chat.completions", "pandas.io.formats.csvs"),
    *("pyarrow.parquet", "pytest", "rlm_eval.analysis.summary"),
    *("rlm_eval.methods.direct", "rlm_eval.methods.rlm", "rlm_eval.models.litellm_client"),
    *("rlm_eval.commands.resume", "rlm_eval.runs.run", "rlm_eval.tasks.generated.needle"),
    *("scipy.stats", "tiktoken_ext.openai_public"),
)

# litellm would look for prices on the network, on a thread that no fork survives.
os.environ["LITELLM_LOCAL_MODEL_COST_MAP"] = "True"
for name in NAMES:
    importlib.import_module(name)
for name in ("cl100k_base", "o200k_base"):
    importlib.import_module("rlm_eval.tokens").load_tokenizer(name).count("warm")
if threading.active_count() != 1:
    raise RuntimeError(f"a fork would lose {threading.enumerate()[1:]}")
# What is here is never garbage, and looking at it would copy its pages into every fork.
gc.collect()
gc.freeze()
