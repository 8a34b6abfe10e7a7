"""Amounts of money as text."""

from decimal import Decimal

import pytest

from app.core.usage import in_dollars


@pytest.mark.parametrize(
    ("amount", "text"),
    [
        (Decimal("25.00"), "25.00"),
        (Decimal("0.00048"), "0.00048"),
        (Decimal("0.0000002"), "0.0000002"),  # ten tokens of an embedding model
        (Decimal("0E-7"), "0"),
        (Decimal("1E+3"), "1000"),
    ],
)
def test_an_amount_has_no_exponent(amount: Decimal, text: str) -> None:
    assert in_dollars(amount) == text
