"""Agents, by the SDK's own client: what they find, what they may not see, and that it costs the rest nothing."""

import asyncio
import subprocess
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import httpx2
import pytest
from mcp import types
from mcp.client.client import Client
from mcp.client.streamable_http import streamable_http_client
from mcp.shared.exceptions import MCPError

from app.core.principal import Scope
from tests.fixtures.provider import Reply, ScriptedProvider
from tests.fixtures.service import Service
from tests.fixtures.variants import client_of, variant

FACTS = "Eternalgy EMS is an energy management system for factories. The warranty of the EMS is five years."
QUESTION = "What is the warranty of the Eternalgy EMS?"
Connect = Callable[..., AbstractAsyncContextManager[Client]]


@asynccontextmanager
async def connected(url: str, key: str) -> AsyncIterator[Client]:
    headers = {"Authorization": f"Bearer {key}"}
    async with (
        httpx2.AsyncClient(headers=headers, trust_env=False, timeout=60) as http,
        Client(streamable_http_client(f"{url}/mcp", http_client=http)) as agent,
    ):
        yield agent


@pytest.fixture
async def organization(provider: ScriptedProvider, provider_service: Service) -> str:
    """One that has a document."""
    key, organization_id = await provider_service.new_key()
    async with provider_service.client(key) as client:
        body = {"text": FACTS, "title": "Brochure", "source": "brochure.pdf"}
        assert (await client.post("/ingest", json=body)).status_code == 200
    return organization_id


@pytest.fixture
def agent_of(provider_service: Service) -> Connect:
    """Agents of an organization, with a key of these scopes (or of all)."""

    @asynccontextmanager
    async def connect(organization_id: str | None, *scopes: Scope) -> AsyncIterator[Client]:
        given = (frozenset(scopes),) if scopes else ()
        key, _ = await provider_service.new_key(*given, organization_id=organization_id)
        async with connected(provider_service.url, key) as agent:
            yield agent

    return connect


def text_of(result: types.CallToolResult) -> str:
    (content,) = result.content
    assert isinstance(content, types.TextContent)
    return content.text


async def test_an_agent_finds_passages(agent_of: Connect, organization: str) -> None:
    async with agent_of(organization) as agent:
        tools = {tool.name: tool for tool in (await agent.list_tools()).tools}
        result = await agent.call_tool("search", {"query": QUESTION})

    assert tools.keys() == {"search", "ask"}
    assert tools["search"].annotations is not None
    assert tools["search"].annotations.read_only_hint is True
    assert result.structured_content is not None
    (passage,) = result.structured_content["results"]
    assert (passage["text"], passage["title"], passage["page"]) == (FACTS, "Brochure", 1)
    assert FACTS in text_of(result)
    assert passage["uri"] in text_of(result)


async def test_an_agent_gets_an_answer_with_its_citations(
    agent_of: Connect, organization: str, provider: ScriptedProvider
) -> None:
    provider.default = Reply(("Five years [1].",), usage=(812, 96))

    async with agent_of(organization) as agent:
        result = await agent.call_tool("ask", {"question": QUESTION})

    told: Any = result.structured_content
    assert (told["answer"], told["refused"], told["model"]) == ("Five years [1].", False, "gpt-4.1-mini")
    assert [(source["n"], source["cited"], source["source"]) for source in told["sources"]] == [
        (1, True, "brochure.pdf")
    ]
    assert told["usage"]["prompt_tokens"] == 812
    assert text_of(result) == (
        f"Five years [1].\n\nSources:\n[1] Brochure, page 1 ({told['sources'][0]['uri']})"
    )


async def test_documents_are_resources(agent_of: Connect, organization: str) -> None:
    async with agent_of(organization) as agent:
        (resource,) = (await agent.list_resources()).resources
        (template,) = (await agent.list_resource_templates()).resource_templates
        (content,) = (await agent.read_resource(resource.uri)).contents

    assert (resource.title, resource.description) == ("Brochure", "brochure.pdf")
    assert "{document_id}" in template.uri_template
    assert isinstance(content, types.TextResourceContents)
    assert content.text == FACTS


async def test_a_long_document_says_where_it_goes_on(
    agent_of: Connect, organization: str, provider_service: Service
) -> None:
    key, _ = await provider_service.new_key(organization_id=organization)
    text = "".join(f"Line number {number} of a long text.\n" for number in range(4000)).strip()
    async with provider_service.client(key) as client:
        document_id = (await client.post("/ingest", json={"text": text})).json()["document_id"]

    read, uri = [], f"ibid://documents/{document_id}"
    async with agent_of(organization) as agent:
        while uri:
            (content,) = (await agent.read_resource(uri)).contents
            assert isinstance(content, types.TextResourceContents)
            piece, _, uri = content.text.partition("\n\n[Goes on at ")
            uri = uri.removesuffix("]")
            read.append(piece)

    assert len(read) == 2
    assert "".join(read) == text


async def test_resources_come_in_pages(
    agent_of: Connect, organization: str, provider_service: Service
) -> None:
    key, _ = await provider_service.new_key(organization_id=organization)
    async with provider_service.client(key) as client:
        for number in range(50):
            await client.post("/ingest", json={"text": f"Short text number {number}."})

    async with agent_of(organization) as agent:
        first = await agent.list_resources()
        second = await agent.list_resources(cursor=first.next_cursor)

    assert (len(first.resources), len(second.resources), second.next_cursor) == (50, 1, None)


async def test_another_organization_sees_nothing_of_it(agent_of: Connect, organization: str) -> None:
    async with agent_of(organization) as agent:
        (resource,) = (await agent.list_resources()).resources
        found_here: Any = (await agent.call_tool("search", {"query": QUESTION})).structured_content
        collection_id = found_here["results"][0]["collection_id"]

    async with agent_of(None) as stranger:
        found = await stranger.call_tool("search", {"query": QUESTION})
        answered = await stranger.call_tool("ask", {"question": QUESTION})
        named = await stranger.call_tool("search", {"query": QUESTION, "collection_ids": [collection_id]})
        with pytest.raises(MCPError) as foreign:
            await stranger.read_resource(resource.uri)
        with pytest.raises(MCPError) as unknown:
            await stranger.read_resource("ibid://documents/doc_unknown")
        listed = (await stranger.list_resources()).resources

    assert found.structured_content == {"results": [], "degraded": None}
    assert answered.structured_content is not None
    assert answered.structured_content["refused"] is True
    assert (named.is_error, "collection_not_found" in text_of(named)) == (True, True)
    assert listed == []
    assert foreign.value.error.message == unknown.value.error.message


@pytest.mark.parametrize(
    ("scope", "tool"),
    [(Scope.SEARCH, "search"), (Scope.CHAT, "ask"), (Scope.READ, None), (Scope.INGEST, None)],
)
async def test_a_key_does_no_more_than_its_scopes_allow(
    agent_of: Connect, organization: str, scope: Scope, tool: str | None
) -> None:
    async with agent_of(organization, scope) as agent:
        assert [listed.name for listed in (await agent.list_tools()).tools] == ([tool] if tool else [])
        for name, arguments in (("search", {"query": "a"}), ("ask", {"question": "a"})):
            result = await agent.call_tool(name, arguments)
            assert bool(result.is_error) is (name != tool)
        if scope is Scope.READ:
            assert (await agent.list_resources()).resources
        else:
            with pytest.raises(MCPError, match="scope 'read'"):
                await agent.list_resources()


@pytest.mark.parametrize(
    ("tool", "arguments", "expected"),
    [
        ("search", {}, "query"),
        ("search", {"query": "a", "unknown": 1}, "unknown"),
        ("search", {"query": "a", "top_k": 1000}, "top_k"),
        ("ask", {"question": "  "}, "question"),
        ("ask", {"question": "a", "bot_id": "bot_unknown"}, "bot_not_found"),
    ],
)
async def test_wrong_arguments_are_told_to_the_agent(
    agent_of: Connect, organization: str, tool: str, arguments: dict[str, Any], expected: str
) -> None:
    async with agent_of(organization) as agent:
        result = await agent.call_tool(tool, arguments)

    assert result.is_error
    assert expected in text_of(result)


@pytest.mark.parametrize(
    "uri",
    [
        "ibid://documents/",
        "ibid://documents/../secrets",
        "ibid://documents/doc_x?page=0",
        "ibid://documents/doc_x?page=zero",
        "ibid://elsewhere/doc_x",
        "file:///etc/passwd",
    ],
)
async def test_what_is_no_address_of_a_document_is_not_found(
    agent_of: Connect, organization: str, uri: str
) -> None:
    async with agent_of(organization) as agent:
        with pytest.raises(MCPError, match="no such document"):
            await agent.read_resource(uri)


async def test_a_spent_budget_and_the_limits_of_bursts_hold_for_agents(
    provider_service: Service, organization: str, provider: ScriptedProvider
) -> None:
    key, _ = await provider_service.new_key(organization_id=organization)
    async with provider_service.client(key) as client:
        await client.post("/budgets", json={"subject": "organization", "period": "day", "max_tokens": 0})
    async with connected(provider_service.url, key) as agent:
        spent = await agent.call_tool("ask", {"question": QUESTION})
    limited = variant(provider_service, rate_limit_search="1/minute per key")
    call = {"jsonrpc": "2.0", "id": 1, "method": "tools/call"}
    headers = {"Accept": "application/json, text/event-stream"}
    async with client_of(limited, token=key) as client:
        params = {"name": "search", "arguments": {"query": QUESTION}}
        results = [
            (await client.post("/mcp", json={**call, "params": params}, headers=headers)).json()["result"]
            for _ in range(2)
        ]

    assert (spent.is_error, "budget_spent" in text_of(spent)) == (True, True)
    assert provider.chats == []
    assert [result.get("isError", False) for result in results] == [False, True]
    assert "rate_limited" in results[1]["content"][0]["text"]


async def test_without_credentials_there_is_no_door_and_with_the_setting_off_none_at_all(
    provider_service: Service,
) -> None:
    call = {"jsonrpc": "2.0", "id": 1, "method": "tools/list"}
    async with httpx.AsyncClient(base_url=provider_service.url, trust_env=False) as client:
        anonymous = await client.post("/mcp", json=call)
        read = await client.get("/mcp")
    key, _ = await provider_service.new_key()
    async with client_of(variant(provider_service, mcp=False), token=key) as client:
        off = await client.post("/mcp", json=call)

    assert (anonymous.status_code, anonymous.headers["www-authenticate"]) == (401, "Bearer")
    assert anonymous.json()["error"]["code"] == "unauthenticated"
    assert read.status_code == 405
    assert (off.status_code, off.json()["error"]["code"]) == (404, "mcp_off")


@pytest.mark.parametrize("body", [b"", b"{", b"[]", b'{"jsonrpc":"2.0"}', b'"x"', b"\xff"])
async def test_what_is_no_call_is_a_client_error(provider_service: Service, body: bytes) -> None:
    key, _ = await provider_service.new_key()
    async with provider_service.client(key) as client:
        headers = {"Accept": "application/json", "Content-Type": "application/json"}
        response = await client.post("/mcp", content=body, headers=headers)

    assert 400 <= response.status_code < 500, response.text


def test_the_sdk_is_not_loaded_before_the_first_agent_comes() -> None:
    code = "import sys, app.main; sys.exit('mcp' in sys.modules)"
    root = Path(__file__).parents[2]

    assert subprocess.run([sys.executable, "-c", code], cwd=root, check=False).returncode == 0


async def test_an_agent_that_leaves_ends_its_question_and_what_a_model_was_asked(
    provider_service: Service, organization: str, provider: ScriptedProvider
) -> None:
    provider.default = Reply(("Five years [1].",), delay_seconds=120)  # nobody waits so long
    key, _ = await provider_service.new_key(organization_id=organization)
    body = {"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": {"name": "ask", "arguments": {"question": QUESTION}}}  # fmt: skip
    headers = {"Accept": "application/json, text/event-stream", "MCP-Protocol-Version": "2025-06-18"}
    async with provider_service.client(key) as client, asyncio.timeout(60):
        asking = asyncio.create_task(client.post("/mcp", json=body, headers=headers))
        while not provider.chats:
            await asyncio.sleep(0.02)
        asking.cancel()
        charged: list[str] = []
        while "answer" not in charged:  # what was asked and broken off is in the ledger when it has ended
            await asyncio.sleep(0.05)
            usage = await client.get("/usage", params={"group_by": "purpose"})
            charged = [row["purpose"] for row in usage.json()["rows"]]
