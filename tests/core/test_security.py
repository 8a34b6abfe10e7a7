"""Secrets are made of the system's random numbers, as many bits as they promise."""

import math
from collections.abc import Callable

import pytest

from app.core import security


@pytest.mark.parametrize(
    ("make", "alphabet", "characters", "bits"),
    [
        (lambda: security.new_api_key().secret, 62, 43, 256),
        (security.new_token, 64, 43, 256),
        (lambda: security.new_recovery_code().replace("-", ""), 32, 16, 80),
        (security.new_password, 64, 20, 120),
    ],
    ids=["API key", "token", "recovery code", "password"],
)
def test_every_secret_carries_the_bits_that_it_promises(
    make: Callable[[], str], alphabet: int, characters: int, bits: int
) -> None:
    made = [make() for _ in range(2000)]

    assert len(set(made)) == 2000
    assert {len(secret) for secret in made} == {characters}
    assert math.floor(characters * math.log2(alphabet)) >= bits
    for place in range(characters - 1):  # of a token's last character only some bits are used
        seen = len({secret[place] for secret in made})
        assert seen == alphabet, f"character {place} takes {seen} of {alphabet} values"


def test_the_public_part_of_a_key_tells_nothing_of_its_secret() -> None:
    first, second = security.new_api_key(), security.new_api_key()

    assert first.public != second.public
    assert first.public not in first.secret
    assert not first.matches(second.secret_hash)
