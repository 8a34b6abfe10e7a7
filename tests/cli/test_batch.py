"""Many documents side by side."""

from dataclasses import replace

import pytest

from app.cli import batch
from app.cli.tally import Outcome, Result
from app.cli.terminal import Service as CommandService
from app.core.decoding import EncodingUnknown
from app.core.errors import CollectionNotFound, DatabaseUnavailable
from app.core.principal import ALL_SCOPES, Principal, PrincipalKind, Role
from app.services.folders import Entry, Readable, Unreadable
from tests.fixtures.postgres import open_database
from tests.fixtures.service import Service


@pytest.fixture
async def opened(service: Service) -> CommandService:
    _, organization_id = await service.new_key()
    principal = Principal(PrincipalKind.OPERATOR, "operator", organization_id, Role.ADMIN, ALL_SCOPES)
    return CommandService(service.runtime, principal)


async def ingest(opened: CommandService, *entries: Entry, collection_id: str | None = None) -> list[Result]:
    results: list[Result] = []
    await batch.ingest(
        opened,
        iter(entries),
        results.append,
        destination=batch.Destination(collection_id, ("test",)),
        concurrency=5,
    )
    return results


def text(number: int, words: str = "Something to read") -> Readable:
    return Readable(f"{number}.txt", 10, f"{words} {number}.", None, "utf-8")


async def test_equal_texts_side_by_side_are_one_document(opened: CommandService) -> None:
    results = await ingest(opened, *[replace(text(1), source=f"copy{n}.txt") for n in range(8)])

    assert len({result.document_id for result in results}) == 1
    assert [result.outcome for result in results].count(Outcome.INDEXED) == 1


async def test_a_document_that_fails_does_not_stop_the_others(opened: CommandService) -> None:
    blank = replace(text(1), text=" ")
    unknown = Unreadable("2.txt", 10, EncodingUnknown())

    results = await ingest(opened, blank, unknown, *map(text, range(3, 6)))

    failed = {result.source: result.error.code for result in results if result.error}
    assert failed == {"1.txt": "blank_text", "2.txt": "encoding_unknown"}
    assert len(results) == 5


async def test_a_collection_that_is_not_there_ends_it_at_once(opened: CommandService) -> None:
    with pytest.raises(CollectionNotFound):
        await ingest(opened, *map(text, range(10)), collection_id="col_none")


async def test_a_database_that_stays_away_ends_it_after_five_failures(opened: CommandService) -> None:
    away = replace(opened.runtime, database=open_database("postgresql://nobody@127.0.0.1:1/nothing"))

    with pytest.raises(batch.IngestionStopped) as stopped:
        await ingest(CommandService(away, opened.principal), *map(text, range(1000)))

    assert isinstance(stopped.value.reason, DatabaseUnavailable)
