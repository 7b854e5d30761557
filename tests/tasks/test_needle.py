"""RULER's eight needle tasks: what is hidden is found again, at any length, the same everywhere."""

from __future__ import annotations

import hashlib
import json
import re
from itertools import islice
from pathlib import Path

import pytest

from rlm_eval.errors import ConfigError
from rlm_eval.records import Context
from rlm_eval.tasks.draws import Draws
from rlm_eval.tasks.generated import haystack
from rlm_eval.tasks.generated.haystack import ADJECTIVES, NOUNS
from rlm_eval.tasks.generated.needle import GRID, NEEDLE, VARIANTS, Needle, keys
from rlm_eval.tokens import NAMES, load_tokenizer


@pytest.mark.parametrize("variant", VARIANTS)
def test_golds_are_in_the_text_once_and_the_oracle_finds_them(variant: str) -> None:
    task = Needle(lengths=[3000], n=3, variant=variant)
    spec = VARIANTS[variant]
    for context, sample in task.build():
        assert len(sample.gold) == spec.queries * spec.values
        found = NEEDLE.findall(context.text)
        for gold in sample.gold:
            assert [value for _, value in found].count(gold) == 1
        hidden = spec.queries * spec.values + spec.fillers
        assert len(found) > 20 if spec.haystack == "needles" else len(found) == hidden
        oracle = task.code_oracle(sample.question, context)
        assert oracle is not None
        assert task.score(sample, oracle).value == 1.0
        assert task.score(sample, "I don't know").value == 0.0


@pytest.mark.parametrize("tokenizer", NAMES)
@pytest.mark.parametrize("variant", VARIANTS)
def test_a_sample_fills_its_target_and_never_passes_it(variant: str, tokenizer: str) -> None:
    tok = load_tokenizer(tokenizer)
    task = Needle(lengths=[700, 5000], n=4, variant=variant, tokenizer=tokenizer)
    for context, sample in task.build():
        used = tok.count(context.text) + tok.count(sample.question) + sample.max_answer_tokens
        assert sample.target_tokens - 100 < used <= sample.target_tokens
        assert sample.length_tokens == tok.count(context.text)


@pytest.mark.parametrize("tokenizer", NAMES)
@pytest.mark.parametrize("variant", ["single_1", "single_2", "multikey_2", "multikey_3"])
def test_counts_of_pieces_add_up_exactly(variant: str, tokenizer: str) -> None:
    """Beyond EXACT_UP_TO the length is the sum of the pieces: here against a full count."""
    tok = load_tokenizer(tokenizer)
    ((context, sample),) = Needle(
        lengths=[300_000], n=1, variant=variant, tokenizer=tokenizer
    ).build()
    assert 0 <= sample.length_tokens - tok.count(context.text) <= 2


def test_depth_grid_puts_the_needle_where_it_says() -> None:
    depths = [0, 0.25, 0.5, 1]
    task = Needle(lengths=[4000], n=4, variant="single_1", depths=depths)
    for depth, (context, sample) in zip(depths, task.build(), strict=True):
        assert sample.knobs["depth"] == depth
        before = context.text.partition("One of the special")[0]
        assert len(before) / len(context.text) == pytest.approx(depth, abs=0.03)


def test_depths_come_from_the_grid_of_forty() -> None:
    samples = [sample for _, sample in Needle(lengths=[2000], n=40).build()]
    depths = {sample.knobs["depth"] for sample in samples}
    assert depths <= {round(depth, 4) for depth in GRID}
    assert len(depths) > 15


def test_first_samples_do_not_depend_on_n_and_seeds_differ() -> None:
    few = [s.id for _, s in Needle(lengths=[2000], n=2).build()]
    more = [s.id for _, s in Needle(lengths=[2000, 3000], n=4).build()]
    assert more[:2] == few
    other = [s.id for _, s in Needle(lengths=[2000], n=2, seed=1).build()]
    assert not set(other) & set(few)


def test_calibration_is_disjoint_from_the_run() -> None:
    task = Needle(lengths=[2000], n=16)
    run = {s.gold for _, s in task.build()}
    calibration = {s.gold for s in task.calibration(2000)}
    assert len(calibration) == 16
    assert not run & calibration


@pytest.mark.parametrize(
    ("variant", "digest"),
    [
        ("single_1", "6ea3e3ca462d4247 2afcad6edc4ce23f"),
        ("single_2", "ce6da42505265218 b4460860df1bdc77"),
        ("multikey_3", "179ef17a2d8fac6c 18cd14aa9ac7679d"),
        ("multiquery", "d63fb94a5b688872 856263e3aee0df9c"),
    ],
)
def test_same_seed_same_bytes_everywhere(variant: str, digest: str) -> None:
    ((context, sample),) = Needle(lengths=[4096], n=1, seed=5, variant=variant).build()
    assert f"{context.id} {sample.id}" == digest
    assert Context.of(context.content).id == context.id


def test_word_keys_are_distinct_even_past_the_pairs() -> None:
    pairs = len(ADJECTIVES) * len(NOUNS)
    found = list(islice(keys("words", Draws("t")), pairs + 500))
    assert len(set(found)) == len(found)
    assert found[-1].count("-") == 2


def test_haystack_file_takes_ruler_json_and_plain_text(tmp_path: Path) -> None:
    text = "\n".join(f"Cat {i} sleeps a lot. Dogs do not! Nobody knows why." for i in range(70))
    plain, ruler = tmp_path / "essays.txt", tmp_path / "essays.json"
    plain.write_text(text)
    ruler.write_text(json.dumps({"text": text}))
    for path in (plain, ruler):
        ((context, _),) = Needle(lengths=[1000], n=1, haystack_file=str(path)).build()
        assert len(re.findall(r"Cat \d+ sleeps a lot\.", context.text)) > 40
        with pytest.raises(ConfigError, match="has 9000, but no sentence of the text is used"):
            Needle(lengths=[9000], n=1, haystack_file=str(path))


@pytest.mark.parametrize(
    ("name", "data", "why"),
    [
        ("a.json", b'{"text": null}', 'must be JSON with a text, {"text": …}'),
        ("a.json", b'["text"]', 'must be JSON with a text, {"text": …}'),
        ("a.json", b"{", 'must be JSON with a text, {"text": …}'),
        ("a.txt", "Où est-elle ?".encode("latin-1"), "is not in UTF-8 (invalid start byte)"),
    ],
)
def test_a_haystack_file_that_is_no_text_says_what_is_wrong(
    name: str, data: bytes, why: str, tmp_path: Path
) -> None:
    path = tmp_path / name
    path.write_bytes(data)
    with pytest.raises(ConfigError) as caught:
        Needle(lengths=[1000], n=1, haystack_file=str(path))
    assert f"haystack_file {path} {why}" in str(caught.value)


def test_insert_keeps_sentences_whole_and_in_order() -> None:
    pieces = ["A b.", " C d.\n", "E f.", " G h.\n"]
    assert haystack.insert(pieces, [(0.25, "N.")]) == "A b. N. C d.\nE f. G h."
    assert haystack.insert(pieces, [(0.5, "N."), (0.5, "M.")]).startswith("A b. C d.\nN.\nM.\nE f.")
    assert haystack.insert(pieces, [(1.0, "N.")]).endswith("G h.\nN.")


@pytest.mark.parametrize(
    ("knobs", "message"),
    [
        ({"lengths": [200]}, "the least is"),
        ({"lengths": [30_000_000], "variant": "multikey_2"}, "the most is"),
        ({"lengths": [10**12]}, "the most is"),
        ({"lengths": []}, "must be a list"),
        ({"lengths": [0]}, "the least is"),
        ({"n": 0}, "n must be"),
        ({"variant": "single_9"}, "single_1"),
        ({"haystack": "hay"}, "noise"),
        ({"depths": [2]}, "depths must be at most 1"),
        ({"haystack_file": "/nowhere.txt"}, "can't be read"),
        ({"tokenizer": "gpt2"}, "cl100k_base"),
    ],
)
def test_bad_knobs_are_refused_at_once(knobs: dict[str, object], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        Needle(**{"lengths": [4000], "n": 1, **knobs})  # type: ignore[arg-type]


def test_an_edited_haystack_is_another_source(tmp_path: Path) -> None:
    path = tmp_path / "essays.txt"
    found = []
    for word in ("Cat", "Dog"):
        path.write_text("\n".join(f"{word} {i} sleeps a lot." for i in range(300)))
        task = Needle(lengths=[1000], n=1, haystack_file=str(path))
        ((context, _),) = task.build()
        assert f"{word} 1" in context.text
        found.append(task.source)
        assert task.source["haystack_file"] == str(path)
        assert task.source["sha256"] == hashlib.sha256(path.read_bytes()).hexdigest()
    assert found[0] != found[1]
    assert Needle(lengths=[1000], n=1).source is None
    assert Needle(lengths=[1000], n=1, variant="single_1", haystack_file="/nowhere").source is None


@pytest.mark.parametrize("words", ["anarchism originated as a term ", "他们在城里等了很久，"])
def test_a_text_without_sentences_fills_a_haystack(words: str, tmp_path: Path) -> None:
    path = tmp_path / "text8"
    path.write_text(words * 3000)
    task = Needle(lengths=[4096, 8192], n=2, haystack_file=str(path))
    for context, sample in task.build():
        assert sample.length_tokens > 0.7 * sample.target_tokens
        assert sample.gold[0] in context.text
