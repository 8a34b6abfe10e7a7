"""The models that the settings name, and the HTTP client that their providers are reached by."""

import structlog

from app.core.addresses import AddressPolicy
from app.core.config import LOCAL_EMBEDDING_MODEL, OPENAI_EMBEDDING_MODEL, Settings
from app.rag import embedding, llms
from app.rag.circuits import Circuits
from app.rag.errors import InvalidEmbeddingSettings
from app.rag.provider_http import HttpClient, ProviderClient
from app.services import bot_models
from app.services.live_turns import LiveTurns

log = structlog.get_logger(__name__)


def http_client(
    settings: Settings, *, policy: AddressPolicy | None = None, turns: LiveTurns | None = None
) -> HttpClient:
    """Connects to where the policy lets it; without one, anywhere. Streams slower pieces where there are very many turns."""
    return HttpClient(
        connect_timeout_seconds=settings.provider_connect_timeout_seconds,
        read_timeout_seconds=settings.provider_first_token_timeout_seconds,
        policy=policy,
        circuits=Circuits(
            failures=settings.provider_breaker_failures, pause_seconds=settings.provider_breaker_seconds
        ),
        pause_seconds=(lambda: turns.breath_seconds) if turns is not None else lambda: 0.0,
    )


def provider_policy(settings: Settings) -> AddressPolicy:
    """Where an admin may send the service for its models."""
    return AddressPolicy(settings.allowed_provider_networks)


def configured_model(settings: Settings) -> str:
    """The embedding model of a new installation."""
    if settings.uses_local_embeddings:
        return LOCAL_EMBEDDING_MODEL
    return settings.embedding_model or OPENAI_EMBEDDING_MODEL


def embedding_model(settings: Settings, client: ProviderClient) -> embedding.EmbeddingModel:
    if settings.uses_local_embeddings and settings.embedding_model not in (
        None,
        "local",
        LOCAL_EMBEDDING_MODEL,
    ):
        log.warning("no_provider_key", wanted=settings.embedding_model, used=LOCAL_EMBEDDING_MODEL)
    return named_embedding_model(settings, client, configured_model(settings), None)


def named_embedding_model(
    settings: Settings, client: ProviderClient, name: str, dimension: int | None
) -> embedding.EmbeddingModel:
    """Any embedding model that the settings provide. Raises InvalidEmbeddingSettings for others."""
    if embedding.is_local(name):
        config = embedding.EmbeddingConfig(provider="local", model=LOCAL_EMBEDDING_MODEL, dimension=dimension)
        return embedding.build(config, None)
    if settings.openai_api_key is None:
        raise InvalidEmbeddingSettings(f"{name} needs OPENAI_API_KEY")
    return embedding.build(
        embedding.EmbeddingConfig(
            provider="openai",
            model=name,
            api_key=settings.openai_api_key.get_secret_value(),
            base_url=settings.openai_base_url,
            dimension=dimension,
            timeout_seconds=settings.provider_first_token_timeout_seconds,
        ),
        client,
    )


def chat_model(settings: Settings, client: ProviderClient) -> llms.ChatModel:
    assert settings.openai_api_key is not None
    config = bot_models.config_of(
        settings,
        settings.chat_model,
        base_url=settings.openai_base_url,
        api_key=settings.openai_api_key.get_secret_value(),
    )
    return llms.build(config, client)
