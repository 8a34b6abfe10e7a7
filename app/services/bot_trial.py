"""Whether a bot's model can be asked, and what is wrong in a sentence that a person understands."""

import time
from dataclasses import dataclass
from typing import Final
from urllib.parse import urlsplit

from app.core import bot_settings
from app.core.bot_settings import Place
from app.core.bots import BotSettings, ModelSettings, Provider
from app.core.errors import InvalidBot
from app.core.principal import Principal
from app.rag import metering, trial
from app.rag.trial import Outcome
from app.services import access, bot_rules, bots, usage
from app.services.runtime import Runtime

_LONGEST_SECONDS: Final = 20.0

_SENTENCES: Final = {
    Outcome.OK: "{model} answers.",
    Outcome.BAD_KEY: "{host} does not accept this API key: it is wrong, was revoked, or is missing.",
    Outcome.NOT_PERMITTED: "{host} knows this API key but does not let it use {model}.",
    Outcome.UNKNOWN_MODEL: "{host} does not know the model {model}, or its API is not at this address.",
    Outcome.NOT_ACCEPTED: "{host} does not accept the request: {model} may be no chat model.",
    Outcome.LIMITED: "{host} accepts the API key but limits it: too many requests, or no credit is left.",
    Outcome.PROVIDER_FAILED: "{host} has a failure of its own just now; try again later.",
    Outcome.REDIRECTED: "{host} sends to another address; enter that one, redirects are not followed.",
    Outcome.UNREACHABLE: "{host} can't be reached: nothing answers at this address and port.",
    Outcome.UNKNOWN_HOST: "There is no host named {host}.",
    Outcome.ADDRESS_NOT_ALLOWED: "{host} is not on the public internet; the operator can allow its network"
    " (PROVIDER_NETWORKS), or a superadmin can enter the address.",
    Outcome.TLS_FAILED: "The certificate of {host} is not valid, or it does not speak https at this port.",
    Outcome.TIMED_OUT: "{host} did not answer in time.",
    Outcome.NO_MODEL_SERVER: "Something answers at {host}, but not as this kind of provider does; check provider and"
    " address.",
}


@dataclass(frozen=True, slots=True)
class Trial:
    """What came of it; `message` names the host and the model, never the key."""

    outcome: Outcome
    message: str
    model: str
    latency_ms: int | None

    @property
    def ok(self) -> bool:
        return self.outcome is Outcome.OK


async def of_bot(runtime: Runtime, principal: Principal, bot_id: str) -> Trial:
    """Try the model of a bot. Raises AdminsOnly, BotNotFound and BotWithoutKey."""
    access.require_admin(principal)
    bot = await bots.resolve(runtime, principal, bot_id)
    return await _tried(runtime, principal, bot.model, bot_id=bot_id)


async def of_settings(
    runtime: Runtime, principal: Principal, model: ModelSettings, *, api_key: str | None
) -> Trial:
    """Try settings before they are stored. Raises AdminsOnly, InvalidBot, and UnsafeUrl as storing them would."""
    access.require_admin(principal)
    wanted = bot_rules.checked(runtime.settings, principal, BotSettings(model), before=None)
    given = {Place.MODEL: api_key} if api_key else {}
    keys = bot_rules.keys_of(runtime.keyring, wanted, given, before=None)
    bot_rules.require_keys(runtime.settings, wanted, keys)
    return await _tried(runtime, principal, bot_settings.with_keys(wanted, keys).model)


async def _tried(
    runtime: Runtime, principal: Principal, settings: ModelSettings, *, bot_id: str | None = None
) -> Trial:
    if settings.provider is Provider.EXTRACTIVE:
        raise InvalidBot("There is no model to try: the sentences of the documents answer.")
    model = runtime.bot_models.fresh(settings)
    started = time.monotonic()
    seconds = min(_LONGEST_SECONDS, runtime.settings.provider_timeout_seconds)
    async with usage.account(runtime, principal, bot_id=bot_id) as ledger:
        outcome = await trial.ask(model, timeout_seconds=seconds)
        if outcome is Outcome.OK:
            ledger.note(metering.probe(settings.model, trial.QUESTION))
    host = urlsplit(model.config.base_url).hostname or "The provider"
    return Trial(
        outcome,
        _SENTENCES[outcome].format(host=host, model=settings.model),
        settings.model,
        round((time.monotonic() - started) * 1000) if outcome is Outcome.OK else None,
    )
