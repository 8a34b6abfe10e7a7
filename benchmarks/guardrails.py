"""What the guardrails find and what they cost: personal data, orders in documents, links, leaks, citations."""

import json
import random
import time
from collections import Counter
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any, Final

from app.rag import prompts, sentences, support
from app.rag.guardrails import instructions, pii
from app.rag.guardrails.answers import AnswerGuard
from app.rag.guardrails.kinds import PiiKind
from app.rag.guardrails.leaks import LeakGuard
from app.rag.guardrails.links import LinkGuard
from app.rag.no_answer import NoAnswerFilter
from benchmarks.processes import ROOT
from benchmarks.report import Details, Figure, Report, Skipped, percentile

_EVALUATION: Final = ROOT.parent / "shared" / "eval"
_KINDS: Final = {
    "CREDIT_CARD": PiiKind.CARD,
    "PHONE_NUMBER": PiiKind.PHONE,
    "EMAIL_ADDRESS": PiiKind.EMAIL,
    "IBAN_CODE": PiiKind.IBAN,
    "US_SSN": PiiKind.NATIONAL_ID,
    "US_DRIVER_LICENSE": PiiKind.NATIONAL_ID,
    "IP_ADDRESS": PiiKind.IP_ADDRESS,
}
_HOSTILE_CHARACTERS: Final = 1_000_000
_ANSWER: Final = (
    "The controller comes with a five-year warranty [1], and batteries are covered for ten years [2]. " * 12
)
_PIECE_CHARACTERS: Final = 4


def run(*, quick: bool) -> Report:
    if not _EVALUATION.exists():
        raise Skipped("the evaluation sets are not beside the repository")
    report = Report("guardrails")
    _personal_data(report)
    _hostile(report, _HOSTILE_CHARACTERS // (10 if quick else 1))
    _orders(report)
    _streams(report)
    _citations(report, 50 if quick else 300)
    return report


def _rows(*path: str) -> Iterator[dict[str, Any]]:
    for line in _EVALUATION.joinpath(*path).read_text(encoding="utf-8").split("\n"):
        if line:
            yield json.loads(line, strict=False)


def _seconds(work: Callable[[], object]) -> float:
    """Of CPU: the machine may be doing other things."""
    started = time.process_time()
    work()
    return time.process_time() - started


def _personal_data(report: Report) -> None:
    rows = list(_rows("pii", "pii.jsonl"))
    wanted: Counter[PiiKind] = Counter()
    caught: Counter[PiiKind] = Counter()
    right = wrong = 0
    for row in rows:
        gold = [(s["start"], s["end"], _KINDS[s["type"]]) for s in row["spans"] if s["type"] in _KINDS]
        found = pii.find(row["text"])
        for start, end, kind in gold:
            wanted[kind] += 1
            caught[kind] += any(f.kind is kind and f.start <= start and end <= f.end for f in found)
        hits = [any(k is f.kind and f.start < e and s < f.end for s, e, k in gold) for f in found]
        right, wrong = right + sum(hits), wrong + len(hits) - sum(hits)
    texts = [row["text"] for row in rows]
    size_kb = sum(len(text.encode()) for text in texts) / 1000
    taken = _seconds(lambda: [pii.find(text) for text in texts])
    report.figures.extend(
        [
            Figure("personal data found", 100 * caught.total() / wanted.total(), "%", at_least=95),
            Figure("of what was found, personal data", 100 * right / (right + wrong), "%", at_least=90),
            Figure("text read for personal data", size_kb / taken, "kB/s", at_least=500),
        ]
    )
    by_kind = Details("personal data by kind", ("kind", "found", "of"))
    by_kind.rows.extend((kind.value, caught[kind], wanted[kind]) for kind in wanted)
    report.details.append(by_kind)


def _hostile(report: Report, characters: int) -> None:
    numbers = random.Random(6)
    pieces = {
        **{
            piece: piece
            for piece in ("1", "@", ".", " ", "a@a.", "12 34 ", "+1", "(12)", "AA11 ", "1-", "://a:")
        },
        "eyJ": "eyJaaaaaaaaaa.",
        "card": "4111 1111 1111 1112 ",
        "account": "GB56 HXDO 8816 7774 6561 18 ",
        "key": "-----BEGIN RSA PRIVATE KEY-----",
        "words": "phone call password token ",
    }
    texts = {name: piece * (characters // len(piece)) for name, piece in pieces.items()}
    texts["10,000 numbers"] = " ".join(f"+{numbers.randrange(10**9, 10**12)}" for _ in range(10_000))
    texts["3,000 doubtful numbers"] = " ".join(f"416 600 {number % 90 + 10}" for number in range(3_000))
    found = Details(f"{characters:,} characters of one thing", ("of", "s of CPU"))
    found.rows.extend((name, round(_seconds(partial(pii.find, text)), 3)) for name, text in texts.items())
    report.details.append(found)
    slowest = max(float(row[1]) for row in found.rows)
    report.figures.append(Figure("slowest hostile text", slowest, "s", at_most=0.5))


def _orders(report: Report) -> None:
    attacks = list(_rows("injection", "indirect.jsonl"))
    about_answers = [
        row for row in attacks if " your " in f" {row['attack'].lower()} " or "reply" in row["attack"].lower()
    ]
    caught = sum(instructions.count(row["attack"]) > 0 for row in about_answers)
    texts = [row["text"] for name in ("squad2mini", "idkmrc_dev") for row in _rows(name, "corpus.jsonl")][
        :8_000
    ]
    marked = 0

    def read() -> None:
        nonlocal marked
        marked = sum(instructions.count(text) > 0 for text in texts)

    taken = _seconds(read)
    report.figures.extend(
        [
            Figure("orders about the answer recognised", 100 * caught / len(about_answers), "%", at_least=80),
            Figure("ordinary passages marked", 100 * marked / len(texts), "%", at_most=1),
            Figure("looking for orders", taken * 1e6 / len(texts), "µs/passage"),
        ]
    )


def _streams(report: Report) -> None:
    pieces = [_ANSWER[at : at + _PIECE_CHARACTERS] for at in range(0, len(_ANSWER), _PIECE_CHARACTERS)]
    prompt = prompts.answer_prompt([], persona="You are Aina, the assistant of Eternalgy. " * 10)
    LeakGuard(prompt.secret, *prompt.wording)  # what is kept of a persona is made once
    costs: list[float] = []
    for _ in range(50):
        guard = AnswerGuard(
            no_answer=NoAnswerFilter(), links=LinkGuard(), leaks=LeakGuard(prompt.secret, *prompt.wording)
        )
        started = time.perf_counter()
        guard.feed(pieces[0])
        costs.append((time.perf_counter() - started) * 1000)
    taken = _seconds(lambda: [guard.feed(piece) for piece in pieces])
    report.figures.extend(
        [
            Figure("added to the first token, p50", percentile(costs, 50), "ms", at_most=10),
            Figure("guarding a stream", taken * 1e6 / len(pieces), "µs/token"),
        ]
    )


def _citations(report: Report, count: int) -> None:
    texts = [row["text"] for row in _rows("squad2mini", "corpus.jsonl")][: 5 * count]
    asked = []
    for at in range(0, len(texts) - 4, 5):
        sources = {n: ("", text) for n, text in enumerate(texts[at : at + 5], start=1)}
        # Not the sentences themselves, which would be found at once.
        said = [" ".join(_first_sentence(sources[n][1]).split()[:-2]) + f" [{n}]." for n in (1, 2, 3)]
        asked.append((" ".join(said), sources))
    taken = _seconds(lambda: [support.check(answer, sources) for answer, sources in asked])
    report.figures.append(
        Figure("checking three citations of five sources", taken * 1000 / len(asked), "ms", at_most=1)
    )


def _first_sentence(text: str) -> str:
    first = sentences.split(text)[0]
    return text[first.start : first.end]
