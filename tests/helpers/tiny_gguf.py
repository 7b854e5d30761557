"""A language model of 115 KB that llama.cpp really serves: one layer of random weights, a
vocabulary of bytes. It talks rubbish, quickly, and so stands in wherever only the serving matters.

The file format: https://github.com/ggml-org/ggml/blob/master/docs/gguf.md
"""

from __future__ import annotations

import random
import struct
from pathlib import Path

WIDTH, INNER, HEADS, TRAINED_WINDOW = 32, 64, 4, 4096
ALIGNMENT = 32
_UINT32, _INT32, _FLOAT32, _STRING, _ARRAY = 4, 5, 6, 8, 9
_UNKNOWN, _CONTROL, _BYTE, _NORMAL = 2, 3, 6, 1


def _string(text: str) -> bytes:
    data = text.encode()
    return struct.pack("<Q", len(data)) + data


def _entry(key: str, value: str | int | float | list[str] | list[int] | list[float]) -> bytes:
    head = _string(key)
    if isinstance(value, list):
        kind = {str: _STRING, int: _INT32, float: _FLOAT32}[type(value[0])]
        items = b"".join(_value(item, kind) for item in value)
        return head + struct.pack("<IIQ", _ARRAY, kind, len(value)) + items
    kind = {str: _STRING, int: _UINT32, float: _FLOAT32}[type(value)]
    return head + struct.pack("<I", kind) + _value(value, kind)


def _value(value: str | int | float, kind: int) -> bytes:
    if isinstance(value, str):
        return _string(value)
    return struct.pack({_UINT32: "<I", _INT32: "<i", _FLOAT32: "<f"}[kind], value)


def _vocabulary() -> tuple[list[str], list[int]]:
    """Three specials, the 256 bytes, and the space mark of SentencePiece."""
    tokens = ["<unk>", "<s>", "</s>", *(f"<0x{i:02X}>" for i in range(256)), "\u2581"]
    return tokens, [_UNKNOWN, _CONTROL, _CONTROL, *[_BYTE] * 256, _NORMAL]


def _shapes(vocabulary: int) -> dict[str, tuple[int, ...]]:
    square, up, down = (WIDTH, WIDTH), (WIDTH, INNER), (INNER, WIDTH)
    layer = {"attn_q": square, "attn_k": square, "attn_v": square, "attn_output": square}
    layer |= {"ffn_gate": up, "ffn_up": up, "ffn_down": down}
    norms: dict[str, tuple[int, ...]] = {"attn_norm": (WIDTH,), "ffn_norm": (WIDTH,)}
    return {
        "token_embd.weight": (WIDTH, vocabulary),
        "output_norm.weight": (WIDTH,),
        "output.weight": (WIDTH, vocabulary),
        **{f"blk.0.{name}.weight": shape for name, shape in (layer | norms).items()},
    }


def write_tiny_gguf(path: Path) -> Path:
    """Write the model to ``path``: the same bytes every time."""
    tokens, types = _vocabulary()
    entries = [
        _entry("general.architecture", "llama"),
        _entry("general.name", "tiny"),
        _entry("llama.context_length", TRAINED_WINDOW),
        _entry("llama.embedding_length", WIDTH),
        _entry("llama.block_count", 1),
        _entry("llama.feed_forward_length", INNER),
        _entry("llama.attention.head_count", HEADS),
        _entry("llama.attention.layer_norm_rms_epsilon", 1e-5),
        _entry("llama.rope.dimension_count", WIDTH // HEADS),
        _entry("tokenizer.ggml.model", "llama"),
        _entry("tokenizer.ggml.tokens", tokens),
        _entry("tokenizer.ggml.scores", [0.0] * len(tokens)),
        _entry("tokenizer.ggml.token_type", types),
        _entry("tokenizer.ggml.bos_token_id", 1),
        _entry("tokenizer.ggml.eos_token_id", 2),
    ]
    rng, infos, data = random.Random(0), b"", b""
    shapes = _shapes(len(tokens))
    for name, shape in shapes.items():
        size = shape[0] * (shape[1] if len(shape) > 1 else 1)
        dims = struct.pack(f"<I{len(shape)}Q", len(shape), *shape)
        infos += _string(name) + dims + struct.pack("<IQ", 0, len(data))
        values = [1.0] * size if "norm" in name else [rng.gauss(0, 0.3) for _ in range(size)]
        data += struct.pack(f"<{size}f", *values)
        data += bytes(-len(data) % ALIGNMENT)
    head = b"GGUF" + struct.pack("<IQQ", 3, len(shapes), len(entries)) + b"".join(entries) + infos
    path.write_bytes(head + bytes(-len(head) % ALIGNMENT) + data)
    return path
