"""The settings of a bot's version as they are stored: JSON without its keys, which are encrypted beside it.

What an older version stored is read with the defaults of what came since, and what a newer one added is left out: while a
new release replaces the old one, both answer.
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from enum import Enum, StrEnum
from functools import cache
from typing import Any, Final

from pydantic import TypeAdapter

from app.core.bots import BotSettings

_HINT_CHARACTERS: Final = 4
_SHORTEST_WITH_HINT: Final = 16
_SECRET: Final = "api_key_encrypted"  # noqa: S105 a field's name


class Place(StrEnum):
    """Where a bot uses a key of its own."""

    MODEL = "model"
    RERANKER = "reranker"


@dataclass(frozen=True, slots=True)
class StoredKey:
    """A key as it is kept: encrypted, and its last characters to recognise it by."""

    encrypted: str = field(repr=False)
    hint: str = ""


Keys = Mapping[Place, StoredKey]


def hint(key: str) -> str:
    """The end of a key that is long enough to give nothing away with it."""
    return key[-_HINT_CHARACTERS:] if len(key) >= _SHORTEST_WITH_HINT else ""


def to_json(settings: BotSettings) -> dict[str, Any]:
    """What is stored, without the keys."""
    values: dict[str, Any] = _plain(
        {name: value for name, value in asdict(settings).items() if name in _names()}
    )
    values["model"].pop(_SECRET)
    values["retrieval"]["reranker"].pop(_SECRET)
    return values


def from_json(values: Mapping[str, Any], keys: Keys) -> BotSettings:
    """The settings with their keys, still encrypted."""
    settings = _adapter().validate_python(values)
    return with_keys(settings, keys)


def with_keys(settings: BotSettings, keys: Keys) -> BotSettings:
    """The same with these keys and no others."""
    encrypted = {place: key.encrypted for place, key in keys.items()}
    reranker = replace(settings.retrieval.reranker, api_key_encrypted=encrypted.get(Place.RERANKER))
    return replace(
        settings,
        model=replace(settings.model, api_key_encrypted=encrypted.get(Place.MODEL)),
        retrieval=replace(settings.retrieval, reranker=reranker),
    )


def keys_to_json(keys: Keys) -> dict[str, Any]:
    return {place.value: {"encrypted": key.encrypted, "hint": key.hint} for place, key in keys.items()}


def keys_from_json(values: Mapping[str, Any]) -> dict[Place, StoredKey]:
    return {Place(place): StoredKey(key["encrypted"], key["hint"]) for place, key in values.items()}


@cache
def _adapter() -> TypeAdapter[BotSettings]:
    return TypeAdapter(BotSettings)


@cache
def _names() -> frozenset[str]:
    return frozenset(BotSettings.__dataclass_fields__)


def _plain(value: Any) -> Any:
    match value:
        case Enum():
            return value.value
        case dict():
            return {name: _plain(inner) for name, inner in value.items()}
        case frozenset():
            return sorted(value)
        case tuple() | list():
            return [_plain(inner) for inner in value]
        case _:
            return value
