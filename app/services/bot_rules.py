"""What the settings of a bot must fulfil before they are stored, and where its keys may go.

A key is for the address that it was entered with: whoever changes the address has to enter the key again, or the next one
who may change bots would get at it by pointing them to a server of their own.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Final
from urllib.parse import urlsplit

from app.core import bot_settings
from app.core.addresses import UnsafeUrl, parse_url
from app.core.bot_settings import Keys, Place, StoredKey
from app.core.bots import BotSettings, ModelSettings, Provider, RerankerKind, RerankerSettings
from app.core.config import EXTRACTIVE_MODEL, Settings
from app.core.crypto import Keyring
from app.core.errors import InvalidBot
from app.core.principal import Principal, PrincipalKind, Role

_NEEDS_URL: Final = frozenset({Provider.OPENAI_COMPATIBLE, Provider.OLLAMA})
_MOST_CHARACTERS: Final = 2_000


@dataclass(frozen=True, slots=True)
class Version:
    """The settings of a version, and its keys."""

    settings: BotSettings
    keys: Keys


def checked(
    settings: Settings, principal: Principal, wanted: BotSettings, *, before: Version | None
) -> BotSettings:
    """The settings as they are stored. Raises InvalidBot, and UnsafeUrl for an address that the caller may not enter."""
    was = before.settings if before else None
    model = _checked_model(settings, principal, wanted.model, was.model if was else None)
    reranker = _checked_reranker(
        settings, principal, wanted.retrieval.reranker, was.retrieval.reranker if was else None
    )
    return replace(wanted, model=model, retrieval=replace(wanted.retrieval, reranker=reranker))


def keys_of(
    keyring: Keyring, wanted: BotSettings, given: Mapping[Place, str | None], *, before: Version | None
) -> dict[Place, StoredKey]:
    """The keys that were entered now (None removes one), and of those before the ones whose address is still the same."""
    kept = {} if before is None else kept_keys(before, wanted)
    for place, key in given.items():
        kept.pop(place, None)
        if key is not None:
            kept[place] = StoredKey(keyring.encrypt(key), bot_settings.hint(key))
    if wanted.answers_extractively:
        kept.pop(Place.MODEL, None)
    if wanted.retrieval.reranker.kind is not RerankerKind.HTTP:
        kept.pop(Place.RERANKER, None)
    return kept


def kept_keys(before: Version, wanted: BotSettings) -> dict[Place, StoredKey]:
    """The keys whose address is the same in both."""
    return {
        place: key for place, key in before.keys.items() if _address(before.settings, place) == _address(wanted, place)
    }  # fmt: skip


def require_keys(settings: Settings, wanted: BotSettings, keys: Keys) -> None:
    """Raises InvalidBot where the provider can't be asked without a key and there is none."""
    provider, has_key = wanted.model.provider, Place.MODEL in keys
    if provider is Provider.ANTHROPIC and not has_key:
        raise InvalidBot("Anthropic needs an API key; enter it with the provider (api_key).")
    if provider is Provider.OPENAI and not has_key and not settings.has_provider:
        raise InvalidBot(
            "OpenAI needs an API key: enter it with the provider (api_key), or set OPENAI_API_KEY for the service."
        )


def _address(settings: BotSettings, place: Place) -> tuple[str, str | None]:
    if place is Place.RERANKER:
        return settings.retrieval.reranker.kind, settings.retrieval.reranker.url
    return settings.model.provider, settings.model.base_url


def _checked_model(
    settings: Settings, principal: Principal, model: ModelSettings, before: ModelSettings | None
) -> ModelSettings:
    if model.provider is Provider.EXTRACTIVE:
        return replace(
            model,
            model=EXTRACTIVE_MODEL,
            base_url=None,
            anywhere=False,
            fallback_model=None,
            extractive_fallback=False,
        )
    if not model.model.strip() or model.model == EXTRACTIVE_MODEL:
        raise InvalidBot("Name the model that answers (model).")
    if model.provider is Provider.OPENAI and model.base_url is not None:
        raise InvalidBot(
            "The provider `openai` has an address of its own; for another one choose `openai-compatible`."
        )
    if model.base_url is None:
        if model.provider in _NEEDS_URL:
            raise InvalidBot(f"The provider `{model.provider}` needs the address of its server (base_url).")
        return replace(model, anywhere=False)
    unchanged = before is not None and before.base_url == model.base_url
    url, anywhere = _checked_url(
        settings, principal, model.base_url, approved=bool(unchanged and before and before.anywhere)
    )
    return replace(model, base_url=url, anywhere=anywhere)


def _checked_reranker(
    settings: Settings, principal: Principal, reranker: RerankerSettings, before: RerankerSettings | None
) -> RerankerSettings:
    if reranker.kind is not RerankerKind.HTTP:
        return replace(reranker, url=None, anywhere=False)
    if reranker.url is None:
        raise InvalidBot("A reranker of the kind `http` needs the address of its server (reranker.url).")
    unchanged = before is not None and before.url == reranker.url
    url, anywhere = _checked_url(
        settings, principal, reranker.url, approved=bool(unchanged and before and before.anywhere)
    )
    return replace(reranker, url=url, anywhere=anywhere)


def _checked_url(settings: Settings, principal: Principal, url: str, *, approved: bool) -> tuple[str, bool]:
    """The address, and whether it may be one of the server's own network: what a superadmin enters, or has entered.

    Likewise whoever sits at the machine.
    """
    url = url.strip().rstrip("/")
    try:
        parts = urlsplit(url)
    except ValueError:
        raise UnsafeUrl("The URL is not a valid one.") from None
    if parts.query or parts.fragment:
        raise UnsafeUrl("The URL of a provider has no query and no fragment.")
    if approved:
        return url, True
    if principal.role is Role.SUPERADMIN or principal.kind is PrincipalKind.OPERATOR:
        _require_plain(url)
        return url, True
    networks = settings.allowed_provider_networks
    parse_url(url, allowed=networks)
    return url, False


def _require_plain(url: str) -> None:
    """What holds for superadmins too. Raises UnsafeUrl."""
    parts = urlsplit(url)
    try:
        port_is_valid = parts.port is None or parts.port > 0
    except ValueError:
        port_is_valid = False
    if (
        parts.scheme not in ("http", "https")
        or not parts.hostname
        or not port_is_valid
        or "@" in parts.netloc
        or "\\" in url
        or len(url) > _MOST_CHARACTERS
        or any(character.isspace() or not character.isprintable() for character in url)
    ):
        raise UnsafeUrl("The URL must be http:// or https:// with a host, without user name and blanks.")
