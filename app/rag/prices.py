"""What an answer cost, by the public price lists that the library genai-prices ships."""

from collections.abc import Mapping
from decimal import Decimal
from functools import lru_cache
from typing import Any, Final

from genai_prices import Usage, calc_price

_MODELS_KEPT: Final = 512


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
    usage = Usage(input_tokens=prompt_tokens, output_tokens=completion_tokens)
    return calc_price(usage, model_ref=model, **listed).total_price


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
