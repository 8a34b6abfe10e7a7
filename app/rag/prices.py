"""What an answer cost, by the public price lists that the library genai-prices ships."""

from decimal import Decimal

from genai_prices import Usage, calc_price


def cost_usd(model: str, prompt_tokens: int | None, completion_tokens: int | None) -> Decimal | None:
    """The price in US dollars, or None for an unknown model or count."""
    if prompt_tokens is None or completion_tokens is None:
        return None
    try:
        price = calc_price(
            Usage(input_tokens=prompt_tokens, output_tokens=completion_tokens), model_ref=model
        )
    except LookupError:
        return None
    return price.total_price
