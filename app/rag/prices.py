"""What an answer cost, by the public price lists that the library genai-prices ships."""

import time
from collections.abc import Mapping
from dataclasses import dataclass
from decimal import Decimal
from functools import lru_cache
from typing import Any, Final

from genai_prices import Usage, calc_price

_MODELS_KEPT: Final = 512
_MILLION: Final = 1_000_000
_RATE_SECONDS: Final = 60
"""Some prices depend on the time of day."""


def cost_usd(
    model: str, prompt_tokens: int | None, completion_tokens: int | None, *, base_url: str | None = None
) -> Decimal | None:
    """The price in US dollars, or None for an unknown model or count.

    By the list of the provider at this address, where there is one; else by the model's name, which many servers share.
    """
    if prompt_tokens is None or completion_tokens is None:
        return None
    listed = _listed(model, base_url)
    if listed is None:
        return None
    rate = _rate(model, base_url, int(time.time()) // _RATE_SECONDS)
    if rate is not None:
        return (rate.prompt * prompt_tokens + rate.completion * completion_tokens) / _MILLION
    usage = Usage(input_tokens=prompt_tokens, output_tokens=completion_tokens)
    return calc_price(usage, model_ref=model, **listed).total_price


@dataclass(frozen=True, slots=True)
class _Rate:
    """US dollars for a million tokens, however many they are."""

    prompt: Decimal
    completion: Decimal


@lru_cache(maxsize=_MODELS_KEPT)
def _rate(model: str, base_url: str | None, _minute: int) -> _Rate | None:
    """What most models have; None where a call has a price of its own, or the first tokens another one than the others.

    The library works a price out in 0.1 ms, which each answer would pay.
    """
    listed = _listed(model, base_url)
    if listed is None:
        return None
    asked = calc_price(Usage(), model_ref=model, **listed)
    prices = [value for value in vars(asked.model_price).values() if value is not None]
    if asked.total_price or not all(isinstance(price, Decimal) for price in prices):
        return None
    prompt = calc_price(Usage(input_tokens=_MILLION), model_ref=model, **listed)
    completion = calc_price(Usage(output_tokens=_MILLION), model_ref=model, **listed)
    return _Rate(prompt.total_price, completion.total_price)


@lru_cache(maxsize=_MODELS_KEPT)
def _listed(model: str, base_url: str | None) -> Mapping[str, Any] | None:
    """By what the price of a model is found: looking for one that nobody knows takes longer than a price."""
    places: list[dict[str, Any]] = [{"provider_api_url": base_url}] if base_url else []
    for place in (*places, {}, {"provider_id": "openai"}):
        try:
            calc_price(Usage(), model_ref=model, **place)
        except LookupError:
            continue
        return place
    return None
