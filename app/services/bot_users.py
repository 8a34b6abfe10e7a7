"""Who may use a restricted bot: the users on its list."""

from collections.abc import Collection as Ids
from collections.abc import Sequence

from app.core.errors import UserNotFound
from app.core.principal import Principal
from app.db.engine import Transaction
from app.db.models import BotUser
from app.db.repositories.bots import BotListRepository
from app.services import access, bot_care


async def users(
    session: Transaction, principal: Principal, bot_id: str, *, limit: int, offset: int
) -> tuple[Sequence[BotUser], bool]:
    """A page of those on the list, and whether there are more. Raises AdminsOnly and BotNotFound."""
    access.require_admin(principal)
    await bot_care.usable(session, principal, bot_id)
    found = await BotListRepository(session, principal).users(bot_id, limit=limit + 1, offset=offset)
    return found[:limit], len(found) > limit


async def add_user(session: Transaction, principal: Principal, bot_id: str, user_id: str) -> None:
    """Let a user use a restricted bot. Raises AdminsOnly, BotNotFound and UserNotFound."""
    await bot_care.managed(session, principal, bot_id, bot_care.ANY_REVISION)
    await BotListRepository(session, principal).add_users(bot_id, [user_id])


async def set_users(session: Transaction, principal: Principal, bot_id: str, user_ids: Ids[str]) -> None:
    """Make these the whole list. Raises what `add_user` raises."""
    await bot_care.managed(session, principal, bot_id, bot_care.ANY_REVISION)
    lists = BotListRepository(session, principal)
    await lists.remove_other_users(bot_id, keep=user_ids)
    if user_ids:
        await lists.add_users(bot_id, user_ids)


async def remove_user(session: Transaction, principal: Principal, bot_id: str, user_id: str) -> None:
    """Raises AdminsOnly, BotNotFound, and UserNotFound for one who is not on the list."""
    await bot_care.managed(session, principal, bot_id, bot_care.ANY_REVISION)
    if not await BotListRepository(session, principal).remove_user(bot_id, user_id):
        raise UserNotFound
