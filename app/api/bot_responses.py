"""Bots as clients see them: with everything for those who manage them, never with a key."""

from collections.abc import Iterator, Mapping
from dataclasses import fields
from typing import Any

from fastapi import Response

from app.api.entity_tags import etag
from app.api.schemas import bot_responses as schemas
from app.core.access import Visibility
from app.core.bot_settings import Place, to_json
from app.core.bots import Bot, BotSettings
from app.core.principal import Principal, Scope
from app.core.usage import in_dollars
from app.db.models import BotVersion
from app.db.repositories.bot_statistics import AnswerCounts, Statistics
from app.services import access, bot_care
from app.services.bot_care import Described
from app.services.bot_rules import Version
from app.services.bot_statistics import Period


def is_manager(principal: Principal) -> bool:
    """Whether the caller sees how bots are made."""
    return Scope.MANAGE in principal.scopes and not access.is_plain_user(principal)


def bot_response(described: Described, response: Response | None = None) -> schemas.BotResponse:
    """The bot; its revision also as the ETag of the response."""
    bot, version = described.bot, described.version
    if response is not None:
        response.headers["ETag"] = etag(bot.revision)
    return schemas.BotResponse(
        **settings_response(described.content).model_dump(),
        id=bot.id,
        name=bot.name,
        description=bot.description,
        visibility=Visibility(bot.visibility),
        collection_ids=None if described.collection_ids is None else list(described.collection_ids),
        version=version.number,
        version_id=version.id,
        revision=bot.revision,
        created_by=bot.created_by,
        created_at=bot.created_at,
        updated_at=bot.updated_at,
    )


def default_response(bot: Bot) -> schemas.DefaultBotResponse:
    """The environment's bot; whether there is a key, never which."""
    settings = BotSettings(**{field.name: getattr(bot, field.name) for field in fields(BotSettings)})
    shown = settings_response(Version(settings, {})).model_dump()
    return schemas.DefaultBotResponse(
        **{**shown, "has_api_key": not bot.answers_extractively}, **default_summary(bot).model_dump()
    )


def default_summary(bot: Bot) -> schemas.BotSummaryResponse:
    return schemas.BotSummaryResponse(
        id=bot.id,
        name=bot.name,
        description="The bot of the service's settings: it answers where no other one is named.",
    )


def settings_response(content: Version) -> schemas.BotSettingsResponse:
    return schemas.BotSettingsResponse.model_validate(_shown(content))


def version_summary(version: BotVersion) -> schemas.VersionSummaryResponse:
    return schemas.VersionSummaryResponse.model_validate(version)


def diff_response(before: BotVersion, after: BotVersion) -> schemas.DiffResponse:
    """The fields in which the two differ. A key that was replaced by another one is told without either."""
    first, second = (dict(_leaves(_shown(bot_care.content_of(version)))) for version in (before, after))
    differences = [
        schemas.DifferenceResponse(field=name, before=first.get(name), after=second.get(name))
        for name in sorted(first.keys() | second.keys())
        if first.get(name) != second.get(name)
    ]
    named = {difference.field for difference in differences}
    for place, field in _KEYS.items():
        was, is_now = (version.secrets.get(place.value) for version in (before, after))
        if was != is_now and f"{field}has_api_key" not in named and f"{field}api_key_end" not in named:
            differences.append(
                schemas.DifferenceResponse(field=f"{field}api_key", before="another key", after="this key")
            )
    return schemas.DiffResponse(from_version=before.number, to_version=after.number, differences=differences)


_KEYS = {Place.MODEL: "", Place.RERANKER: "retrieval.reranker."}


def statistics_response(period: Period, found: Statistics) -> schemas.StatisticsResponse:
    return schemas.StatisticsResponse(
        since=period.since,
        until=period.until,
        total=schemas.CountsResponse(**_fields(found.total)),
        days=[schemas.DayResponse(day=day, **_fields(counts)) for day, counts in found.days.items()],
        versions=[
            schemas.VersionCountsResponse(version=number, **_fields(counts))
            for number, counts in found.versions.items()
        ],
    )


def _fields(counts: AnswerCounts) -> dict[str, Any]:
    return {name: getattr(counts, name) for name in AnswerCounts.__slots__} | {
        "cost_usd": in_dollars(counts.cost_usd)
    }


def _shown(content: Version) -> dict[str, Any]:
    """The settings as clients see them: those of the model beside the others, each key by its end alone."""
    values = to_json(content.settings)
    model = values.pop("model")
    model.pop("anywhere")
    reranker = values["retrieval"]["reranker"]
    reranker.pop("anywhere")
    reranker |= _key(content, Place.RERANKER)
    return {**model, **_key(content, Place.MODEL), **values}


def _key(content: Version, place: Place) -> dict[str, Any]:
    key = content.keys.get(place)
    return {"has_api_key": key is not None, "api_key_end": key.hint if key else ""}


def _leaves(values: Mapping[str, Any], path: str = "") -> Iterator[tuple[str, Any]]:
    for name, value in values.items():
        if isinstance(value, dict):
            yield from _leaves(value, f"{path}{name}.")
        else:
            yield f"{path}{name}", value
