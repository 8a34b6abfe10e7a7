"""Conversations of one's own: listed, searched, renamed, pinned, judged, deleted; nobody else's."""

from datetime import timedelta
from typing import Any

import httpx
import pytest
from sqlalchemy import text

from app.core import clock, ids
from app.core.principal import SYSTEM, Principal
from app.db.repositories.turns import NewTurn, TurnRepository
from app.services import maintenance, sessions
from tests.api.authorization_rows import FINISHED
from tests.fixtures.people import Caller, Company, People
from tests.fixtures.provider import Reply, ScriptedProvider
from tests.fixtures.service import Service
from tests.fixtures.workers import with_settings

BROCHURE = "The warranty of the gateway is five years. The office in Bremen opens at nine o'clock."


async def ask(caller: Caller, message: str, session_id: str | None = None) -> dict[str, Any]:
    response = await caller.http.post("/chat", json={"message": message, "session_id": session_id})
    assert response.status_code == 200, response.text
    answer: dict[str, Any] = response.json()
    return answer


async def tell(
    service: Service, principal: Principal, session_id: str, question: str, answer: str = "Yes."
) -> None:
    """A turn that was answered, without asking anybody."""
    async with service.runtime.database.unit_of_work(principal) as session:
        turns = TurnRepository(session, principal)
        answer_id = ids.new(ids.Prefix.MESSAGE)
        turn = NewTurn(session_id, question[:80], ids.new(ids.Prefix.MESSAGE), question, answer_id, "m")
        assert await turns.open_turn(turn, history=0) is not None
        await turns.finish_answer(answer_id, {**FINISHED, "content": answer})


async def listed(caller: Caller, **parameters: Any) -> list[str]:
    response = await caller.http.get("/chat/sessions", params=parameters)
    assert response.status_code == 200, response.text
    return [session["id"] for session in response.json()]


async def all_pages(caller: Caller, path: str) -> list[list[dict[str, Any]]]:
    """Every page that the links lead to."""
    pages: list[list[dict[str, Any]]] = []
    following: str | None = path
    while following is not None:
        response = await caller.http.get(following)
        assert response.status_code == 200, response.text
        pages.append(response.json())
        link = response.links.get("next")
        following = link["url"] if link else None
        assert len(pages) < 100
    return pages


async def test_a_session_is_called_after_its_first_question(company: Company) -> None:
    await company.user.ingest(BROCHURE)
    answer = await ask(company.user, "How long  is\nthe warranty?")

    response = await company.user.http.get(f"/chat/sessions/{answer['session_id']}")

    found = response.json()
    assert found["title"] == "How long is the warranty?"
    assert (found["pinned"], found["messages"], found["collection_id"]) == (False, 2, None)


async def test_the_list_is_in_the_order_of_use_with_pinned_sessions_first(
    company: Company, service: Service
) -> None:
    for name in ("first", "second", "third"):
        await tell(service, company.user.principal, name, f"About {name}")
    await tell(service, company.user.principal, "first", "Again")
    await company.user.http.patch("/chat/sessions/second", json={"pinned": True})

    assert await listed(company.user) == ["second", "first", "third"]
    assert await listed(company.user, limit=1, offset=1) == ["first"]


async def test_pages_of_the_list_have_every_session_once(company: Company, service: Service) -> None:
    wanted = [f"s{number}" for number in range(7)]
    for name in wanted:
        await tell(service, company.user.principal, name, "Q")
    for name in ("s1", "s4", "s6"):
        await company.user.http.patch(f"/chat/sessions/{name}", json={"pinned": True})

    pages = await all_pages(company.user, "/chat/sessions?limit=2")

    assert [[found["id"] for found in page] for page in pages] == [
        ["s6", "s4"],
        ["s1", "s5"],
        ["s3", "s2"],
        ["s0"],
    ]


async def test_renaming_and_pinning_do_not_make_a_session_newer(company: Company, service: Service) -> None:
    for name in ("old", "new"):
        await tell(service, company.user.principal, name, "Q")

    renamed = await company.user.http.patch("/chat/sessions/old", json={"title": "Guarantees"})

    assert (renamed.status_code, renamed.json()["title"]) == (200, "Guarantees")
    assert await listed(company.user) == ["new", "old"]


@pytest.mark.parametrize(
    "body",
    [{}, {"title": " "}, {"title": None}, {"title": "x" * 201}, {"pinned": "maybe"}, {"owner_id": "me"}],
)
async def test_a_change_that_is_none_is_refused(
    company: Company, service: Service, body: dict[str, Any]
) -> None:
    await tell(service, company.user.principal, "sess", "Q")

    assert (await company.user.http.patch("/chat/sessions/sess", json=body)).status_code == 422


@pytest.mark.parametrize(
    ("question", "wanted"),
    [
        ("Wie lange gilt die Garantie für das Gehäuse?", "GARANTIE gehäuse"),
        ("光伏系统的保修期是多久？", "保修期"),
        ("อินเวอร์เตอร์รับประกันกี่ปี", "รับประกัน"),
        ("Berapa lama jaminan photovoltaic?", "photovol"),
        ("Is it 100% recyclable?", "100%"),
        ("What is user_id in C:\\temp?", r"user_id \temp"),
    ],
)
async def test_a_search_finds_words_of_a_message_in_any_script(
    company: Company, service: Service, question: str, wanted: str
) -> None:
    await tell(service, company.user.principal, "wanted", "Something else", "An answer")
    await tell(service, company.user.principal, "wanted", question)
    await tell(service, company.user.principal, "other", "About 1000 userXid temp in general")

    response = await company.user.http.get("/chat/sessions", params={"q": wanted})

    [found] = response.json()
    assert found["id"] == "wanted"
    assert found["match"]["text"] == question
    assert found["match"]["message_id"].startswith("msg_")


async def test_a_search_finds_titles_and_says_so(company: Company, service: Service) -> None:
    await tell(service, company.user.principal, "sess", "Q")
    await company.user.http.patch("/chat/sessions/sess", json={"title": "Ärger mit dem Wechselrichter"})

    [found] = (await company.user.http.get("/chat/sessions", params={"q": "wechselrichter ärger"})).json()

    assert found["match"] == {"message_id": None, "text": "Ärger mit dem Wechselrichter"}


@pytest.mark.parametrize("wanted", ["%", "_", "\\", "%%%", "five_years", "fi%rs", "\x00"])
async def test_wildcards_of_a_search_stand_for_themselves(
    company: Company, service: Service, wanted: str
) -> None:
    await tell(service, company.user.principal, "sess", "five years")

    expected = ["sess"] if wanted == "\x00" else []  # nothing is left of it, so nothing is searched for
    assert await listed(company.user, q=wanted) == expected


async def test_a_search_goes_on_where_its_page_ended(
    company: Company, service: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sessions, "_SEARCH_SECONDS", 0)
    monkeypatch.setattr(sessions, "_EXAMINED_AT_ONCE", 3)
    for number in range(10):
        await tell(service, company.user.principal, f"s{number}", "warranty" if number % 4 == 0 else "other")

    pages = await all_pages(company.user, "/chat/sessions?q=warranty&limit=2")

    assert [found["id"] for page in pages for found in page] == ["s8", "s4", "s0"]
    assert len(pages) >= 3
    skipped = await all_pages(company.user, "/chat/sessions?q=warranty&limit=2&offset=2")
    assert [found["id"] for page in skipped for found in page] == ["s0"]


async def test_a_cursor_that_was_not_given_out_is_refused(company: Company, service: Service) -> None:
    await tell(service, company.user.principal, "sess", "Q")
    for path in ("/chat/sessions", "/chat/sessions?q=x", "/chat/sessions/sess/messages"):
        for cursor in ("x", "bnVsbA", "WyIyMDI2LTAxLTAxVDAwOjAwOjAwKzAwOjAwIiwgIngiXQ", "9" * 300, "é"):
            response = await company.user.http.get(path, params={"cursor": cursor})

            assert response.json()["error"]["code"] == "invalid_cursor", (path, cursor)


async def test_messages_are_paged_by_a_cursor_in_their_order(company: Company, service: Service) -> None:
    for number in range(3):
        await tell(service, company.user.principal, "sess", f"Question {number}", f"Answer {number}")

    pages = await all_pages(company.user, "/chat/sessions/sess/messages?limit=4")

    assert [len(page) for page in pages] == [4, 2]
    assert [message["content"] for page in pages for message in page] == [
        f"{word} {number}" for number in range(3) for word in ("Question", "Answer")
    ]


async def test_a_deleted_session_is_gone_and_its_id_can_be_used_again(
    company: Company, service: Service
) -> None:
    await tell(service, company.user.principal, "sess", "A secret")

    assert (await company.user.http.delete("/chat/sessions/sess")).status_code == 204

    assert (await company.user.http.get("/chat/sessions/sess")).status_code == 404
    assert (await company.user.http.get("/chat/sessions/sess/messages")).status_code == 404
    assert await listed(company.user, q="secret") == []
    await tell(service, company.other_user.principal, "sess", "Mine now")
    assert (await company.user.http.get("/chat/sessions/sess")).status_code == 404


async def test_another_persons_session_does_not_exist(
    company: Company, people: People, service: Service
) -> None:
    """Not for a colleague, not for an admin, not for a key, and not for somebody elsewhere with the same session id."""
    await company.user.ingest(BROCHURE)
    answer = await ask(company.user, "How long is the warranty?", "mine")
    share = (await company.user.http.post("/chat/sessions/mine/shares", json={})).json()
    elsewhere = await people.person(await people.organization())
    await tell(service, elsewhere.principal, "mine", "Another")
    key = await people.key(company.id)

    before = (await company.user.http.get("/chat/sessions")).json()

    for stranger in (company.other_user, company.admin, key):
        for method, path, body in _requests("mine", answer["message_id"], share["id"]):
            response = await stranger.http.request(method, path, json=body)
            assert response.status_code == 404, (method, path, response.text)
        assert await listed(stranger) == []
        assert await listed(stranger, q="warranty") == []
        continued = await stranger.http.post("/chat", json={"message": "And?", "session_id": "mine"})
        assert continued.status_code == 404
    taken = await elsewhere.http.put(f"/chat/messages/{answer['message_id']}/feedback", json={"rating": "up"})
    assert taken.status_code == 404
    assert (await elsewhere.http.get("/chat/sessions/mine/shares")).json() == []
    assert len((await company.user.http.get("/chat/sessions/mine/messages")).json()) == 2
    after = (await company.user.http.get("/chat/sessions")).json()
    assert after == before  # nobody moved it up by asking in it


def _requests(session_id: str, message_id: str, share_id: str) -> list[tuple[str, str, Any]]:
    base = f"/chat/sessions/{session_id}"
    return [
        ("GET", base, None),
        ("PATCH", base, {"title": "N"}),
        ("DELETE", base, None),
        ("GET", f"{base}/messages", None),
        ("GET", f"{base}/export", None),
        ("GET", f"{base}/export?format=json", None),
        ("POST", f"{base}/shares", {}),
        ("GET", f"{base}/shares", None),
        ("DELETE", f"{base}/shares", None),
        ("DELETE", f"{base}/shares/{share_id}", None),
        ("PUT", f"/chat/messages/{message_id}/feedback", {"rating": "up"}),
        ("DELETE", f"/chat/messages/{message_id}/feedback", None),
    ]


async def test_feedback_stands_with_its_message_until_it_is_taken_back(company: Company) -> None:
    await company.user.ingest(BROCHURE)
    answer = await ask(company.user, "How long is the warranty?")
    path = f"/chat/messages/{answer['message_id']}/feedback"

    await company.user.http.put(path, json={"rating": "up"})
    given = await company.user.http.put(path, json={"rating": "down", "comment": "Six\x00 years"})

    assert given.status_code == 200
    messages = f"/chat/sessions/{answer['session_id']}/messages"
    question, answered = (await company.user.http.get(messages)).json()
    assert answered["feedback"] == given.json()
    assert (answered["feedback"]["rating"], answered["feedback"]["comment"]) == ("down", "Six years")
    assert question["feedback"] is None
    assert (await company.user.http.delete(path)).status_code == 204
    assert (await company.user.http.get(messages)).json()[1]["feedback"] is None
    of_question = await company.user.http.put(
        f"/chat/messages/{question['id']}/feedback", json={"rating": "up"}
    )
    assert of_question.json()["error"]["code"] == "answer_not_found"


@pytest.mark.parametrize(
    "body", [{}, {"rating": "meh"}, {"rating": None}, {"rating": "up", "comment": "x" * 2001}, {"stars": 5}]
)
async def test_feedback_that_is_none_is_refused(company: Company, body: dict[str, Any]) -> None:
    response = await company.user.http.put("/chat/messages/msg_1/feedback", json=body)

    assert response.status_code == 422


async def test_sessions_nobody_used_are_retired_where_the_setting_says_so(
    company: Company, service: Service
) -> None:
    for name in ("old", "new"):
        await tell(service, company.user.principal, name, "Q")
    async with service.runtime.database.unit_of_work(SYSTEM) as session:
        await session.execute(
            text(
                "UPDATE sessions SET updated_at = :then WHERE organization_id = :id AND sessions.id = 'old'"
            ),
            {"then": clock.now() - timedelta(days=31), "id": company.id},
        )

    await maintenance.run_hourly(service.runtime)
    assert await listed(company.user) == ["new", "old"]
    await maintenance.run_hourly(with_settings(service, session_retention_days=30))

    assert await listed(company.user) == ["new"]


def footnotes(markdown: str) -> list[str]:
    return [line for line in markdown.splitlines() if line.startswith("[^")]


async def export(caller: Caller, session_id: str, format_: str) -> httpx.Response:
    response = await caller.http.get(f"/chat/sessions/{session_id}/export", params={"format": format_})
    assert response.status_code == 200, response.text
    return response


async def test_an_export_in_markdown_has_its_citations_as_footnotes(company: Company) -> None:
    await company.user.ingest(BROCHURE, title="Gateway *and* <more>", source="brochure_v1.pdf")
    answer = await ask(company.user, "How long is the warranty of the gateway?")
    await company.user.http.patch(
        f"/chat/sessions/{answer['session_id']}", json={"title": '保修/Garantie "5"'}
    )

    response = await export(company.user, answer["session_id"], "markdown")

    assert response.headers["content-type"] == "text/markdown; charset=utf-8"
    assert response.headers["content-disposition"].startswith('attachment; filename="')
    assert "filename*=UTF-8''%E4%BF%9D%E4%BF%AE%2FGarantie" in response.headers["content-disposition"]
    assert response.headers["x-content-type-options"] == "nosniff"
    assert '# 保修/Garantie "5"' in response.text
    assert "> How long is the warranty of the gateway?\n" in response.text
    assert "The warranty of the gateway is five years. [^2-1]" in response.text
    assert footnotes(response.text) == [
        "[^2-1]: Gateway \\*and\\* \\<more\\> (brochure\\_v1.pdf), page 1: “"
        + BROCHURE.replace("'", "'")
        + "”"
    ]


async def test_an_export_in_json_is_the_whole_conversation_however_long(
    company: Company, service: Service
) -> None:
    for number in range(105):
        await tell(service, company.user.principal, "long", f"Question {number}", f"Answer {number} [1]")

    response = await export(company.user, "long", "json")

    whole = response.json()
    assert whole["session"]["id"] == "long"
    assert [message["content"] for message in whole["messages"]] == [
        words for number in range(105) for words in (f"Question {number}", f"Answer {number} [1]")
    ]
    markdown = (await export(company.user, "long", "markdown")).text
    assert markdown.count("\n## ") == 210
    assert "Answer 7 [1]" in markdown  # which no source is behind
    assert footnotes(markdown) == []


async def test_an_unknown_form_of_export_is_refused(company: Company, service: Service) -> None:
    await tell(service, company.user.principal, "sess", "Q")

    response = await company.user.http.get("/chat/sessions/sess/export", params={"format": "docx"})

    assert response.status_code == 422


async def test_a_session_deleted_while_it_is_answered_ends_its_stream_cleanly(
    provider_service: Service, provider_client: httpx.AsyncClient, provider: ScriptedProvider
) -> None:
    await provider_client.post("/ingest", json={"text": BROCHURE})
    provider.default = Reply(pieces=tuple(f"word{number} " for number in range(200)), pause_seconds=0.05)
    body = {"message": "How long is the warranty?", "session_id": "doomed", "stream": True}

    async with provider_client.stream("POST", "/chat", json=body) as stream:
        lines = stream.aiter_lines()
        async for line in lines:
            if line.startswith("event: delta"):
                break
        deleted = await provider_client.delete("/chat/sessions/doomed")
        ends = [line async for line in lines if line in ("event: done", "event: error")]

    assert deleted.status_code == 204
    assert ends == ["event: done"]
    assert provider.open_streams == 0
    assert (await provider_client.get("/chat/sessions/doomed")).status_code == 404
    assert not len(provider_service.runtime.turns)
    async with provider_service.runtime.database.unit_of_work(SYSTEM) as session:
        assert await session.scalar(text("SELECT count(*) FROM messages WHERE session_id = 'doomed'")) == 0
