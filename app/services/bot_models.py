"""The chat models of bots: made once for each endpoint and key, and what a process knows already of a bot's version."""

from dataclasses import dataclass
from functools import lru_cache
from typing import Final

from app.core.bots import BotSettings, ModelSettings, Provider
from app.core.config import OPENAI_BASE_URL, Settings
from app.core.crypto import Keyring
from app.core.errors import BotWithoutKey
from app.rag import llms
from app.rag.anthropic_chat import ANTHROPIC_BASE_URL
from app.rag.llms import ChatModel, ChatModelConfig
from app.rag.provider_http import ProviderClient

_MOST_MODELS: Final = 256
_MOST_VERSIONS: Final = 1_000


@dataclass(frozen=True, slots=True)
class _Endpoint:
    """What tells one model from another: bots that share these share a model, and its failures."""

    provider: Provider
    model: str
    base_url: str | None
    anywhere: bool
    api_key_encrypted: str | None


def _endpoint(model: ModelSettings) -> _Endpoint:
    return _Endpoint(model.provider, model.model, model.base_url, model.anywhere, model.api_key_encrypted)


class BotModels:
    """Chat models by where and what they are.

    `checked` reaches only addresses that anybody may name; `free` those of the environment and of superadmins.
    """

    def __init__(
        self, settings: Settings, keyring: Keyring, *, free: ProviderClient, checked: ProviderClient
    ) -> None:
        self._settings = settings
        self._keyring = keyring
        self._free = free
        self._checked = checked
        self._made = lru_cache(maxsize=_MOST_MODELS)(self._make)
        self._versions: dict[tuple[str, str], tuple[str, BotSettings]] = {}

    def of(self, model: ModelSettings) -> ChatModel:
        """The model of these settings. Raises BotWithoutKey, and SecretUnreadable for a key of a lost SECRET_KEY."""
        return self._made(_endpoint(model))

    def fresh(self, model: ModelSettings) -> ChatModel:
        """The same, made for once. Raises the same."""
        return self._make(_endpoint(model))

    def client(self, *, anywhere: bool) -> ProviderClient:
        """What reaches an address that somebody has entered."""
        return self._free if anywhere else self._checked

    def known(self, organization_id: str, bot_id: str) -> tuple[str, BotSettings] | None:
        """The version of a bot that was read last."""
        return self._versions.get((organization_id, bot_id))

    def remember(self, organization_id: str, bot_id: str, version_id: str, settings: BotSettings) -> None:
        if len(self._versions) >= _MOST_VERSIONS:
            self._versions.clear()
        self._versions[organization_id, bot_id] = version_id, settings

    def _make(self, endpoint: _Endpoint) -> ChatModel:
        own_key = self._keyring.decrypt(endpoint.api_key_encrypted) if endpoint.api_key_encrypted else ""
        base_url, key, anywhere = endpoint.base_url, own_key, endpoint.anywhere
        if endpoint.provider is Provider.OPENAI:
            base_url, key = self._of_openai(own_key)
            anywhere = True  # not an address that somebody has entered
        elif endpoint.provider is Provider.ANTHROPIC and base_url is None:
            base_url = ANTHROPIC_BASE_URL
        assert base_url is not None, "the settings of a bot are checked when they are stored"
        config = config_of(
            self._settings, endpoint.model, base_url=base_url, api_key=key, provider=endpoint.provider
        )
        return llms.build(config, self.client(anywhere=anywhere))

    def _of_openai(self, own_key: str) -> tuple[str, str]:
        """The environment's key goes to the environment's address alone, and a bot's own to OpenAI's."""
        if own_key:
            return OPENAI_BASE_URL, own_key
        if self._settings.openai_api_key is None:
            raise BotWithoutKey
        return self._settings.openai_base_url, self._settings.openai_api_key.get_secret_value()


def config_of(
    settings: Settings, model: str, *, base_url: str, api_key: str, provider: Provider = Provider.OPENAI
) -> ChatModelConfig:
    """A model at an address, waited for as the settings say."""
    return ChatModelConfig(
        model=model,
        api_key=api_key,
        base_url=base_url,
        context_tokens=settings.chat_context_tokens,
        connect_timeout=settings.provider_connect_timeout_seconds,
        first_token_timeout=settings.provider_first_token_timeout_seconds,
        total_timeout=settings.provider_timeout_seconds,
        max_retries=settings.provider_max_retries,
        max_retry_wait=settings.provider_max_retry_wait_seconds,
        provider=provider,
    )
