"""Files over the API: taken, refused with a reason, found again, given back, replaced, never twice."""

import asyncio
import re
from pathlib import Path
from typing import Any

import httpx
import pytest

from app.services import files
from tests.fixtures.postgres import MakeDatabase
from tests.fixtures.service import NewClient, Service, make_settings, running
from tests.fixtures.uploads import ended, found, send, upload
from tests.fixtures.variants import client_of, variant

POLICY = b"# Leave policy\n\nEvery employee has 24 days of paid leave a year.\n"


async def test_a_file_becomes_searchable_by_itself(client: httpx.AsyncClient) -> None:
    response = await send(client, POLICY, "leave.md", tags=["hr", "policy"], metadata='{"year": 2026}')

    assert response.status_code == 202
    (result,) = response.json()
    assert (result["filename"], result["status"], result["duplicate"]) == ("leave.md", "uploaded", False)
    document = await ended(client, result["document_id"])
    assert (document["status"], document["progress"], document["error"]) == ("completed", 1.0, None)
    assert (document["filename"], document["content_type"]) == ("leave.md", "text/markdown")
    assert (document["tags"], document["metadata"]) == (["hr", "policy"], {"year": 2026})
    assert (await found(client, "days of leave"))[0]["document_id"] == document["id"]


async def test_the_text_and_the_file_come_back_as_they_were(client: httpx.AsyncClient) -> None:
    document_id = await upload(client, POLICY, 'Urlaub "ü" \u202e.md')
    await ended(client, document_id)

    file = await client.get(f"/documents/{document_id}/content")
    pages = (await client.get(f"/documents/{document_id}/text")).json()
    chunks = (await client.get(f"/documents/{document_id}/chunks")).json()

    assert file.content == POLICY
    assert file.headers["content-type"] == "application/octet-stream"
    assert file.headers["x-content-type-options"] == "nosniff"
    assert file.headers["content-security-policy"] == "sandbox; default-src 'none'"
    disposition = file.headers["content-disposition"]
    assert disposition.startswith("attachment; filename=")
    assert "filename*=UTF-8''Urlaub%20%22%C3%BC%22" in disposition
    for chunk in chunks:
        assert pages[chunk["page"] - 1]["text"][chunk["start"] : chunk["end"]] == chunk["text"]


async def test_several_files_have_a_result_each(client: httpx.AsyncClient) -> None:
    files = [
        ("files", ("a.txt", b"The first of three files.")),
        ("files", ("empty.txt", b"")),
        ("files", ("c.txt", b"The third of three files.")),
    ]

    response = await client.post("/documents", files=files)

    assert response.status_code == 202
    assert [(r["filename"], r["error"] and r["error"]["code"]) for r in response.json()] == [
        ("a.txt", None),
        ("empty.txt", "empty_file"),
        ("c.txt", None),
    ]
    for result in response.json():
        if result["document_id"]:
            assert (await ended(client, result["document_id"]))["status"] == "completed"


@pytest.mark.parametrize(
    ("content", "filename", "status", "code"),
    [
        (b"", "empty.txt", 422, "empty_file"),
        (b"\x7fELF\x02\x01\x01" + bytes(100), "program", 415, "unsupported_file"),
        (b"PK\x03\x04" + bytes(100), "archive.zip", 415, "unsupported_file"),
        (b"%PDF-1.7\n" + bytes(100), "picture.png", 422, "file_refused"),
        (b"\x89PNG\r\n\x1a\n" + bytes(100), "text.txt", 422, "file_refused"),
    ],
)
async def test_what_can_not_be_read_is_refused_with_a_reason(
    client: httpx.AsyncClient, content: bytes, filename: str, status: int, code: str
) -> None:
    response = await send(client, content, filename)

    assert (response.status_code, response.json()["error"]["code"]) == (status, code)
    assert len(response.json()["error"]["message"]) > 15
    assert (await client.get("/documents")).json() == []


async def test_a_file_over_the_limit_is_refused_and_nothing_of_it_stays(service: Service) -> None:
    app = variant(service, max_upload_bytes=1000)
    key, _ = await service.new_key()
    async with client_of(app, token=key) as client:
        for size in (1001, 3_000):
            response = await send(client, b"x" * size, "large.txt")
            assert (response.status_code, response.json()["error"]["code"]) == (413, "file_too_large")
        refused = await client.post("/documents", content=b"x", headers={"Content-Length": "999999999"})
        assert refused.status_code == 413
        assert (await send(client, b"x" * 1000, "fits.txt")).status_code == 202
    assert list(service.runtime.spool.folder.glob("*")) == []


@pytest.mark.parametrize(
    ("body", "content_type"),
    [
        (b"{}", "application/json"),
        (b"", "multipart/form-data; boundary=x"),
        (b"--x--\r\n", "multipart/form-data; boundary=x"),
        (b"--x\r\nnonsense\r\n\r\n--x--\r\n", "multipart/form-data; boundary=x"),
        (
            b'--x\r\nContent-Disposition: form-data; name="f"\r\n\r\nv\r\n--x--\r\n',
            "multipart/form-data; boundary=x",
        ),
        (
            b'--x\r\nContent-Disposition: form-data; name="f"; filename="a.txt"\r\n\r\nno end',
            "multipart/form-data; boundary=x",
        ),
        (b"x", "multipart/form-data"),
    ],
)
async def test_what_is_no_upload_is_a_422(client: httpx.AsyncClient, body: bytes, content_type: str) -> None:
    response = await client.post("/documents", content=body, headers={"Content-Type": content_type})

    assert response.status_code == 422, response.text
    assert response.json()["error"]["code"] in ("not_an_upload", "upload_interrupted")


@pytest.mark.parametrize(
    "fields",
    [
        {"colection_id": "col_1"},
        {"metadata": "[1]"},
        {"metadata": "{"},
        {"collection_id": "no id!"},
        {"title": "x" * 501},
        {"title": ["a", "b"]},
    ],
)
async def test_fields_are_checked(client: httpx.AsyncClient, fields: dict[str, Any]) -> None:
    response = await send(client, b"Some text", **fields)

    assert (response.status_code, response.json()["error"]["code"]) == (422, "validation_error")


async def test_an_anonymous_upload_is_refused_before_its_body_is_read(service: Service) -> None:
    url = httpx.URL(service.url)
    reader, writer = await asyncio.open_connection(url.host, url.port)
    head = (
        "POST /documents HTTP/1.1\r\nHost: ibid\r\nContent-Length: 50000000\r\n"
        "Content-Type: multipart/form-data; boundary=x\r\n\r\n--x\r\n"
    )
    writer.write(head.encode())  # and then nothing more

    status = await asyncio.wait_for(reader.readline(), 30)

    assert status.startswith(b"HTTP/1.1 401")
    writer.close()


async def test_the_same_bytes_are_the_same_document(client: httpx.AsyncClient) -> None:
    first = await upload(client, POLICY, "leave.md")
    await ended(client, first)

    again = await send(client, POLICY, "copy of leave.md")

    assert again.status_code == 200
    assert (again.json()[0]["document_id"], again.json()[0]["duplicate"]) == (first, True)
    assert again.json()[0]["status"] == "completed"
    assert len((await client.get("/documents")).json()) == 1


async def test_many_that_send_the_same_file_at_once_make_one_document(
    client: httpx.AsyncClient, service: Service
) -> None:
    before = await service.runtime.originals.keys()
    responses = await asyncio.gather(*(send(client, b"Sent by twelve at once.") for _ in range(12)))

    assert {r.status_code for r in responses} <= {200, 202}
    assert len({r.json()[0]["document_id"] for r in responses}) == 1
    assert len((await client.get("/documents")).json()) == 1
    await ended(client, responses[0].json()[0]["document_id"])
    await files.sweep(service.runtime)
    assert len(await service.runtime.originals.keys() - before) == 1


async def test_a_file_in_another_collection_is_another_document(client: httpx.AsyncClient) -> None:
    collection_id = (await client.post("/collections", json={"name": "Other"})).json()["id"]
    first = await upload(client, POLICY, "leave.md")

    second = await upload(client, POLICY, "leave.md", collection_id=collection_id)

    assert first != second
    assert (await ended(client, second))["collection_id"] == collection_id


async def test_a_new_file_for_a_document_replaces_it_when_it_is_complete(client: httpx.AsyncClient) -> None:
    document_id = await upload(client, b"The gate code is 1111.", "code.txt")
    await ended(client, document_id)

    response = await send(client, b"The gate code is 2222.", "code2.txt", document_id=document_id)

    assert response.json()[0]["document_id"] == document_id
    document = await ended(client, document_id)
    assert (document["status"], document["filename"]) == ("completed", "code2.txt")
    assert [hit["text"] for hit in await found(client, "gate code")] == ["The gate code is 2222."]
    assert (await client.get(f"/documents/{document_id}/content")).content == b"The gate code is 2222."


async def test_a_replacement_that_fails_leaves_what_was_there(client: httpx.AsyncClient) -> None:
    document_id = await upload(client, b"The gate code is 1111.", "code.txt")
    await ended(client, document_id)

    await send(client, b"%PDF-1.7\nthis is no PDF at all", "code.pdf", document_id=document_id)

    document = await ended(client, document_id)
    assert document["status"] == "failed"
    assert document["error"]["retryable"] is False
    assert [hit["text"] for hit in await found(client, "gate code")] == ["The gate code is 1111."]
    assert (await client.get(f"/documents/{document_id}/content")).content == b"The gate code is 1111."


async def test_a_file_that_can_not_be_read_fails_with_a_sentence(client: httpx.AsyncClient) -> None:
    document_id = await upload(client, b"%PDF-1.7\nthis is no PDF at all", "broken.pdf")

    document = await ended(client, document_id)

    assert document["status"] == "failed"
    assert document["error"]["code"] == "corrupt"
    assert document["error"]["message"].endswith(".")
    assert (document["attempts"], document["chunks"]) == (1, 0)


async def test_the_same_key_gets_the_same_answer(client: httpx.AsyncClient) -> None:
    headers = {"Idempotency-Key": "import-1"}
    first = await send(client, POLICY, "leave.md", headers=headers)

    again = await send(client, POLICY, "leave.md", headers=headers)
    other = await send(client, b"Something else", "leave.md", headers=headers)
    elsewhere = await client.post("/ingest", json={"text": "x"}, headers=headers)

    assert (again.status_code, again.json()) == (202, first.json())
    assert (other.status_code, other.json()["error"]["code"]) == (422, "idempotency_key_reused")
    assert (elsewhere.status_code, elsewhere.json()["error"]["code"]) == (422, "idempotency_key_reused")
    too_long = await send(client, POLICY, headers={"Idempotency-Key": "k" * 256})
    assert (too_long.status_code, too_long.json()["error"]["code"]) == (422, "idempotency_key_invalid")


async def test_a_request_that_failed_may_be_sent_again_with_its_key(client: httpx.AsyncClient) -> None:
    headers = {"Idempotency-Key": "retry"}
    assert (await send(client, b"", headers=headers)).status_code == 422

    assert (await send(client, b"Not empty now", headers=headers)).status_code == 202


async def test_a_text_with_a_key_is_ingested_once(client: httpx.AsyncClient) -> None:
    headers = {"Idempotency-Key": "one"}
    first = await client.post("/ingest", json={"text": "Once and for all."}, headers=headers)
    again = await client.post("/ingest", json={"text": "Once and for all."}, headers=headers)

    assert first.json()["duplicate"] is False
    assert (again.status_code, again.json()) == (200, first.json())


async def test_one_at_a_time_of_those_with_the_same_key(client: httpx.AsyncClient) -> None:
    headers = {"Idempotency-Key": "race"}
    texts = "A text that takes a moment. " * 2000
    answers = await asyncio.gather(
        *(client.post("/ingest", json={"text": texts}, headers=headers) for _ in range(6))
    )

    codes = sorted(answer.status_code for answer in answers)
    assert codes.count(200) >= 1
    assert set(codes) <= {200, 409}
    assert (
        sum(answer.json().get("duplicate") is False for answer in answers if answer.status_code == 200) >= 1
    )
    assert len((await client.get("/documents")).json()) == 1


async def test_keys_of_two_callers_have_nothing_to_do_with_each_other(new_client: NewClient) -> None:
    mine, theirs = await new_client(), await new_client()
    headers = {"Idempotency-Key": "shared"}

    first = await mine.post("/ingest", json={"text": "Mine"}, headers=headers)
    second = await theirs.post("/ingest", json={"text": "Theirs"}, headers=headers)

    assert first.status_code == second.status_code == 200
    assert first.json()["document_id"] != second.json()["document_id"]


async def test_a_text_need_not_be_waited_for(client: httpx.AsyncClient) -> None:
    response = await client.post("/ingest", json={"text": "# Later\n\nProcessed in a while.", "wait": False})

    assert (response.status_code, response.json()["status"]) == (202, "uploaded")
    document = await ended(client, response.json()["document_id"])
    assert (document["status"], document["title"], document["chunks"]) == ("completed", "Later", 1)
    again = await client.post("/ingest", json={"text": "# Later\n\nProcessed in a while."})
    assert (again.json()["status"], again.json()["duplicate"]) == ("indexed", True)
    assert again.json()["document_id"] == document["id"]


@pytest.mark.parametrize("body", [{}, {"text": "a", "url": "https://example.com"}, {"wait": False}])
async def test_a_text_or_an_address_and_not_both(client: httpx.AsyncClient, body: dict[str, object]) -> None:
    assert (await client.post("/ingest", json=body)).status_code == 422


@pytest.mark.parametrize(
    "url",
    [
        "ftp://example.com/a",
        "file:///etc/passwd",
        "https://",
        "http://user:pw@example.com",
        "nonsense",
        "http://127.0.0.1/secret",
        "http://[::1]/",
        "http://localhost:5432/",
        "http://a b",
    ],
)
async def test_an_address_that_can_not_be_fetched_is_refused(client: httpx.AsyncClient, url: str) -> None:
    response = await client.post("/ingest", json={"url": url})

    assert (response.status_code, response.json()["error"]["code"]) == (422, "unsafe_url")


@pytest.mark.parametrize(
    "name",
    [
        "../../../../tmp/ibid-escaped.txt",
        "..\\..\\ibid-escaped.txt",
        "/etc/cron.d/ibid-escaped",
        "nul%00name.txt",
        "x" * 10_000 + ".txt",
        f"annual{chr(0x202E)}fdp.txt",
        "CON",
        "aux.txt",
        "..",
        '"; rm -rf /; ".txt',
    ],
    ids=lambda name: ascii(name)[:30],
)
async def test_a_name_decides_nothing_about_where_a_file_is_stored(
    client: httpx.AsyncClient, service: Service, name: str
) -> None:
    before = await service.runtime.originals.keys()

    response = await send(client, f"What {ascii(name)[:40]} is called.".encode(), name)

    assert response.status_code < 500
    if response.status_code >= 400:  # too long for the head of a part
        assert await service.runtime.originals.keys() == before
        return
    document = await ended(client, response.json()[0]["document_id"])
    assert document["status"] == "completed"
    (stored,) = await service.runtime.originals.keys() - before
    assert re.fullmatch("[0-9a-f]{32}", stored)
    shown = document["filename"] or ""
    assert len(shown) <= 255
    assert not set(shown) & {"/", "\\", "\0", chr(0x202E)}
    assert shown not in (".", "..", "CON", "aux.txt")
    file = await client.get(f"/documents/{document['id']}/content")
    assert file.headers["content-disposition"].startswith("attachment; ")
    assert not any(
        path.exists() for path in (Path("/tmp/ibid-escaped.txt"), Path("/etc/cron.d/ibid-escaped"))
    )


async def test_files_may_be_kept_in_the_database_alone(make_database: MakeDatabase, tmp_path: Path) -> None:
    settings = make_settings(DB_URL=await make_database(), storage_url="database", data_dir=tmp_path)
    content = b"Kept where everything else is." + b" " * 3_000_000 + b"To its end."
    async with running(settings) as service:
        key, _ = await service.new_key()
        async with service.client(key) as client:
            document_id = await upload(client, content, "large.txt")
            assert (await ended(client, document_id))["status"] == "completed"
            assert (await client.get(f"/documents/{document_id}/content")).content == content
            assert [path for path in tmp_path.rglob("*") if path.is_file()] == []
            assert (await client.delete(f"/documents/{document_id}")).status_code == 204
        assert await service.runtime.originals.keys() == set()
