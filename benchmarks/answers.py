"""How good the answers are without any provider: local embeddings, quoted sentences, 6,530 passages of SQuAD 2.0.

Retrieval against the passage that is known to answer, answers against the gold strings, and refusals where the corpus
only seems to know (unanswerable) or is about something else (off topic).
"""

import asyncio
import math
import re
import statistics
import string
import sys
import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Final

import aiohttp
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from app.core.config import LOCAL_EMBEDDING_MODEL
from benchmarks import corpus, seeding
from benchmarks.corpus import Passage, Question
from benchmarks.processes import ROOT, Postgres, Server, postgres, service, workspace
from benchmarks.report import Failed, Figure, Report, percentile

_CONNECTIONS: Final = 4
_QUICK_PASSAGES: Final = 800
_QUICK_QUESTIONS: Final = 60
_ORGANIZATION: Final = "Default"
_SETTLING_SECONDS: Final = 2.0

_CITATION: Final = re.compile(r"\[\d+\]")
_QUOTE: Final = re.compile(r"(.+?) \[(\d+)\](?: |\Z)", re.DOTALL)
_ARTICLE: Final = re.compile(r"\b(a|an|the)\b")
_NO_PUNCTUATION: Final = str.maketrans("", "", string.punctuation)

OFF_TOPIC: Final = (
    "How do I reset the password of my home router?",
    "What is the best way to remove red wine from a carpet?",
    "How many eggs go into a classic carbonara for four people?",
    "Which formula in a spreadsheet sums only the visible rows?",
    "How long should I knead sourdough before the first rise?",
    "What tyre pressure does my bicycle need for gravel?",
    "Who won the men's singles at Wimbledon in 2019?",
    "How do I centre a div horizontally with CSS grid?",
    "What does the error 'segmentation fault' mean in my C program?",
    "How often should a cactus on a windowsill be watered?",
    "What is the refund policy of my airline for cancelled flights?",
    "How do I train a puppy not to bite shoes?",
    "Which vaccination does my cat need before boarding?",
    "What size of screw fits a 6 mm wall plug?",
    "How do I tie a double Windsor knot?",
    "What time does the supermarket close on Sunday?",
    "How much does a monthly gym membership cost?",
    "Which yoga pose helps against a stiff neck?",
    "How do I unclog a kitchen sink without chemicals?",
    "What is the recommended screen time for a toddler?",
    "How do I renew my driving licence online?",
    "Which chess opening should a beginner learn first?",
    "How can I export my contacts from an old phone?",
    "What temperature should a medium-rare steak reach inside?",
    "How do I change the strings of an acoustic guitar?",
    "What is the interest rate of my savings account?",
    "How do I write a cover letter for an internship?",
    "Which lens should I buy for portrait photography?",
    "How do I descale an espresso machine with citric acid?",
    "What is the dress code for the office party on Friday?",
)


@dataclass(frozen=True, slots=True)
class Asked:
    """A question and what the service answered."""

    question: Question
    answer: dict[str, Any]
    seconds: float

    @property
    def is_refused(self) -> bool:
        return bool(self.answer["refused"])

    @property
    def has_right_source(self) -> bool:
        return any(source["source"] == self.question.passage_id for source in self.answer["sources"])

    @property
    def is_cited(self) -> bool:
        return any(source["cited"] for source in self.answer["sources"]) and bool(
            _CITATION.search(self.answer["answer"])
        )

    def quotes(self) -> Iterator[tuple[str, str]]:
        """Each quotation, and the passage that it is said to be from."""
        names = {source["n"]: source["source"] for source in self.answer["sources"]}
        for quote in _QUOTE.finditer(self.answer["answer"]):
            yield quote[1], names.get(int(quote[2]), "")

    @property
    def has_gold(self) -> bool:
        """Whether the words of a gold answer stand in the answer, one after the other."""
        text = f" {normalized(_CITATION.sub(' ', self.answer['answer']))} "
        wanted = filter(None, map(normalized, self.question.answers))
        return not self.is_refused and any(f" {gold} " in text for gold in wanted)


def run(*, quick: bool) -> Report:
    passages = corpus.asked_about_first()[: _QUICK_PASSAGES if quick else None]
    count = _QUICK_QUESTIONS if quick else None
    rag = ROOT / "app" / "rag"
    made_by = [
        *seeding.schema_files(),
        *(rag / name for name in ("chunking.py", "atoms.py", "local_model.py")),
    ]
    key = corpus.fingerprint(*made_by, also=LOCAL_EMBEDDING_MODEL)
    cache = seeding.cache(f"answers-{len(passages)}", key)
    with workspace() as folder, postgres(cache.folder) as database:
        settings = {"DB_URL": database.product_url}
        if not cache.is_filled:
            with service(settings, folder, "filling") as server:
                asyncio.run(_ingest(_client(server, database), passages))
            asyncio.run(seeding.execute(database.product_url, "VACUUM (ANALYZE)"))
            cache.mark_filled()
        with service(settings, folder) as server:
            time.sleep(_SETTLING_SECONDS)
            return asyncio.run(_ask_all(_client(server, database), count))


@dataclass(frozen=True, slots=True)
class Client:
    """Posts bodies to the service, a few at a time."""

    url: str
    key: str

    async def post_all(
        self, path: str, bodies: Sequence[dict[str, Any]], what: str
    ) -> list[tuple[dict[str, Any], float]]:
        """The answers in the order of the bodies, each with its seconds. Raises Failed at the first error."""
        waiting = asyncio.Semaphore(_CONNECTIONS)
        columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
        headers = {"Authorization": f"Bearer {self.key}"}
        timeout = aiohttp.ClientTimeout(total=300)
        with Progress(*columns, transient=True, disable=not sys.stdout.isatty()) as progress:
            task = progress.add_task(what, total=len(bodies))
            async with aiohttp.ClientSession(headers=headers, timeout=timeout) as session:

                async def post(body: dict[str, Any]) -> tuple[dict[str, Any], float]:
                    async with waiting:
                        started = time.perf_counter()
                        async with session.post(f"{self.url}{path}", json=body) as response:
                            if response.status != 200:
                                raise Failed(f"{path}: {response.status} {await response.text()}")
                            answer: dict[str, Any] = await response.json()
                        progress.advance(task)
                        return answer, time.perf_counter() - started

                return await asyncio.gather(*map(post, bodies))


def _client(server: Server, database: Postgres) -> Client:
    return Client(server.url, asyncio.run(seeding.tenant_of(database.product_url, _ORGANIZATION)).key)


async def _ingest(client: Client, passages: Sequence[Passage]) -> None:
    """What a run that was cut off has stored already is not embedded again."""
    bodies = [{"text": passage.text, "source": passage.id} for passage in passages]
    await client.post_all("/ingest", bodies, "ingesting")


async def _ask_all(client: Client, count: int | None) -> Report:
    report = Report("answers")
    answerable = corpus.answerable()[:count]
    found = await _ask(client, answerable, "answerable")
    ranks = await _ranks(client, answerable)
    unanswerable = await _ask(client, corpus.unanswerable()[:count], "unanswerable")
    off_topic = await _ask(client, [Question(text, "", ()) for text in OFF_TOPIC], "off topic")
    answered = [asked for asked in (*found, *unanswerable) if not asked.is_refused]
    seconds = [asked.seconds for asked in (*found, *unanswerable, *off_topic)]
    report.figures.extend(
        [
            Figure(
                "right passage among the sources of /chat",
                _share(a.has_right_source for a in found),
                "%",
                at_least=85,
            ),
            Figure("right passage among the first five of /search", _share(rank <= 5 for rank in ranks), "%"),
            Figure("nDCG@10 of /search", _ndcg(ranks), "", at_least=0.90),
            Figure("answers that contain a gold answer", _share(a.has_gold for a in found), "%", at_least=60),
            Figure("answers with a citation", _share(a.is_cited for a in answered), "%", at_least=95),
            Figure("quotations word for word in their passage", _verbatim(answered), "%", at_least=100),
            Figure("answerable questions refused", _share(a.is_refused for a in found), "%", at_most=10),
            Figure(
                "unanswerable questions refused", _share(a.is_refused for a in unanswerable), "%", at_least=35
            ),
            Figure("off-topic questions refused", _share(a.is_refused for a in off_topic), "%", at_least=100),
            Figure(f"seconds an answer, p50 of {_CONNECTIONS} at a time", percentile(seconds, 50), "s"),
        ]
    )
    strays = [asked.question.text for asked in off_topic if not asked.is_refused]
    report.notes.extend(f"off topic, but answered: {text}" for text in strays)
    return report


def _verbatim(answered: Iterable[Asked]) -> float:
    """A quotation is shown on one line."""
    texts = {passage.id: " ".join(passage.text.split()) for passage in corpus.asked_about_first()}
    quotes = [quote for asked in answered for quote in asked.quotes()]
    return _share(text in texts.get(passage, "") for text, passage in quotes)


async def _ask(client: Client, questions: Sequence[Question], what: str) -> list[Asked]:
    bodies = [{"message": question.text} for question in questions]
    answers = await client.post_all("/chat", bodies, what)
    return [Asked(question, *answer) for question, answer in zip(questions, answers, strict=True)]


async def _ranks(client: Client, questions: Sequence[Question]) -> list[float]:
    """At which place, from 1, the right passage is among the first ten chunks' passages; infinite where it is not."""
    bodies = [{"query": question.text, "top_k": 10} for question in questions]
    found = await client.post_all("/search", bodies, "searching")
    ranks = []
    for question, (answer, _) in zip(questions, found, strict=True):
        passages = list(dict.fromkeys(hit["source"] for hit in answer["results"]))
        right = question.passage_id in passages
        ranks.append(passages.index(question.passage_id) + 1.0 if right else math.inf)
    return ranks


def _ndcg(ranks: Sequence[float]) -> float:
    """With one right passage a question, the ideal is 1."""
    return sum(1 / math.log2(rank + 1) for rank in ranks) / len(ranks)


def _share(marks: Iterable[bool]) -> float:
    return 100 * statistics.mean(marks)


def normalized(text: str) -> str:
    """As SQuAD compares answers: no case, punctuation, articles or doubled blanks."""
    return " ".join(_ARTICLE.sub(" ", text.lower().translate(_NO_PUNCTUATION)).split())
