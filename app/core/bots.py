"""What a bot is made of: the values of one version of it, shared by the layers that store, check and follow them."""

from dataclasses import dataclass, field
from enum import StrEnum
from typing import Final

DEFAULT_BOT: Final = "default"
"""The id that stands for the bot made from the environment, which every organization has."""


class Provider(StrEnum):
    OPENAI = "openai"
    OPENAI_COMPATIBLE = "openai-compatible"
    ANTHROPIC = "anthropic"
    OLLAMA = "ollama"
    EXTRACTIVE = "extractive"


class PiiPolicy(StrEnum):
    """What becomes of personal data: nothing; hidden from the provider and put back for the reader; hidden from both."""

    OFF = "off"
    HIDE_FROM_PROVIDER = "hide_from_provider"
    HIDE_FROM_ALL = "hide_from_all"


class Unsupported(StrEnum):
    """What becomes of a citation whose source does not say it."""

    FLAG = "flag"
    DROP = "drop"


class Expansion(StrEnum):
    """What a question is searched with besides itself; each costs a model call."""

    NONE = "none"
    MULTI_QUERY = "multi_query"
    HYPOTHETICAL_ANSWER = "hypothetical_answer"


class RerankerKind(StrEnum):
    NONE = "none"
    LLM = "llm"
    HTTP = "http"
    LOCAL = "local"


@dataclass(frozen=True, slots=True)
class ModelSettings:
    """Which model answers. An encrypted key and a base URL belong to the bot; None takes the environment's."""

    provider: Provider
    model: str
    base_url: str | None = None
    anywhere: bool = False
    """Whether the base URL may be of the server's own network: a superadmin has set it."""
    api_key_encrypted: str | None = field(default=None, repr=False)
    temperature: float = 0.2
    max_answer_tokens: int = 1024
    fallback_model: str | None = None
    """Another model of the same provider, asked when the first one fails before its first token."""
    extractive_fallback: bool = False
    """Whether sentences of the sources answer when no model does."""


@dataclass(frozen=True, slots=True)
class RerankerSettings:
    """Who puts the found passages in order again; a failure or a timeout leaves the fused order."""

    kind: RerankerKind = RerankerKind.NONE
    model: str | None = None
    url: str | None = None
    anywhere: bool = False
    """Whether the URL may be of the server's own network: a superadmin has set it."""
    api_key_encrypted: str | None = field(default=None, repr=False)
    candidates: int = 30
    timeout_seconds: float = 3.0


@dataclass(frozen=True, slots=True)
class RetrievalSettings:
    top_k: int | None = None
    expansion: Expansion = Expansion.NONE
    reranker: RerankerSettings = RerankerSettings()
    context_tokens: int = 6000
    """The most that the passages given to the model may have together."""


@dataclass(frozen=True, slots=True)
class Topic:
    """A subject as its description and some questions about it."""

    description: str
    examples: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Guardrails:
    in_scope: tuple[Topic, ...] = ()
    """Where given, a question must be about one of them."""
    out_of_scope: tuple[Topic, ...] = ()
    refusal_text: str | None = None
    """Instead of the refusal in the language of the question."""
    minimum_relevance: float | None = None
    """0 to 1; None is the threshold calibrated for the embedding model and the language."""
    pii: PiiPolicy = PiiPolicy.OFF
    pii_kinds: frozenset[str] | None = None
    """None is all kinds."""
    unsupported_citations: Unsupported = Unsupported.FLAG


@dataclass(frozen=True, slots=True)
class BotSettings:
    """What a version is made of: any change of it is a new one."""

    model: ModelSettings
    persona: str = ""
    language: str = "auto"
    """`auto` answers in the question's language; otherwise an ISO 639-1 code."""
    summarise_history: bool = False
    retrieval: RetrievalSettings = RetrievalSettings()
    guardrails: Guardrails = Guardrails()

    @property
    def answers_extractively(self) -> bool:
        return self.model.provider is Provider.EXTRACTIVE


@dataclass(frozen=True, slots=True, kw_only=True)
class Bot(BotSettings):
    """One version of a configured assistant; `version_id` None is the bot of the environment, which has no versions."""

    id: str
    version_id: str | None
    name: str
    collection_ids: tuple[str, ...] | None = None
    """The collections it answers from, whoever asks; None is what the caller may see."""
