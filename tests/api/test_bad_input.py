"""Whatever a client sends, it gets the one error shape with a 4xx, and nothing is half stored."""

import json
from typing import Any

import httpx
import pytest

from app.core.principal import Scope
from tests.fixtures.service import NewClient, Service

CHAT, SEARCH, INGEST = "/chat", "/search", "/ingest"


def assert_error(response: httpx.Response, status: int, code: str | None = None) -> dict[str, Any]:
    assert response.status_code == status, response.text
    error: dict[str, Any] = response.json()["error"]
    assert set(error) == {"code", "message", "details", "request_id"}
    assert error["message"]
    assert error["request_id"] == response.headers["x-request-id"]
    if code:
        assert error["code"] == code
    return error


@pytest.mark.parametrize(
    ("path", "body"),
    [
        (CHAT, {}),
        (CHAT, {"message": ""}),
        (CHAT, {"message": "   \n\t "}),
        (CHAT, {"message": None}),
        (CHAT, {"message": 5}),
        (CHAT, {"message": ["a"]}),
        (CHAT, {"message": "x" * 8001}),
        (CHAT, {"message": "a", "messages": [{"role": "user", "content": "a"}]}),
        (CHAT, {"messages": []}),
        (CHAT, {"messages": [{"role": "assistant", "content": "a"}]}),
        (CHAT, {"messages": [{"role": "system", "content": "a"}]}),
        (CHAT, {"message": "a", "unknown": 1}),
        (CHAT, {"message": "a", "config": {"top_k": 0}}),
        (CHAT, {"message": "a", "config": {"top_k": -1}}),
        (CHAT, {"message": "a", "config": {"top_k": 10**9}}),
        (CHAT, {"message": "a", "config": {"top_k": 1.5}}),
        (CHAT, {"message": "a", "config": {"temperature": 3}}),
        (CHAT, {"message": "a", "config": {"model": "x"}}),
        (CHAT, {"message": "a", "session_id": ""}),
        (CHAT, {"message": "a", "session_id": "../../etc"}),
        (CHAT, {"message": "a", "session_id": "x" * 65}),
        (CHAT, {"message": "a", "session_id": "a\u0000b"}),
        (CHAT, {"message": "a", "collection_ids": []}),
        (CHAT, {"message": "a", "stream": "maybe"}),
        (SEARCH, {}),
        (SEARCH, {"query": ""}),
        (SEARCH, {"query": "x" * 8001}),
        (SEARCH, {"query": "a", "top_k": 0}),
        (SEARCH, {"query": "a", "top_k": 10**9}),
        (SEARCH, {"query": "a", "filters": {"tags": "ems"}}),
        (SEARCH, {"query": "a", "filters": {"tags": [1]}}),
        (SEARCH, {"query": "a", "filters": {"unknown": 1}}),
        (SEARCH, {"query": "a", "filters": {"metadata": {"k": {"like": "x"}}}}),
        (SEARCH, {"query": "a", "filters": {"metadata": {"k": {}}}}),
        (SEARCH, {"query": "a", "filters": {"metadata": {"k": {"gt": None}, "": 1}}}),
        (SEARCH, {"query": "a", "filters": {"metadata": {f"k{n}": n for n in range(21)}}}),
        (INGEST, {}),
        (INGEST, {"text": ""}),
        (INGEST, {"text": 7}),
        (INGEST, {"text": "a", "metadata": []}),
        (INGEST, {"text": "a", "metadata": {"k": "x" * 100_001}}),
        (INGEST, {"text": "a", "title": "x" * 501}),
        (INGEST, {"text": "a", "typo": 1}),
        (INGEST, {"text": "a", "tags": [""]}),
        (INGEST, {"text": "a", "collection_id": "'; DROP TABLE documents; --"}),
    ],
)
async def test_a_request_that_is_not_valid_says_where(
    client: httpx.AsyncClient, path: str, body: Any
) -> None:
    error = assert_error(await client.post(path, json=body), 422, "validation_error")

    assert error["details"]["problems"][0]["path"].startswith("body")


@pytest.mark.parametrize("value", ["NaN", "Infinity", "-Infinity", "1e999", "10" * 400])
@pytest.mark.parametrize(
    ("path", "template"),
    [
        (SEARCH, '{"query": "a", "top_k": %s}'),
        (CHAT, '{"message": "a", "config": {"temperature": %s}}'),
        (SEARCH, '{"query": "a", "filters": {"metadata": {"k": {"gt": %s}}}}'),
    ],
)
async def test_numbers_that_are_none_are_refused(
    client: httpx.AsyncClient, path: str, template: str, value: str
) -> None:
    response = await client.post(path, content=template % value, headers={"Content-Type": "application/json"})

    assert 400 <= response.status_code < 500 or (response.status_code == 200 and value == "10" * 400)
    if response.status_code != 200:
        assert_error(response, response.status_code)


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"{",
        b"not json",
        b"[" * 100_000,
        b'{"text":' * 50_000,
        b"\xff\xfe",
        b'"a string"',
        b"null",
        b"[]",
    ],
)
@pytest.mark.parametrize("path", [CHAT, SEARCH, INGEST])
async def test_a_body_that_is_no_object_is_refused(
    client: httpx.AsyncClient, path: str, content: bytes
) -> None:
    response = await client.post(path, content=content, headers={"Content-Type": "application/json"})

    assert response.status_code in (400, 422)
    assert_error(response, response.status_code)


async def test_deeply_nested_metadata_is_refused_or_kept_but_never_an_error(
    client: httpx.AsyncClient,
) -> None:
    for depth in (10, 100, 900, 5_000):
        content = '{"text": "a b c", "metadata": {"k": ' + "[" * depth + "]" * depth + "}}"
        response = await client.post(INGEST, content=content, headers={"Content-Type": "application/json"})
        assert response.status_code in (200, 400, 422), (depth, response.text)


async def test_ten_megabytes_of_text_are_too_large(client: httpx.AsyncClient) -> None:
    error = assert_error(await client.post(INGEST, json={"text": "word " * 2_000_000}), 413, "text_too_large")

    assert error["details"] == {"limit_bytes": 5_000_000, "size_bytes": 10_000_000}
    assert (await client.get("/documents")).json() == []


async def test_a_body_past_the_limit_is_refused_before_it_is_read(client: httpx.AsyncClient) -> None:
    assert_error(await client.post(INGEST, content=b" " * 12_000_000), 413, "too_large")


async def test_a_body_of_unknown_length_is_cut_off_at_the_limit(client: httpx.AsyncClient) -> None:
    async def endless() -> Any:
        for _ in range(30):
            yield b" " * 1_000_000

    try:
        response = await client.post(INGEST, content=endless(), headers={"Content-Type": "application/json"})
    except httpx.WriteError:
        return  # the server closed the connection on a client that went on sending
    assert_error(response, 413, "too_large")


@pytest.mark.parametrize("text", [" ", "\n\n\t", "\u00a0\u2003", "\u0000", "\u0000 \u0000"])
async def test_blank_text_is_refused(client: httpx.AsyncClient, text: str) -> None:
    assert_error(await client.post(INGEST, json={"text": text}), 422, "blank_text")


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", "/documents/doc_unknown"),
        ("GET", "/documents/doc_unknown/chunks"),
        ("DELETE", "/documents/doc_unknown"),
        ("GET", "/chat/sessions/sess_unknown/messages"),
    ],
)
async def test_an_unknown_id_is_not_found(client: httpx.AsyncClient, method: str, path: str) -> None:
    assert_error(await client.request(method, path), 404)


async def test_unknown_collections_and_documents_in_a_body_are_not_found(client: httpx.AsyncClient) -> None:
    unknown = {"collection_ids": ["col_unknown"]}
    assert_error(await client.post(SEARCH, json={"query": "a", **unknown}), 404, "collection_not_found")
    assert_error(await client.post(CHAT, json={"message": "a", **unknown}), 404, "collection_not_found")
    assert_error(
        await client.post(INGEST, json={"text": "a", "collection_id": "col_x"}), 404, "collection_not_found"
    )
    assert_error(
        await client.post(INGEST, json={"text": "a", "document_id": "doc_x"}), 404, "document_not_found"
    )


@pytest.mark.parametrize(
    "query",
    [
        "?limit=0",
        "?limit=201",
        "?limit=abc",
        "?offset=-1",
        "?cursor=!!!",
        "?cursor=WyIx",
        "?status=done",
        "?cursor=WzEsMl0",
    ],
)
async def test_a_list_with_wrong_parameters_is_refused(client: httpx.AsyncClient, query: str) -> None:
    assert_error(await client.get(f"/documents{query}"), 422)


async def test_an_unknown_route_and_method_have_the_shape_too(client: httpx.AsyncClient) -> None:
    assert_error(await client.get("/nothing/here"), 404, "route_not_found")
    assert_error(await client.put("/chat", json={}), 405, "method_not_allowed")


KEYS = [
    None,
    "",
    "wrong",
    "Bearer",
    "ibid_000000000000_" + "a" * 43,
    "ibid_0_a",
    "ibid_" + "0" * 12 + "_" + "a" * 10_000,
    "' OR 1=1 --",
]


@pytest.mark.parametrize("key", KEYS)
@pytest.mark.parametrize(
    ("method", "path"),
    [("POST", CHAT), ("POST", SEARCH), ("POST", INGEST), ("GET", "/documents"), ("GET", "/v1/documents")],
)
async def test_without_a_valid_key_nothing_is_answered(
    service: Service, method: str, path: str, key: str | None
) -> None:
    async with service.client(None) as anonymous:
        headers = {} if key is None else {"X-API-Key": key}
        body = {"message": "a"} if path == CHAT else {"query": "a"} if path == SEARCH else {"text": "a"}
        response = await anonymous.request(method, path, json=body, headers=headers)

    assert_error(response, 401, "unauthenticated")
    assert response.headers["www-authenticate"] == "Bearer"


async def test_a_key_with_one_letter_changed_is_refused(service: Service) -> None:
    key, _ = await service.new_key()
    wrong = key[:-1] + ("a" if key[-1] != "a" else "b")

    async with service.client(wrong) as client:
        assert_error(await client.get("/documents"), 401, "unauthenticated")


@pytest.mark.parametrize(
    ("scope", "method", "path", "body"),
    [
        (Scope.CHAT, "POST", CHAT, {"message": "a"}),
        (Scope.SEARCH, "POST", SEARCH, {"query": "a"}),
        (Scope.INGEST, "POST", INGEST, {"text": "a"}),
        (Scope.READ, "GET", "/documents", None),
    ],
)
async def test_a_key_needs_the_scope_of_the_route(
    new_client: NewClient, scope: Scope, method: str, path: str, body: Any
) -> None:
    without = await new_client(*(set(Scope) - {scope}))
    only = await new_client(scope)

    error = assert_error(await without.request(method, path, json=body), 403, "missing_scope")
    assert error["details"]["required"] == scope
    assert (await only.request(method, path, json=body)).status_code == 200


async def test_the_key_may_come_in_its_own_header(service: Service) -> None:
    key, _ = await service.new_key()

    async with service.client(None) as client:
        assert (await client.get("/documents", headers={"X-API-Key": key})).status_code == 200


async def test_a_strange_request_id_is_replaced_and_a_sensible_one_kept(client: httpx.AsyncClient) -> None:
    kept = await client.get("/documents", headers={"X-Request-ID": "my-id-1"})
    replaced = await client.get("/documents", headers={"X-Request-ID": "a b\tc" + "x" * 500})

    assert kept.headers["x-request-id"] == "my-id-1"
    assert len(replaced.headers["x-request-id"]) == 24


async def test_the_value_of_a_wrong_field_is_not_sent_back(client: httpx.AsyncClient) -> None:
    response = await client.post(CHAT, json={"message": ["my secret"], "config": {"top_k": "my secret"}})

    assert "my secret" not in json.dumps(response.json())
