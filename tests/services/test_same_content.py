"""Files that become the same as another one: what is searched is what the files hold now."""

from app.core.retrieval import SearchFilter
from app.services import ingestion, processing, retrieval, uploads
from app.services.ingestion import TextSource
from app.services.uploads import Accepted, Wish
from tests.fixtures.service import Service
from tests.fixtures.workers import document_of, until, working


async def put(service: Service, organization_id: str, content: str, **wish: str) -> Accepted:
    """A file, sent and processed."""
    runtime = service.runtime
    file = runtime.spool.create()
    file.write(content.encode())
    try:
        accepted = await uploads.accept(
            runtime,
            processing.principal_of(organization_id),
            file,
            Wish(**wish),  # type: ignore[arg-type]
            filename="note.txt",
            content_type="text/plain",
        )
    finally:
        file.discard()
    if not accepted.duplicate:
        async with working(runtime):
            await until(runtime, organization_id, accepted.document.id, "completed", "failed")
    return accepted


async def texts(service: Service, organization_id: str) -> list[str]:
    """Everything that a search finds."""
    principal = processing.principal_of(organization_id)
    hits = await retrieval.search(
        service.runtime, principal, "pump valve motor", limit=20, where=SearchFilter()
    )
    return sorted(hit.text for hit in hits)


async def test_what_a_file_held_before_it_became_another_ones_copy_is_not_found(
    idle_service: Service,
) -> None:
    _, organization_id = await idle_service.new_key()
    first = await put(idle_service, organization_id, "The pump is red.", origin="file:/a")
    second = await put(idle_service, organization_id, "The valve is blue.", origin="file:/b")
    assert second.document.id != first.document.id

    copied = await put(idle_service, organization_id, "The pump is red.", origin="file:/b")

    assert (copied.document.id, copied.duplicate) == (first.document.id, True)
    assert await texts(idle_service, organization_id) == ["The pump is red."]
    again = await put(idle_service, organization_id, "The pump is red.", origin="file:/b")
    assert (again.document.id, again.duplicate) == (first.document.id, True)


async def test_of_two_files_that_were_the_same_one_may_change(idle_service: Service) -> None:
    _, organization_id = await idle_service.new_key()
    await put(idle_service, organization_id, "The pump is red.", origin="file:/a")
    await put(idle_service, organization_id, "The pump is red.", origin="file:/b")

    await put(idle_service, organization_id, "The motor is new.", origin="file:/a")
    assert await texts(idle_service, organization_id) == ["The motor is new.", "The pump is red."]

    await put(idle_service, organization_id, "The valve is blue.", origin="file:/b")
    assert await texts(idle_service, organization_id) == ["The motor is new.", "The valve is blue."]


async def test_two_files_may_change_places(idle_service: Service) -> None:
    _, organization_id = await idle_service.new_key()
    await put(idle_service, organization_id, "The pump is red.", origin="file:/a")
    await put(idle_service, organization_id, "The valve is blue.", origin="file:/b")

    await put(idle_service, organization_id, "The valve is blue.", origin="file:/a")
    await put(idle_service, organization_id, "The pump is red.", origin="file:/b")

    assert await texts(idle_service, organization_id) == ["The pump is red.", "The valve is blue."]


async def test_texts_of_an_origin_are_merged_in_the_same_way(idle_service: Service) -> None:
    _, organization_id = await idle_service.new_key()
    principal = processing.principal_of(organization_id)
    for origin, text in (
        ("#1", "The pump is red."),
        ("#2", "The valve is blue."),
        ("#2", "The pump is red."),
    ):
        await ingestion.ingest_text(
            idle_service.runtime, principal, TextSource(text, origin=f"file:/t{origin}")
        )

    assert await texts(idle_service, organization_id) == ["The pump is red."]


async def test_an_update_that_became_another_document_meanwhile_says_so(idle_service: Service) -> None:
    """The other one was stored while the update waited; what was served stays."""
    _, organization_id = await idle_service.new_key()
    runtime, principal = idle_service.runtime, processing.principal_of(organization_id)
    old = await put(idle_service, organization_id, "The valve is blue.")
    file = runtime.spool.create()
    file.write(b"The pump is red.")
    try:
        await uploads.accept(
            runtime,
            principal,
            file,
            Wish(document_id=old.document.id),
            filename="note.txt",
            content_type="text/plain",
        )
    finally:
        file.discard()
    other = await ingestion.ingest_text(runtime, principal, TextSource("The pump is red."))

    async with working(runtime):
        await until(runtime, organization_id, old.document.id, "failed")

    document = await document_of(runtime, organization_id, old.document.id)
    assert document.error is not None
    assert document.error["code"] == "same_content_elsewhere"
    assert other.document.id in document.error["message"]
    assert await texts(idle_service, organization_id) == ["The pump is red.", "The valve is blue."]
