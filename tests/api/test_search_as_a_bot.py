"""A search as a bot searches says what became of the steps beside it."""

from typing import Any, Final

import httpx
import pytest

from app.services import expanding
from tests.api.test_provider_chat import QUESTION, ingest
from tests.fixtures.provider import Reply, ScriptedProvider

EXPANDED: Final = {"expansion": "multi_query"}


async def found_by(client: httpx.AsyncClient, **bot: Any) -> dict[str, Any]:
    """What a bot with these settings finds."""
    await ingest(client)
    made = await client.post("/bots", json={"name": "Asked", **bot})
    assert made.status_code == 201, made.text
    found = await client.post("/search", json={"query": QUESTION, "bot_id": made.json()["id"]})
    assert found.status_code == 200, found.text
    assert found.json()["results"]
    body: dict[str, Any] = found.json()
    return body


@pytest.fixture
def model(provider: ScriptedProvider) -> dict[str, Any]:
    return {"provider": "openai-compatible", "model": "m", "base_url": provider.url, "api_key": "sk-bot"}


@pytest.mark.parametrize("kind", ["multi_query", "hypothetical_answer"])
async def test_a_search_says_that_its_question_was_put_in_other_words(
    provider_client: httpx.AsyncClient, provider: ScriptedProvider, model: dict[str, Any], kind: str
) -> None:
    provider.default = Reply(("- How long is the guarantee?",))

    found = await found_by(provider_client, retrieval={"expansion": kind}, **model)

    assert found["expansion"] == {"done": True, "reason": None}
    assert found["degraded"] is None


async def test_a_search_says_why_its_question_was_not_put_in_other_words(
    provider_client: httpx.AsyncClient, provider: ScriptedProvider, model: dict[str, Any]
) -> None:
    provider.default = Reply(status=401)

    found = await found_by(provider_client, retrieval=EXPANDED, **model)

    assert found["expansion"] == {"done": False, "reason": "provider_error"}


async def test_a_search_says_that_other_words_took_too_long(
    provider_client: httpx.AsyncClient,
    provider: ScriptedProvider,
    model: dict[str, Any],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(expanding, "_LONGEST_SECONDS", 0.1)
    provider.default = Reply(("- late",), delay_seconds=1.5)

    found = await found_by(provider_client, retrieval=EXPANDED, **model)

    assert found["expansion"] == {"done": False, "reason": "timeout"}


async def test_a_search_says_that_personal_data_keeps_a_question_from_being_put_in_other_words(
    provider_client: httpx.AsyncClient, model: dict[str, Any]
) -> None:
    guardrails = {"pii": "hide_from_provider"}

    found = await found_by(provider_client, retrieval=EXPANDED, guardrails=guardrails, **model)

    assert found["expansion"] == {"done": False, "reason": "personal_data"}


async def test_a_search_says_that_there_is_no_model_for_other_words(
    provider_client: httpx.AsyncClient,
) -> None:
    found = await found_by(provider_client, retrieval=EXPANDED, provider="extractive")

    assert found["expansion"] == {"done": False, "reason": "no_model"}


async def test_a_search_without_another_wording_says_nothing_of_it(
    provider_client: httpx.AsyncClient, model: dict[str, Any]
) -> None:
    assert (await found_by(provider_client, **model))["expansion"] is None
