"""The settings of a bot's version: what goes into the table comes out of it, of older and of newer releases."""

from dataclasses import replace
from typing import Any

from app.core import bot_settings
from app.core.bot_settings import Place, StoredKey
from app.core.bots import (
    BotSettings,
    Expansion,
    Guardrails,
    ModelSettings,
    PiiPolicy,
    Provider,
    RerankerKind,
    RerankerSettings,
    RetrievalSettings,
    Topic,
    Unsupported,
)

FULL = BotSettings(
    model=ModelSettings(
        Provider.OLLAMA,
        "m",
        base_url="http://x.example",
        anywhere=True,
        api_key_encrypted="secret-1",
        temperature=0.5,
        max_answer_tokens=5,
        fallback_model="n",
        extractive_fallback=True,
    ),
    persona="P",
    language="ms",
    summarise_history=True,
    retrieval=RetrievalSettings(
        top_k=3,
        expansion=Expansion.MULTI_QUERY,
        reranker=RerankerSettings(RerankerKind.HTTP, "r", "http://y.example", False, "secret-2", 9, 1.5),
        context_tokens=100,
    ),
    guardrails=Guardrails(
        in_scope=(Topic("A", ("B", "C")),),
        out_of_scope=(Topic("D"),),
        refusal_text="No.",
        minimum_relevance=0.25,
        pii=PiiPolicy.HIDE_FROM_ALL,
        pii_kinds=frozenset({"email", "card"}),
        unsupported_citations=Unsupported.DROP,
    ),
)
KEYS = {Place.MODEL: StoredKey("secret-1", "1"), Place.RERANKER: StoredKey("secret-2", "2")}
SMALLEST: dict[str, Any] = {"model": {"provider": "extractive", "model": "extractive"}}


def test_everything_comes_back_and_no_key_is_among_the_settings() -> None:
    stored = bot_settings.to_json(FULL)

    assert bot_settings.from_json(stored, KEYS) == FULL
    assert "secret" not in str(stored)
    assert bot_settings.from_json(stored, {}) != FULL
    assert stored["guardrails"]["pii_kinds"] == ["card", "email"]


def test_what_an_older_release_stored_gets_the_defaults_of_what_came_since() -> None:
    assert bot_settings.from_json(SMALLEST, {}) == BotSettings(
        ModelSettings(Provider.EXTRACTIVE, "extractive")
    )


def test_what_a_newer_release_stored_is_read_without_what_is_new() -> None:
    stored = bot_settings.to_json(FULL)
    newer = {**stored, "mood": "good", "model": {**stored["model"], "effort": "high"}}

    assert bot_settings.from_json(newer, KEYS) == FULL


def test_only_a_long_key_shows_its_end() -> None:
    assert bot_settings.hint("sk-0123456789abcdef") == "cdef"
    assert bot_settings.hint("sk-0123") == ""


def test_keys_are_not_shown_when_printed() -> None:
    assert "secret" not in repr(FULL)
    assert "secret" not in repr(replace(FULL, persona="Q"))
    assert "secret" not in repr(KEYS)
