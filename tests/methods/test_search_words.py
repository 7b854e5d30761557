"""BM25's words in every script: what a question names is found, whatever it is written in."""

from __future__ import annotations

from collections.abc import Sequence

import bm25s
import pytest

from rlm_eval.methods.fitting import Chunk, chunks_of
from rlm_eval.methods.rag.ranking import Bm25, words
from rlm_eval.methods.tools import Toolset

#: Script → passages, and questions each with the passage that answers it.
SCRIPTS: dict[str, tuple[Sequence[str], dict[str, int]]] = {
    "Chinese": (
        ("张伟住在北京的东城区。", "李娜每天早上喝绿茶。", "图书馆在河的对岸，周一关门。"),
        {"李娜喝什么？": 1, "图书馆什么时候关门？": 2, "谁住在北京？": 0, "茶": 1},
    ),
    "Japanese": (
        ("田中さんの猫は黒い。", "駅前のカフェは九時に開く。", "会議はｵﾝﾗｲﾝで行われます。"),
        {"猫の色は？": 0, "カフェは何時に開くか": 1, "会議はどこで？": 2, "オンライン": 2},
    ),
    "Korean": (
        ("지은이는 부산에서 일한다.", "회의는 목요일에 열린다.", "고양이의 이름은 나비다."),
        {"부산에는 누가 있나?": 0, "회의가 언제인가?": 1, "고양이는?": 2},
    ),
    "Thai": (
        ("สมชายอาศัยอยู่ที่เชียงใหม่", "ร้านอาหารเปิดตอนเก้าโมง", "แมวของเธอชื่อทองคำ"),
        {"ใครอยู่เชียงใหม่": 0, "ร้านเปิดกี่โมง": 1, "แมวชื่ออะไร": 2},
    ),
    "Khmer": (
        ("សុខារស់នៅភ្នំពេញ", "ហាងបើកម៉ោងប្រាំបួន", "ឆ្មារបស់នាងពណ៌ខ្មៅ"),
        {"អ្នកណារស់នៅភ្នំពេញ": 0, "ហាងបើកម៉ោងប៉ុន្មាន": 1, "ឆ្មាពណ៌អ្វី": 2},
    ),
    "Lao": (
        ("ບຸນມີຢູ່ວຽງຈັນ", "ຮ້ານເປີດເກົ້າໂມງ", "ແມວຂອງນາງສີດຳ"),
        {"ໃຜຢູ່ວຽງຈັນ": 0, "ຮ້ານເປີດຈັກໂມງ": 1, "ແມວສີຫຍັງ": 2},
    ),
    "Arabic": (
        ("يَعيشُ أحمد في القاهرة.", "يفتح المتجر الساعة ٩.", "اسم القطة لولو."),
        {"أين يعيش احمد؟": 0, "المتجر 9": 1, "القطة": 2},
    ),
    "Devanagari": (
        ("की दुकान नौ बजे खुलती है", "कि वह दिल्ली में रहता है", "का नाम मोती है"),
        {"दुकान": 0, "दिल्ली": 1, "मोती": 2},
    ),
    "one character": (
        ("Box A holds the ring.", "Box B holds the coin.", "Box 7 holds the map.", "Box Ω: ink"),
        {"What is in box B?": 1, "What is in box 7?": 2, "Which is in A?": 0, "box ω": 3},
    ),
    "accents and width": (
        ("Le café de Zoë", "Code ＡＢ１２", "Straße nach Łódź", "Tiếng Việt"),
        {"cafe\u0301 ZOE": 0, "ab12": 1, "STRASSE": 2, "tieng viet": 3},
    ),
}


def plainly(passages: Sequence[str], question: str) -> int | None:
    """The first passage by bm25s's own words, None where none has any of the question's."""
    corpus = bm25s.tokenize(list(passages), stopwords="en", show_progress=False)
    query = bm25s.tokenize([question], stopwords="en", show_progress=False)
    if not query.vocab:
        return None
    scorer = bm25s.BM25()
    scorer.index(corpus, show_progress=False)
    scores = scorer.get_scores(list(query.vocab))
    return int(scores.argmax()) if scores.max() > 0 else None


@pytest.mark.parametrize("script", SCRIPTS)
def test_what_is_asked_for_is_found_in_every_script(script: str) -> None:
    passages, questions = SCRIPTS[script]
    index = Bm25([Chunk(text, n, 1) for n, text in enumerate(passages)])
    found = {question: index.matching(question, 1)[0].start for question in questions}
    assert found == questions
    before = sum(plainly(passages, q) == n for q, n in questions.items()) / len(questions)
    print(f"{script}: {before:.0%} → 100%")
    assert before < 1, "words split at spaces would do: the case shows nothing"


@pytest.mark.parametrize(
    ("text", "read"),
    [
        ("The cat's on a mat; don't say it", ["cat", "mat", "don", "say"]),
        ("user_12, x-7 and A", ["user_12", "x", "7", "a"]),
        ("東京へ", ["東京", "京へ", "東", "京"]),
        ("猫", ["猫"]),
        ("ア", ["ア"]),
        ("물을", ["물을", "물", "을"]),
        ("ที่นี่", ["ที่นี่"]),
        ("हिन्दी", ["हिन्दी"]),
        ("١٢ ๑๒", ["12", "12"]),
        ("na\u200bive so\u00adft", ["naive", "soft"]),
        ("\ud800 … ---", []),
        ("", []),
    ],
)
def test_the_words_of_a_text(text: str, read: list[str]) -> None:
    assert words(text) == read


def test_a_digit_that_python_does_not_know_yet_is_a_word() -> None:
    (word,) = words("\U00011f51")
    assert word in ("1", "\U00011f51")


def test_the_repl_searches_by_the_same_words() -> None:
    content = ("张伟住在北京。" * 3, "李娜喝绿茶。" * 3)
    search = Toolset(["search"], 64).over(content)
    assert search.search("绿茶", 2) == [f"Document 2:\n{content[1]}"]


def test_documents_in_another_order_have_an_index_of_their_own() -> None:
    content = {"a": "The lamp is red.", "b": "The boat is blue, and long."}
    toolset = Toolset(["search"], 64)
    for documents in (content, dict(reversed(content.items()))):
        tools = toolset.over(documents)
        ((start, end),) = tools.seen(tools.search("boat", 1))
        assert "".join(documents.values())[start:end] == content["b"]


def test_a_long_text_without_spaces_is_cut_at_its_sentences() -> None:
    text = "张伟住在北京的东城区，每天早上去公园。" * 20
    pieces = chunks_of(text, 60)
    assert len(pieces) > 5
    assert {piece.text[-1] for piece in pieces} == {"。"}
