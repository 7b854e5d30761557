"""Inputs of every kind, one question each: a service's log, source code, a chat, mixed material in
one context, and a question whose answer is longer than a model's output limit.

    python tests/benchmarks/inputs.py make          # writes tests/inputs.jsonl
    python -m rlm_eval task=exported task.path=tests/inputs.jsonl method=[rlm]
    python tests/benchmarks/inputs.py table RUN > results/published/benchmarks/inputs.md

Texts and names are made up. What a model did is in the run's trajectories.
"""

from __future__ import annotations

import json
import sys
import textwrap
from collections.abc import Iterator
from pathlib import Path

from rlm_eval.analysis.load import load_results
from rlm_eval.records import Content, Context, Sample
from rlm_eval.tasks.datasets.exported import to_row
from rlm_eval.tasks.draws import Draws
from rlm_eval.tokens import load_tokenizer

#: What the RLM's default lets one reply take.
TURN_TOKENS = 384
INPUTS = Path(__file__).parents[1] / "inputs.jsonl"


def log(draws: Draws) -> tuple[Content, str, str]:
    """A morning of a photo service. One upload fails for want of space."""
    services = ("gateway", "auth", "thumbs", "albums", "mailer")
    happened = (
        "GET /albums/{n} 200 {t}ms",
        "POST /login 200 {t}ms user={n}",
        "POST /login 401 {t}ms user={n}",
        "thumbnail of photo {n} made in {t}ms",
        "queue length {t}",
        "mail to user {n} handed over",
        "cache miss for album {n}",
        "slow query ({t}ms) on table photos",
    )
    lines, second = [], 6 * 3600
    for i in range(220):
        second += draws.between(1, 40)
        clock = f"{second // 3600:02}:{second // 60 % 60:02}:{second % 60:02}"
        level = "WARN" if draws.below(9) == 0 else "INFO"
        text = draws.choice(happened).format(n=draws.between(1000, 9999), t=draws.between(2, 900))
        host = f"node-{draws.between(1, 9)}"
        lines.append(f"2024-05-17 {clock} {level} {host} {draws.choice(services)}: {text}")
        if i == 151:
            lines.append(
                f"2024-05-17 {clock} ERROR node-14 uploads: photo 5512 not stored: No space left on"
                " device (/var/uploads)"
            )
    question = "Which node had no space left on the device? Reply with the node's name alone."
    return "\n".join(lines), question, "node-14"


CODE = {
    "library/loans.py": '''
        """Who has which book, and until when."""

        from dataclasses import dataclass
        from datetime import date, timedelta

        from library import settings


        @dataclass
        class Loan:
            book: str
            reader: int
            due: date
            renewed: int = 0

            def renew(self) -> None:
                if self.renewed >= settings.RENEWALS:
                    raise ValueError(f"{self.book} was renewed {self.renewed} times already")
                self.due += timedelta(days=settings.LOAN_DAYS)
                self.renewed += 1


        def lend(book: str, reader: int, today: date, held: list[Loan]) -> Loan:
            if len(held) >= settings.MOST_LOANS:
                raise ValueError(f"reader {reader} has {len(held)} books")
            return Loan(book, reader, today + timedelta(days=settings.LOAN_DAYS))
    ''',
    "library/fees.py": '''
        """What late books cost."""

        from datetime import date

        from library import settings
        from library.loans import Loan


        def late_days(loan: Loan, returned: date) -> int:
            days = (returned - loan.due).days
            return max(0, days - settings.GRACE_DAYS)


        def fee(loan: Loan, returned: date) -> float:
            """In euros, rounded to cents."""
            owed = late_days(loan, returned) * settings.FEE_PER_DAY
            return round(min(owed, settings.MOST_FEE), 2)
    ''',
    "library/catalogue.py": '''
        """Books by title, author and shelf mark."""

        import re
        from collections import defaultdict


        class Catalogue:
            def __init__(self) -> None:
                self._by_word: dict[str, set[str]] = defaultdict(set)

            def add(self, mark: str, title: str, author: str) -> None:
                for word in re.findall(r"\\w+", f"{title} {author}".lower()):
                    self._by_word[word].add(mark)

            def search(self, query: str) -> set[str]:
                words = re.findall(r"\\w+", query.lower())
                found = [self._by_word.get(word, set()) for word in words]
                return set.intersection(*found) if found else set()
    ''',
    "library/desk.py": '''
        """The commands of the front desk."""

        import argparse
        from datetime import date

        from library.fees import fee
        from library.loans import Loan


        def main() -> None:
            parser = argparse.ArgumentParser(prog="desk")
            parser.add_argument("command", choices=["lend", "return", "renew"])
            parser.add_argument("book")
            parser.add_argument("--reader", type=int)
            options = parser.parse_args()
            if options.command == "return":
                loan = Loan(options.book, options.reader, date.today())
                print(f"{options.book}: {fee(loan, date.today()):.2f} EUR")
    ''',
    "library/settings.py": '''
        """What the desk may change."""

        OPENING_HOURS = {"mon": (9, 18), "tue": (9, 18), "wed": (9, 20), "fri": (9, 16)}
        LOAN_DAYS = 21
        MOST_LOANS = 12
        RENEWALS = 2
        GRACE_DAYS = 3
        FEE_PER_DAY = 0.35
        MOST_FEE = 14.00
    ''',
    "tests/test_fees.py": """
        from datetime import date, timedelta

        from library.fees import fee
        from library.loans import Loan

        DUE = date(2024, 3, 1)


        def test_a_book_in_time_costs_nothing() -> None:
            assert fee(Loan("b", 1, DUE), DUE) == 0


        def test_the_fee_has_an_upper_limit() -> None:
            assert fee(Loan("b", 1, DUE), DUE + timedelta(days=400)) == 14.0
    """,
}


def code(draws: Draws) -> tuple[Content, str, str]:
    """A small program as named files. The answer is a constant that another file uses."""
    files = {name: textwrap.dedent(text).strip() + "\n" for name, text in CODE.items()}
    question = "What does a late book cost a day, by FEE_PER_DAY? Reply with the number."
    return files, question, "0.35"


def chat(draws: Draws) -> tuple[Content, str, str]:
    """Three friends plan a Saturday; the place is changed later on."""
    small_talk = (
        "did anyone see the match?",
        "my train is late again",
        "ha, typical",
        "who has the big tent?",
        "I can bring bread and cheese",
        "the forecast says sun until four",
        "ok",
        "can't talk, in a meeting",
        "Ben still owes me for the tickets",
        "we need somebody with a car",
        "the dog comes along, hope that's fine",
        "sounds good to me",
    )
    said = {
        12: ("Mara", "let's meet at the old station on Saturday, half past nine"),
        13: ("Ben", "old station, fine"),
        104: ("Ivo", "the old station is closed for works on Saturday"),
        106: ("Mara", "then the new meeting point for Saturday is the boathouse, same time"),
        107: ("Ben", "boathouse it is"),
    }
    lines, minute = [], 0
    for i in range(160):
        minute += draws.between(1, 25)
        who, text = said.get(i) or (draws.choice(("Mara", "Ben", "Ivo")), draws.choice(small_talk))
        clock = f"{3 + minute // 1440:02} {minute // 60 % 24:02}:{minute % 60:02}"
        lines.append(f"[2024-06-{clock}] {who}: {text}")
    question = "What is the new meeting point for Saturday? Reply with the place alone."
    return "\n".join(lines), question, "boathouse"


def mixed(draws: Draws) -> tuple[Content, str, str]:
    """A mail, a table, a configuration, a log and notes in one context. The answer takes two."""
    names = ("Aalto", "Berger", "Castro", "Dahl", "Egede", "Fiore", "Grau", "Hoxha", "Ibsen")
    orders = [
        f"{4000 + 7 * i},{draws.choice(names)} {draws.choice(('Ltd', 'GmbH', 'AS'))},"
        f"{draws.between(1, 40)},{draws.choice(('packed', 'sent', 'paid'))}"
        for i in range(80)
    ]
    orders[43] = "4301,Nordlys Optik AS,12,packed"
    settings = {"warehouse": "Tromsø", "carrier": {"name": "Havpost", "cutoff": "15:30"}}
    log = [
        f"{8 + i // 12:02}:{5 * (i % 12):02} scanner {draws.between(1, 4)}: parcel"
        f" {draws.between(10_000, 99_999)} ok"
        for i in range(60)
    ]
    content = {
        "mail_from_lena.txt": (
            "From: Lena Vik\nTo: packing\nSubject: one order to hold back\n\nHello,\nplease don't"
            " send order 4301 today: the customer wants other lenses.\nMore on Monday.\nLena"
        ),
        "orders.csv": "\n".join(["order,customer,pieces,state", *orders]),
        "settings.json": json.dumps(settings, ensure_ascii=False, indent=2),
        "scanner.log": "\n".join(log),
        "notes.md": "# Packing\n\n- tape is in the left drawer\n- **never** stack more than six\n",
    }
    question = (
        "Lena's mail asks to hold back an order. Which customer's order is it, by orders.csv? Reply"
        " with the customer's name."
    )
    return content, question, "Nordlys Optik AS"


def long_answer(draws: Draws) -> tuple[Content, str, str]:
    """A ticket list. The answer is a third of it: some ten times what one reply may hold."""
    about = ("printer", "door lock", "projector", "wifi", "heating", "lift", "badge", "monitor")
    lines, open_ones = [], []
    for number in draws.distinct(900, lambda: draws.between(10_000, 99_999)):
        state = draws.choice(("open", "closed", "waiting"))
        where = f"room={draws.between(100, 460)} about={draws.choice(about)}"
        lines.append(f"ticket=T-{number} {where} status={state}")
        if state == "open":
            open_ones.append(f"T-{number}")
    question = (
        "List the numbers of all tickets with status=open, such as T-12345, one a line, in the"
        " order of the text."
    )
    return "\n".join(lines), question, "\n".join(open_ones)


KINDS = (log, code, chat, mixed, long_answer)


def samples() -> Iterator[tuple[Context, Sample]]:
    """The five inputs as samples of one task, scored by exact match (SQuAD's) and F1."""
    tokenizer = load_tokenizer()
    for kind in KINDS:
        content, question, gold = kind(Draws("inputs", kind.__name__))
        context = Context.of(content)
        length, answer = tokenizer.count(context.text), tokenizer.count(gold) + 32
        target = next(size for size in (2048, 4096, 8192, 16384, 32768) if length <= size)
        yield (
            context,
            Sample.of(
                task="inputs",
                context_id=context.id,
                question=question,
                gold=(gold,),
                scorer="squad_em",
                question_group=kind.__name__,
                target_tokens=target,
                length_tokens=length,
                max_answer_tokens=answer,
                knobs={},
            ),
        )


def short(text: str) -> str:
    text = " ".join(text.split()).replace("|", "\\|")
    return text if len(text) < 60 else f"{text[:40]} … ({len(text)} characters)"


def table(run: str) -> Iterator[str]:
    """What came of the inputs in a run, a row each."""
    results = load_results(run).set_index("question_group")
    first = results.iloc[0]
    yield "# Inputs of every kind"
    yield ""
    yield "`python tests/benchmarks/inputs.py table RUN`, after `python -m rlm_eval task=exported"
    yield "task.path=tests/inputs.jsonl method=[rlm]`: the RLM, one question an input;"
    stand_in = " (scripted: no evidence about any model)" if first.scripted else ""
    yield f"model {first.model}{stand_in}, at most {TURN_TOKENS} tokens a reply."
    yield "Named: the share of the right answer's lines that stand in the answer."
    yield ""
    heads = (
        *("input", "form", "tokens", "question", "right answer", "answer", "exact", "F1", "named"),
        *("turns", "sub-calls", "tokens used", "seconds"),
    )
    yield f"| {' | '.join(heads)} |"
    yield f"|{'---|' * len(heads)}"
    for context, sample in samples():
        row = results.loc[sample.question_group]
        form = "text" if isinstance(context.content, str) else f"{len(context.content)} named files"
        answer = short(str(row.answer)) if row.answer else f"({row.outcome})"
        lines = sample.gold[0].splitlines()
        named = sum(line in str(row.answer) for line in lines) / len(lines)
        cells = (
            *(sample.question_group, form, sample.length_tokens, sample.question),
            *(short(sample.gold[0]), answer, f"{row.score:.0f}", f"{row.score_f1:.2f}"),
            f"{named:.2f}",
            *(row.iterations, row.subcalls, row.tokens, f"{row.wall_s:.0f}"),
        )
        yield f"| {' | '.join(str(cell) for cell in cells)} |"


def main() -> None:
    if sys.argv[1:] == ["make"]:
        rows = (json.dumps(to_row(*pair), ensure_ascii=False) for pair in samples())
        INPUTS.write_text("\n".join(rows) + "\n", encoding="utf-8")
    elif len(sys.argv) == 3 and sys.argv[1] == "table":
        print("\n".join(table(sys.argv[2])))
    else:
        raise SystemExit(__doc__)


if __name__ == "__main__":
    main()
