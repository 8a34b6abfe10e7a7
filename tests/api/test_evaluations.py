"""Evaluations on an organization's own questions: asked for, run by a worker, compared, reported, deleted."""

import asyncio
from dataclasses import replace
from typing import Any

import httpx
import pytest
from sqlalchemy import text

from app.core.principal import SYSTEM
from app.db.repositories import evaluations as queue
from app.services import evaluation_work
from app.services.evaluation_results import LegResult
from tests.fixtures.provider import Reply, ScriptedProvider
from tests.fixtures.service import Service

DOCUMENTS = {
    "heron": "The grey heron nests in colonies near lakes and hunts fish in shallow water.",
    "stork": "White storks return from Africa in spring and build large nests on chimneys.",
    "inverter": "The warranty of the inverter covers ten years from the date of installation.",
    "meter": "A smart meter reports the consumption of each machine every fifteen minutes.",
}
QUESTIONS = {
    "heron": ("Where do herons nest?", "near lakes"),
    "stork": ("When do storks come back from Africa?", "spring"),
    "inverter": ("How long is the warranty of an inverter?", "ten years"),
    "meter": ("What reports the consumption of machines?", "smart meter"),
}
UNANSWERABLE = {"question": "Which yoga pose helps against a stiff neck?", "answerable": False}


async def fill(client: httpx.AsyncClient) -> list[dict[str, Any]]:
    """The documents of the client's organization, and a question about each, each told in another way."""
    questions: list[dict[str, Any]] = []
    for number, (title, content) in enumerate(DOCUMENTS.items()):
        response = await client.post("/ingest", json={"text": content, "title": title.capitalize()})
        document_id = response.json()["document_id"]
        question, answer = QUESTIONS[title]
        chunks = (await client.get(f"/documents/{document_id}/chunks")).json()
        expected = (
            {"document_ids": [document_id], "answers": [answer]},
            {"chunk_ids": [chunks[0]["id"]]},
            {"answers": [answer]},
            {"document_ids": [document_id]},
        )
        questions.append({"question": question, **expected[number]})
    return [*questions, UNANSWERABLE]


async def start(client: httpx.AsyncClient, **body: Any) -> dict[str, Any]:
    response = await client.post("/admin/evaluations", json=body)
    assert response.status_code == 202, response.text
    started: dict[str, Any] = response.json()
    return started


async def ended(client: httpx.AsyncClient, evaluation_id: str) -> dict[str, Any]:
    for _ in range(240):
        found: dict[str, Any] = (await client.get(f"/admin/evaluations/{evaluation_id}")).json()
        if found["status"] in ("completed", "failed"):
            return found
        await asyncio.sleep(0.5)
    raise AssertionError("the evaluation did not end")


async def test_an_evaluation_measures_search_refusals_and_answers(client: httpx.AsyncClient) -> None:
    questions = await fill(client)

    started = await start(client, name="Birds and meters", questions=questions, answers=True)
    assert (started["name"], started["bot_id"], started["answers"]) == ("Birds and meters", "default", True)
    found = await ended(client, started["id"])

    assert found["status"] == "completed", found["error"]
    summary = found["summary"]
    assert summary["questions"] == 4
    assert summary["legs"]["fused"]["ndcg@10"] == summary["legs"]["fused"]["recall@10"] == 1.0
    assert summary["legs"]["lexical"]["mrr@10"] > 0.5
    assert (summary["refusal"]["recall"], summary["refusal"]["false_refusals"]) == (1.0, 0.0)
    answers = summary["answers"]
    assert answers["answers"] == 5
    assert answers["contains_gold"] == answers["citation_recall"] == answers["refusal_recall"] == 1.0
    assert answers["citation_precision"] > 0
    assert answers["faithfulness"] is None  # no model has judged
    assert summary["comparison"] is None
    assert len(found["per_question"]["fused"]["ndcg"]) == 4
    assert len(found["per_question"]["answers"]) == 5


async def test_the_history_shows_a_regression_and_the_report_both(
    client: httpx.AsyncClient,
) -> None:
    told = [question for question in await fill(client) if question.get("answerable", True)]
    questions = [
        {**question, "question": f"{question['question']} ({n})"} for n in range(2) for question in told
    ]
    first = await start(client, name="Regression", questions=questions)
    before = await ended(client, first["id"])
    for document in (await client.get("/documents")).json():  # what was found is gone
        await client.delete(f"/documents/{document['id']}")

    second = await ended(client, (await start(client, set_id=first["set_id"]))["id"])
    third = await ended(client, (await start(client, set_id=first["set_id"], baseline_id=second["id"]))["id"])

    assert before["summary"]["comparison"] is None
    compared = second["summary"]["comparison"]
    assert (compared["baseline_id"], compared["regression"], compared["worse"]) == (
        first["id"],
        True,
        ["fused", "dense", "lexical"],
    )
    assert compared["differences"]["fused"]["difference"] < 0
    assert compared["differences"]["fused"]["p"] < 0.05
    assert third["summary"]["comparison"]["baseline_id"] == second["id"]
    assert third["summary"]["comparison"]["regression"] is False
    listed = (await client.get("/admin/evaluations", params={"set_id": first["set_id"]})).json()
    assert [each["id"] for each in listed] == [third["id"], second["id"], first["id"]]
    report = await client.get(f"/admin/evaluations/{second['id']}/report")
    assert report.status_code == 200
    assert "sandbox" in report.headers["content-security-policy"]
    assert "paired randomization test" in report.text
    (kept,) = (await client.get("/admin/evaluation-sets")).json()
    assert (kept["name"], kept["question_count"]) == ("Regression", 8)


async def test_a_model_judges_how_faithful_answers_are(
    provider_client: httpx.AsyncClient, provider: ScriptedProvider
) -> None:
    await provider_client.post("/ingest", json={"text": DOCUMENTS["inverter"]})
    provider.answer = lambda body: (
        Reply(("1/2",)) if "supported" in body["messages"][0]["content"] else Reply(("Ten years [1].",))
    )

    started = await start(
        provider_client,
        name="Judged",
        questions=[
            {"question": "How long is the warranty of the inverter?", "answers": ["10 years", "Ten years"]}
        ],
        answers=True,
    )
    answers = (await ended(provider_client, started["id"]))["summary"]["answers"]

    assert (answers["faithfulness"], answers["contains_gold"], answers["citation_precision"]) == (0.5, 1, 1)


async def test_the_same_name_is_the_same_questions_or_refused(client: httpx.AsyncClient) -> None:
    questions = await fill(client)
    first = await start(client, name="Mine", questions=questions)
    await ended(client, first["id"])

    again = await start(client, name="Mine", questions=questions)
    assert again["set_id"] == first["set_id"]
    await ended(client, again["id"])
    other = await client.post("/admin/evaluations", json={"name": "Mine", "questions": questions[:1]})
    assert (other.status_code, other.json()["error"]["code"]) == (409, "evaluation_set_differs")

    assert (await client.delete(f"/admin/evaluations/{again['id']}")).status_code == 204
    assert (await client.get(f"/admin/evaluations/{again['id']}")).status_code == 404
    assert (await client.delete(f"/admin/evaluation-sets/{first['set_id']}")).status_code == 204
    assert (await client.get("/admin/evaluations")).json() == []


@pytest.mark.parametrize(
    "body",
    [
        {},
        {"name": "N"},
        {"name": "N", "questions": []},
        {"name": " ", "questions": [{"question": "Q", "answers": ["a"]}]},
        {"name": "N", "questions": [{"question": "Q"}]},
        {"name": "N", "questions": [{"question": "Q", "answers": ["a"], "answerable": False}]},
        {"name": "N", "questions": [{"question": "Q", "answerable": False}]},
        {"name": "N", "questions": [{"question": "Q", "answers": [""]}]},
        {"name": "N", "questions": [{"question": "Q" * 2001, "answers": ["a"]}]},
        {"name": "N", "questions": [{"question": "Q", "answers": ["a"]}] * 2001},
        {"name": "N", "questions": [{"question": "Q", "answers": ["a"], "more": 1}]},
        {"set_id": "eset_1", "name": "N", "questions": [{"question": "Q", "answers": ["a"]}]},
    ],
)
async def test_what_is_no_question_set_is_refused(client: httpx.AsyncClient, body: dict[str, Any]) -> None:
    response = await client.post("/admin/evaluations", json=body)

    assert response.status_code == 422, response.text


async def test_what_is_missing_of_a_question_set_is_said(client: httpx.AsyncClient) -> None:
    response = await client.post("/admin/evaluations", json={"name": "N"})

    assert response.json()["error"]["message"] == "give set_id, or name and questions"


def test_the_95th_percentile_is_never_below_the_median() -> None:
    ones = [1.0, 1.0]
    summary = LegResult(
        ndcg=ones, recall_10=ones, recall_100=ones, mrr=ones, latency_ms=[8.0, 10.0]
    ).summary()

    assert summary["latency_p50_ms"] <= summary["latency_p95_ms"] == 10.0


async def test_unknown_sets_baselines_and_bots_are_not_found(client: httpx.AsyncClient) -> None:
    ask = {"name": "N", "questions": [{"question": "Q", "answers": ["a"]}]}
    for body, code in (
        ({"set_id": "eset_none"}, "evaluation_set_not_found"),
        ({**ask, "bot_id": "bot_none"}, "bot_not_found"),
        ({**ask, "baseline_id": "eval_none"}, "evaluation_not_found"),
    ):
        response = await client.post("/admin/evaluations", json=body)
        assert (response.status_code, response.json()["error"]["code"]) == (404, code)
    assert (await client.get("/admin/evaluations/eval_none/report")).status_code == 404


async def test_an_evaluation_survives_the_death_of_its_worker_but_not_every_time(
    client: httpx.AsyncClient, service: Service
) -> None:
    """A worker that dies leaves the run claimed; when its lease is over another one takes it, three times in all."""
    started = await start(client, name="Survivor", questions=await fill(client))
    await ended(client, started["id"])
    revive = text(
        "UPDATE evaluation_runs SET status = 'running', claimed_by = 'dead', attempts = :attempts, available_at = now()"
        " WHERE id = :id"
    )
    for attempts, status in ((1, "completed"), (3, "failed")):
        async with service.runtime.database.unit_of_work(SYSTEM) as session:
            await session.execute(revive, {"id": started["id"], "attempts": attempts})
            await session.execute(text("SELECT pg_notify(:channel, '')"), {"channel": queue.CHANNEL})
        assert (await ended(client, started["id"]))["status"] == status
    assert (await ended(client, started["id"]))["error"]["code"] == "crashed_repeatedly"


async def test_an_evaluation_that_is_cancelled_is_given_back(
    client: httpx.AsyncClient, service: Service
) -> None:
    started = await start(client, name="Given back", questions=await fill(client))
    await ended(client, started["id"])
    organization = text("SELECT organization_id FROM evaluation_runs WHERE id = :id")
    claim_it = text(
        "UPDATE evaluation_runs SET status = 'running', claimed_by = 'me', attempts = 1,"
        " available_at = now() + interval '1 day' WHERE id = :id"
    )
    async with service.runtime.database.unit_of_work(SYSTEM) as session:
        organization_id = await session.scalar(organization, {"id": started["id"]})
        await session.execute(claim_it, {"id": started["id"]})
    claim = queue.RunClaim(started["id"], str(organization_id), 1, "me")
    runtime = replace(service.runtime)

    await evaluation_work.give_back(runtime, claim)

    assert (await ended(client, started["id"]))["status"] == "completed"
