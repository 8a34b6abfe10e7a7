"""The passages for a question, as a bot wants them: searched, in order, merged, and within its budget."""

import asyncio
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from app.core import boxes
from app.core.bots import Bot, Expansion, PiiPolicy
from app.core.boxes import Box
from app.core.principal import Principal
from app.core.retrieval import EVERYTHING, Hit, SearchFilter
from app.db.repositories.chunks import ChunkRepository
from app.rag import passages
from app.rag.llms import ChatModel, Turn
from app.rag.passages import Gap
from app.services import bots, expanding, reranking, retrieval, usage
from app.services.expanding import Expanding
from app.services.guarding import Guard
from app.services.reranking import Reranking
from app.services.runtime import Runtime
from app.services.usage import Ledger


@dataclass(frozen=True, slots=True)
class Found:
    """What a question found; `hits` are merged passages unless chunks were wanted."""

    hits: list[Hit]
    relevant: bool
    """Whether any of it has enough to do with the question to answer from it at all."""
    reranking: Reranking | None = None
    expansion: Expanding | None = None
    degraded: str | None = None
    """The code of the failure because of which words alone were compared."""


@dataclass(frozen=True, slots=True)
class Early:
    """The search of a question that was begun before everything was known, and what it took for granted."""

    bot: Bot
    question: str
    where: SearchFilter
    limit: int
    hits: asyncio.Task[list[Hit]]
    failures: list[str]

    def is_of(self, bot: Bot, question: str, where: SearchFilter, limit: int) -> bool:
        """Whether it is the search of this question."""
        return self.bot is bot and (self.question, self.where, self.limit) == (question, where, limit)

    def discard(self) -> None:
        """Nobody waits for it; once it is over, nothing happens."""
        self.hits.cancel()


def begin(
    runtime: Runtime,
    principal: Principal,
    bot: Bot,
    question: str,
    *,
    limit: int,
    where: SearchFilter,
    ledger: Ledger,
) -> Early | None:
    """Search for a question as it was asked, for `find` to take the hits of; None for bots that search for more than that.

    Its failure is `find`'s, or nobody's where it is discarded.
    """
    wanted = bot.retrieval
    if bot.guardrails.pii is not PiiPolicy.OFF or wanted.expansion is not Expansion.NONE:
        return None
    failures: list[str] = []
    searching = _Searching(runtime, principal, bot, where, limit, False, ledger, (), failures.append)
    hits = asyncio.create_task(searching.of_wording(question), name="early search")
    hits.add_done_callback(lambda task: task.cancelled() or task.exception())
    return Early(bot, question, where, limit, hits, failures)


async def find(
    runtime: Runtime,
    principal: Principal,
    bot: Bot,
    question: str,
    *,
    limit: int,
    where: SearchFilter = EVERYTHING,
    shown: str | None = None,
    history: Sequence[Turn] = (),
    merged: bool = True,
    explained: bool = False,
    early: Early | None = None,
    ledger: Ledger,
) -> Found:
    """At most `limit` passages within what the bot and the caller reach, best first.

    `shown` is what a provider may see of the question. A bot that hides personal data from providers gives them nothing else
    either: its questions are not expanded, and its passages are not sent away to be put in order.

    `history` is for bots without a model, which can't make a question standalone. `early` is a search that may be this one.
    Raises what `retrieval.search` raises.
    """
    failures: list[str] = []
    searching = _Searching(runtime, principal, bot, where, limit, explained, ledger, history, failures.append)
    if early is not None and early.is_of(bot, question, where, limit):
        hits = await early.hits
        failures, relevant, expanded = early.failures, searching.is_relevant(hits), None
    else:
        hits, relevant, expanded = await searching.hits(question, shown)
    hits, reranked = await reranking.rerank(runtime, bot, question, hits, ledger)
    if not merged:
        return Found(hits[:limit], relevant, reranked, expanded, next(iter(failures), None))
    between = await _between(runtime, principal, passages.gaps(hits))
    composed = passages.compose(
        hits, limit=limit, context_tokens=bot.retrieval.context_tokens, between=between
    )
    return Found(composed, relevant, reranked, expanded, next(iter(failures), None))


async def search(
    runtime: Runtime,
    principal: Principal,
    question: str,
    *,
    bot_id: str | None,
    limit: int | None,
    where: SearchFilter,
    merged: bool,
    explained: bool,
) -> Found:
    """The same for a search alone; relevance is not asked for. Raises BotNotFound, and what `find` raises."""
    bot = await bots.resolve(runtime, principal, bot_id)
    wanted = limit or bot.retrieval.top_k or runtime.settings.top_k_default
    async with usage.account(runtime, principal, bot_id=bot.id) as ledger:
        return await find(
            runtime,
            principal,
            bot,
            question,
            limit=wanted,
            where=where,
            shown=Guard(bot).question(question),
            merged=merged,
            explained=explained,
            ledger=ledger,
        )


@dataclass(frozen=True, slots=True)
class _Searching:
    """The searches of one question, which differ in nothing but its words."""

    runtime: Runtime
    principal: Principal
    bot: Bot
    where: SearchFilter
    limit: int
    explained: bool
    ledger: Ledger
    history: Sequence[Turn]
    degraded: retrieval.Degraded

    @property
    def hides(self) -> bool:
        """Whether personal data is hidden from providers."""
        return self.bot.guardrails.pii is not PiiPolicy.OFF

    async def hits(self, question: str, shown: str | None = None) -> tuple[list[Hit], bool, Expanding | None]:
        """What the question finds, also in other words where the bot has it expanded, and whether any of it is relevant."""
        model, expanded = expanding.model_of(self.runtime, self.bot)
        if model is None:
            own = await self.of_wording(question, shown)
            return own, self.is_relevant(own), expanded
        others = asyncio.create_task(self._of_others(model, question))
        try:
            own = await self.of_wording(question)
            found, expanded = await others
            lists = [own, *found]
        finally:
            others.cancel()
        # What is near to nothing but a made-up answer does not say that the question can be answered.
        judged = lists if self.bot.retrieval.expansion is Expansion.MULTI_QUERY else [own]
        return _best_of(lists), any(map(self.is_relevant, judged)), expanded

    def is_relevant(self, hits: Sequence[Hit]) -> bool:
        return retrieval.is_relevant(hits[: self.limit], minimum=self.bot.guardrails.minimum_relevance)

    async def _of_others(self, model: ChatModel, question: str) -> tuple[list[list[Hit]], Expanding]:
        wordings, expanded = await expanding.wordings(
            self.bot.retrieval.expansion, model, question, self.ledger
        )
        return await asyncio.gather(*map(self.of_wording, wordings)), expanded

    async def of_wording(self, question: str, shown: str | None = None) -> list[Hit]:
        reranker = self.bot.retrieval.reranker
        wanted = passages.candidates(self.limit)
        return await retrieval.search(
            self.runtime,
            self.principal,
            question,
            limit=wanted if reranker.kind is reranker.kind.NONE else max(wanted, reranker.candidates),
            where=self.where,
            shown=shown,
            granted=self.bot.collection_ids,
            explained=self.explained,
            before=() if self.hides else self.history,
            degraded=self.degraded,
        )


async def boxes_of(
    runtime: Runtime, principal: Principal, hits: Sequence[Hit]
) -> list[tuple[Box, ...] | None]:
    """Where each of the passages stands on its page, None where that is not known. Where no format tells, nothing is asked."""
    pages = list(dict.fromkeys((hit.document_id, hit.page) for hit in hits if hit.has_layout))
    if not pages:
        return [None] * len(hits)
    async with runtime.database.single(principal) as session:
        of_pages = await ChunkRepository(session, principal).boxes_of_pages(pages)
    known = dict(zip(pages, of_pages, strict=True))
    found = (known.get((hit.document_id, hit.page)) for hit in hits)
    return [
        boxes.shares_within(of_page, hit.start, hit.end) or None if of_page else None
        for hit, of_page in zip(hits, found, strict=True)
    ]


def _best_of(lists: Iterable[Sequence[Hit]]) -> list[Hit]:
    """Each chunk once, with the best score that any wording gives it."""
    best: dict[str, Hit] = {}
    for hits in lists:
        for hit in hits:
            if hit.chunk_id not in best or hit.score > best[hit.chunk_id].score:
                best[hit.chunk_id] = hit
    return sorted(best.values(), key=lambda hit: (-hit.score, hit.chunk_id))


async def _between(runtime: Runtime, principal: Principal, gaps: Sequence[Gap]) -> dict[Gap, str]:
    """The text between neighbours that do not overlap; mostly there are none, and nothing is asked."""
    if not gaps:
        return {}
    async with runtime.database.single(principal) as session:
        texts = await ChunkRepository(session, principal).texts_of_ranges(
            [(gap.document_id, gap.page, gap.start, gap.end) for gap in gaps]
        )
    return {gap: text for gap, text in zip(gaps, texts, strict=True) if text is not None}
