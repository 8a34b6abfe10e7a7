"""Pages of PDF files as pictures, with the passage of a source marked."""

import io

import httpx
from PIL import Image

from tests.api.test_provider_chat import events_of
from tests.fixtures.files import make_pdf
from tests.fixtures.service import NewClient
from tests.fixtures.uploads import ended, upload

PDF = make_pdf(
    [
        ["The first page speaks of the canteen.", "It opens at eight."],
        ["The warranty of the controller is five years.", "Batteries have ten years."],
    ]
)


async def pdf_document(client: httpx.AsyncClient) -> str:
    document_id = await upload(client, PDF, "manual.pdf")
    assert (await ended(client, document_id))["status"] == "completed"
    return document_id


def yellow(picture: bytes) -> set[tuple[int, int]]:
    """The places of the picture that are highlighted, on a raster of ten pixels."""
    image = Image.open(io.BytesIO(picture)).convert("RGB")
    places = set()
    for x in range(0, image.width, 2):
        for y in range(0, image.height, 2):
            red, green, blue = image.getpixel((x, y))  # type: ignore[misc]  # of RGB, three numbers
            if red > 220 and green > 200 and blue < 140:
                places.add((x // 10, y // 10))
    return places


async def test_the_passage_of_a_chunk_is_marked_on_its_page(client: httpx.AsyncClient) -> None:
    document_id = await pdf_document(client)
    chunks = (await client.get(f"/documents/{document_id}/chunks")).json()
    chunk = next(chunk for chunk in chunks if "warranty" in chunk["text"])

    plain = await client.get(f"/documents/{document_id}/pages/2.webp", params={"width": 612})
    marked = await client.get(
        f"/documents/{document_id}/pages/2.webp", params={"width": 612, "chunk": chunk["id"]}
    )

    assert (plain.status_code, marked.status_code) == (200, 200), marked.text
    assert marked.headers["content-type"] == "image/webp"
    assert marked.headers["x-content-type-options"] == "nosniff"
    assert Image.open(io.BytesIO(marked.content)).size == (612, 792)
    assert yellow(plain.content) == set()
    places = yellow(marked.content)
    # The lines begin 72 points off the left, at 84 and 98 points from the top.
    assert places
    assert all(6 <= x <= 40 and 6 <= y <= 10 for x, y in places)


async def test_a_picture_that_the_caller_has_is_not_sent_again(client: httpx.AsyncClient) -> None:
    document_id = await pdf_document(client)
    url = f"/documents/{document_id}/pages/1.webp"
    first = await client.get(url)
    again = await client.get(url, headers={"If-None-Match": first.headers["etag"]})
    wider = await client.get(url, params={"width": 300}, headers={"If-None-Match": first.headers["etag"]})
    assert (again.status_code, again.content) == (304, b"")
    assert wider.status_code == 200
    assert Image.open(io.BytesIO(wider.content)).width == 300


async def test_what_cannot_be_shown_is_refused_with_its_reason(client: httpx.AsyncClient) -> None:
    document_id = await pdf_document(client)
    text = (await client.post("/ingest", json={"text": "A text has no pages."})).json()["document_id"]
    chunk = (await client.get(f"/documents/{document_id}/chunks")).json()[0]

    async def code(path: str, **parameters: str) -> tuple[int, str]:
        response = await client.get(f"/documents/{path}.webp", params=parameters)
        return response.status_code, response.json()["error"]["code"]

    assert await code(f"{document_id}/pages/3") == (404, "page_not_found")
    assert await code(f"{document_id}/pages/2", chunk="chk_unknown") == (404, "chunk_not_found")
    assert await code(f"{document_id}/pages/{3 - chunk['page']}", chunk=chunk["id"]) == (
        404,
        "chunk_not_found",
    )
    assert await code(f"{text}/pages/1") == (409, "no_page_images")
    assert await code("doc_unknown/pages/1") == (404, "document_not_found")
    assert await code(f"{document_id}/pages/0") == (422, "validation_error")
    assert await code(f"{document_id}/pages/1", width="100000") == (422, "validation_error")


async def test_pages_are_shown_to_those_who_may_read_the_document(
    client: httpx.AsyncClient, new_client: NewClient
) -> None:
    document_id = await pdf_document(client)
    other = await new_client()
    response = await other.get(f"/documents/{document_id}/pages/1.webp")
    assert (response.status_code, response.json()["error"]["code"]) == (404, "document_not_found")


async def test_a_source_of_a_pdf_says_where_on_its_page_it_stands_and_one_of_a_text_does_not(
    client: httpx.AsyncClient,
) -> None:
    await pdf_document(client)
    question = "How long is the warranty of the controller?"

    told = (await client.post("/chat", json={"message": question, "session_id": "sess_boxes"})).json()
    streamed = events_of((await client.post("/chat", json={"message": question, "stream": True})).text)
    kept = (await client.get("/chat/sessions/sess_boxes/messages")).json()[-1]
    await client.post("/ingest", json={"text": "The canteen of the town hall serves soup on Mondays."})
    plain = (
        await client.post("/chat", json={"message": "When does the canteen of the town hall serve soup?"})
    ).json()

    source = next(source for source in told["sources"] if source["page"] == 2)
    assert source["boxes"]
    for left, top, right, bottom in source[
        "boxes"
    ]:  # 72 points off the left of 612, at 84 and 98 points of 792
        assert 0.1 < left < right < 0.7
        assert 0.08 < top < bottom < 0.15
    assert kept["sources"] == told["sources"]
    of_stream = next(event for event in streamed if event["type"] == "sources")["sources"]
    assert [each["boxes"] for each in of_stream] == [each["boxes"] for each in told["sources"]]
    of_text = next(each for each in plain["sources"] if each["cited"])
    assert of_text["boxes"] is None
