"""Pages of the web as documents: fetched by the worker, kept, fetched again when asked."""

from collections.abc import AsyncIterator
from dataclasses import dataclass, field, replace
from ipaddress import ip_network

import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from app.core.addresses import AddressPolicy
from app.services import documents, files, processing, uploads
from app.services.runtime import Runtime
from app.services.uploads import Wish
from app.services.web_pages import PageFetcher
from tests.fixtures.provider import ScriptedProvider
from tests.fixtures.service import Service, serving
from tests.fixtures.workers import until, working


@dataclass
class Site:
    """A site on the loopback, with one page after another."""

    url: str = ""
    pages: dict[str, str] = field(default_factory=dict)
    asked: list[str] = field(default_factory=list)

    async def answer(self, request: Request) -> Response:
        path = request.url.path
        self.asked.append(path)
        if path not in self.pages:
            return Response(status_code=404)
        return Response(self.pages[path], media_type="text/html")


@pytest.fixture
async def site() -> AsyncIterator[Site]:
    site = Site()
    app = Starlette(routes=[Route("/{path:path}", site.answer)])
    async with serving(app) as site.url:
        yield site


def on_loopback(service: Service) -> Runtime:
    """A runtime whose operator lets it fetch from this machine."""
    policy = AddressPolicy(allowed=(ip_network("127.0.0.0/8"),))
    return replace(service.runtime, web=PageFetcher(policy))


async def test_a_page_becomes_a_document_and_is_fetched_anew_when_it_is_processed_again(
    provider: ScriptedProvider, idle_service: Service, site: Site
) -> None:
    runtime = on_loopback(idle_service)
    _, organization_id = await idle_service.new_key()
    principal = processing.principal_of(organization_id)
    site.pages["/hours"] = "<title>Hours</title><main><p>The museum opens at nine.</p></main>"

    accepted = await uploads.accept_url(runtime, principal, f"{site.url}/hours", Wish())
    again = await uploads.accept_url(runtime, principal, f"{site.url}/hours", Wish())
    async with working(runtime):
        document = await until(runtime, organization_id, accepted.document.id, "completed", "failed")
        assert (document.status, document.title, document.error) == ("completed", "Hours", None)
        site.pages["/hours"] = "<title>Hours</title><main><p>The museum opens at ten.</p></main>"
        async with runtime.database.unit_of_work(principal) as session:
            await documents.reprocess(session, principal, document.id)
        document = await until(runtime, organization_id, document.id, "completed", "failed")

    assert (again.document.id, again.duplicate) == (document.id, True)
    file = await files.open_file(runtime, principal, document.id)
    assert b"opens at ten" in b"".join([block async for block in file.content])
    async with runtime.database.unit_of_work(principal) as session:
        pages, _ = await documents.pages(session, principal, document.id, limit=9, offset=0)
    assert "The museum opens at ten." in pages[0].text
    await files.sweep(runtime)
    assert document.storage_key in await runtime.originals.keys()


async def test_a_page_that_is_not_there_is_a_failure_in_words(
    provider: ScriptedProvider, idle_service: Service, site: Site
) -> None:
    runtime = on_loopback(idle_service)
    _, organization_id = await idle_service.new_key()
    principal = processing.principal_of(organization_id)

    accepted = await uploads.accept_url(runtime, principal, f"{site.url}/nothing", Wish())
    async with working(runtime):
        document = await until(runtime, organization_id, accepted.document.id, "failed")

    assert document.error is not None
    assert (document.error["code"], document.error["retryable"]) == ("not_found", False)
    assert document.error["message"].endswith(".")


async def test_the_workers_own_fetcher_goes_to_no_internal_address(
    provider: ScriptedProvider, idle_service: Service, site: Site
) -> None:
    _, organization_id = await idle_service.new_key()
    principal = processing.principal_of(organization_id)
    accepted = await uploads.accept_url(on_loopback(idle_service), principal, f"{site.url}/secret", Wish())

    async with working(idle_service.runtime):
        document = await until(idle_service.runtime, organization_id, accepted.document.id, "failed")

    assert document.error is not None
    assert (document.error["code"], site.asked) == ("unsafe_url", [])
