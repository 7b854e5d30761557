"""The child process that serves a GGUF file with llama.cpp on a loopback port.

Run as ``python -m rlm_eval.models.local.llama_server`` with its settings as a line of JSON on
standard input. One line on standard output is its address; the rest is llama.cpp's log on standard
error. It ends when its standard input does: with its run, however that ended.
"""

from __future__ import annotations

import json
import os
import sys
from typing import Any


def serve(settings: dict[str, Any]) -> Any:
    """llama.cpp's server, which runs in this process as long as the object lives."""
    import xllamacpp

    params = xllamacpp.CommonParams()
    params.model.path = settings["path"]
    params.hostnames = ["127.0.0.1"]
    params.port = 0
    params.api_keys = [settings["api_key"]]
    params.n_parallel = settings["slots"]
    params.n_ctx = settings["pool_tokens"]
    params.kv_unified = True
    params.kv_unified_per_slot = settings["context_window"]
    # A last message of the assistant's is answered, as OpenAI's API does, not gone on with.
    params.prefill_assistant = False
    params.cache_ram_mib = settings["cache_mb"]
    params.cpuparams.n_threads = settings["threads"]
    params.cpuparams_batch.n_threads = settings["threads"]
    params.n_gpu_layers = settings["gpu_layers"]
    params.no_extra_bufts = not settings["repack"]
    return xllamacpp.Server(params)


if __name__ == "__main__":
    server = serve(json.loads(sys.stdin.readline()))
    print(server.listening_address, flush=True)
    sys.stdin.read()
    # llama.cpp's own threads are still running: nothing is left to save, so leave at once.
    os._exit(0)
