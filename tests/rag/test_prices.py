"""Prices by the list of the provider at an address, by a model's name otherwise, and None where nobody knows one."""

from decimal import Decimal

import pytest

from app.rag import prices

MILLION = 1_000_000


@pytest.mark.parametrize(
    ("model", "base_url", "expected"),
    [
        ("gpt-4.1-mini", None, Decimal("2.00")),
        ("gpt-4.1-mini", "https://api.openai.com/v1", Decimal("2.00")),
        ("gpt-4.1-mini", "http://127.0.0.1:9100/v1", Decimal("2.00")),
        ("openai/gpt-4.1-mini", "https://openrouter.ai/api/v1", Decimal("2.00")),
        ("text-embedding-3-small", None, Decimal("0.02")),
        ("a-model-of-ones-own", "http://127.0.0.1:11434/v1", None),
    ],
)
def test_a_million_tokens_each_way(model: str, base_url: str | None, expected: Decimal | None) -> None:
    completion = 0 if model.startswith("text-embedding") else MILLION

    assert prices.cost_usd(model, MILLION, completion, base_url=base_url) == expected


def test_without_a_count_there_is_no_price() -> None:
    assert prices.cost_usd("gpt-4.1-mini", None, 1) is None
