"""Bots: made and changed by admins, listed and used by everybody who may."""

from typing import Annotated

from fastapi import APIRouter, Header, Query, Request, Response

from app.api import quotas
from app.api.bot_responses import (
    bot_response,
    default_response,
    default_summary,
    diff_response,
    is_manager,
    settings_response,
    statistics_response,
    version_summary,
)
from app.api.deps import BotReadingPrincipal, ManagePrincipal, RuntimeDep, TransactionDep, TryingPrincipal
from app.api.entity_tags import revisions_of
from app.api.paging import Cursor, Limit, Offset, link_next
from app.api.schemas.base import OpaqueId
from app.api.schemas.bot_responses import (
    BotResponse,
    BotSummaryResponse,
    BotUserResponse,
    DefaultBotResponse,
    DiffResponse,
    StatisticsResponse,
    TryResponse,
    VersionResponse,
    VersionSummaryResponse,
)
from app.api.schemas.bots import (
    BotUsersRequest,
    ChangeBotRequest,
    CreateBotRequest,
    Day,
    TryRequest,
    VersionNumber,
)
from app.core.bots import DEFAULT_BOT, ModelSettings
from app.services import bot_care, bot_statistics, bot_trial, bot_users
from app.services.bot_care import Expected, Wanted

router = APIRouter(prefix="/bots", tags=["bots"])

IfMatch = Annotated[
    str | None,
    Header(max_length=1000, description="The ETag that you know; another revision answers 412."),
]
_COLUMNS = ("name", "description", "visibility")


@router.post("", status_code=201)
async def create_bot(
    body: CreateBotRequest,
    response: Response,
    runtime: RuntimeDep,
    session: TransactionDep,
    principal: ManagePrincipal,
) -> BotResponse:
    """Make a bot with its first version."""
    made = await bot_care.create(
        runtime,
        session,
        principal,
        Wanted(
            columns={name: getattr(body, name) for name in _COLUMNS},
            settings=body.settings,
            keys=body.keys,
            collection_ids=None if body.collection_ids is None else frozenset(body.collection_ids),
            note=body.note,
        ),
    )
    return bot_response(made, response)


@router.get("")
async def list_bots(
    request: Request,
    response: Response,
    session: TransactionDep,
    principal: BotReadingPrincipal,
    limit: Limit = 50,
    cursor: Cursor = None,
    offset: Offset = 0,
) -> list[BotResponse] | list[BotSummaryResponse]:
    """The bots that the caller may use, newest first: all of it for admins, id, name and description for everybody else."""
    page, following = await bot_care.newest(session, principal, limit=limit, after=cursor, offset=offset)
    if following:
        link_next(request, response, cursor=following, offset=0)
    if is_manager(principal):
        return [bot_response(described) for described in page]
    return [BotSummaryResponse.model_validate(described.bot) for described in page]


@router.post("/try", responses=quotas.RESPONSES)
async def try_provider(body: TryRequest, runtime: RuntimeDep, principal: TryingPrincipal) -> TryResponse:
    """Ask a model one tiny thing, before a bot is made of it: says whether it answers, and if not what is wrong."""
    tried = await bot_trial.of_settings(
        runtime,
        principal,
        ModelSettings(provider=body.provider, model=body.model, base_url=body.base_url),
        api_key=body.api_key.get_secret_value() if body.api_key else None,
    )
    return TryResponse.model_validate(tried)


@router.get("/{bot_id}")
async def get_bot(
    bot_id: OpaqueId,
    response: Response,
    runtime: RuntimeDep,
    session: TransactionDep,
    principal: BotReadingPrincipal,
) -> BotResponse | DefaultBotResponse | BotSummaryResponse:
    """One bot: all of it for admins, id, name and description for everybody else. `default` is that of the service's settings."""
    if bot_id == DEFAULT_BOT and principal.bot_id is None:
        bot = runtime.default_bot
        return default_response(bot) if is_manager(principal) else default_summary(bot)
    found = await bot_care.get(session, principal, bot_id)
    if is_manager(principal):
        return bot_response(found, response)
    return BotSummaryResponse.model_validate(found.bot)


@router.patch("/{bot_id}")
async def change_bot(
    bot_id: OpaqueId,
    body: ChangeBotRequest,
    response: Response,
    runtime: RuntimeDep,
    session: TransactionDep,
    principal: ManagePrincipal,
    if_match: IfMatch = None,
) -> BotResponse:
    """Change what is given; what is left out stays. A change of what the bot answers with is a new version."""
    given = body.given
    changed = await bot_care.change(
        runtime,
        session,
        principal,
        bot_id,
        Wanted(
            columns={name: given[name] for name in _COLUMNS if name in given},
            settings=body.settings,
            keys=body.keys,
            sets_collections="collection_ids" in given,
            collection_ids=None if body.collection_ids is None else frozenset(body.collection_ids),
            note=body.note or "",
        ),
        Expected(body.revision, revisions_of(if_match)),
    )
    return bot_response(changed, response)


@router.delete("/{bot_id}", status_code=204)
async def delete_bot(
    bot_id: OpaqueId, session: TransactionDep, principal: ManagePrincipal, if_match: IfMatch = None
) -> None:
    """Delete a bot with its versions, its lists and the API keys that are bound to it; conversations stay."""
    await bot_care.delete(session, principal, bot_id, Expected(matching=revisions_of(if_match)))


@router.post("/{bot_id}/try", responses=quotas.RESPONSES)
async def try_bot(bot_id: OpaqueId, runtime: RuntimeDep, principal: TryingPrincipal) -> TryResponse:
    """Ask the bot's model one tiny thing: says whether it answers, and if not what is wrong."""
    return TryResponse.model_validate(await bot_trial.of_bot(runtime, principal, bot_id))


@router.get("/{bot_id}/versions")
async def list_versions(
    bot_id: OpaqueId,
    request: Request,
    response: Response,
    session: TransactionDep,
    principal: ManagePrincipal,
    limit: Limit = 50,
    offset: Offset = 0,
) -> list[VersionSummaryResponse]:
    """The versions, newest first."""
    page, more = await bot_care.versions(session, principal, bot_id, limit=limit, offset=offset)
    if more:
        link_next(request, response, offset=offset + limit)
    return [version_summary(version) for version in page]


@router.get("/{bot_id}/versions/{number}")
async def get_version(
    bot_id: OpaqueId, number: VersionNumber, session: TransactionDep, principal: ManagePrincipal
) -> VersionResponse:
    """What the bot answered with in one version."""
    version = await bot_care.version(session, principal, bot_id, number)
    settings = settings_response(bot_care.content_of(version))
    return VersionResponse(**version_summary(version).model_dump(), settings=settings)


@router.get("/{bot_id}/versions/{number}/diff")
async def compare_versions(
    bot_id: OpaqueId,
    number: VersionNumber,
    session: TransactionDep,
    principal: ManagePrincipal,
    against: Annotated[VersionNumber | None, Query(description="Default: the one before it.")] = None,
) -> DiffResponse:
    """What differs between two versions, from the one named in `against` to this one."""
    return diff_response(
        await bot_care.version(session, principal, bot_id, against or max(1, number - 1)),
        await bot_care.version(session, principal, bot_id, number),
    )


@router.post("/{bot_id}/versions/{number}/restore")
async def restore_version(
    bot_id: OpaqueId,
    number: VersionNumber,
    response: Response,
    session: TransactionDep,
    principal: ManagePrincipal,
    if_match: IfMatch = None,
) -> BotResponse:
    """Go back: a new version equal to this one. The present API key stays where the provider's address is the same."""
    restored = await bot_care.restore(
        session, principal, bot_id, number, Expected(matching=revisions_of(if_match))
    )
    return bot_response(restored, response)


@router.get("/{bot_id}/statistics")
async def get_statistics(
    bot_id: OpaqueId,
    session: TransactionDep,
    principal: ManagePrincipal,
    since: Annotated[Day | None, Query(description="Default: 29 days before `until`.")] = None,
    until: Annotated[Day | None, Query(description="This day included, in UTC. Default: today.")] = None,
) -> StatisticsResponse:
    """Turns, refusals, tokens, cost and latency: in all, by day and by version; at most 366 days."""
    return statistics_response(
        *await bot_statistics.of_bot(session, principal, bot_id, since=since, until=until)
    )


@router.get("/{bot_id}/users")
async def list_users(
    bot_id: OpaqueId,
    request: Request,
    response: Response,
    session: TransactionDep,
    principal: ManagePrincipal,
    limit: Limit = 50,
    offset: Offset = 0,
) -> list[BotUserResponse]:
    """Those who may use the bot where its visibility is `restricted`, newest first."""
    page, more = await bot_users.users(session, principal, bot_id, limit=limit, offset=offset)
    if more:
        link_next(request, response, offset=offset + limit)
    return [BotUserResponse.model_validate(user) for user in page]


@router.put("/{bot_id}/users", status_code=204)
async def replace_users(
    bot_id: OpaqueId, body: BotUsersRequest, session: TransactionDep, principal: ManagePrincipal
) -> None:
    """Make this the whole list."""
    await bot_users.set_users(session, principal, bot_id, frozenset(body.user_ids))


@router.put("/{bot_id}/users/{user_id}", status_code=204)
async def add_user(
    bot_id: OpaqueId, user_id: OpaqueId, session: TransactionDep, principal: ManagePrincipal
) -> None:
    """Let a user use the bot. Holds from their next request."""
    await bot_users.add_user(session, principal, bot_id, user_id)


@router.delete("/{bot_id}/users/{user_id}", status_code=204)
async def remove_user(
    bot_id: OpaqueId, user_id: OpaqueId, session: TransactionDep, principal: ManagePrincipal
) -> None:
    """Take a user off the list. Holds from their next request."""
    await bot_users.remove_user(session, principal, bot_id, user_id)
