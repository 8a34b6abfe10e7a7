"""Bots as they are wished for: made, changed, tried, and handed to users."""

from datetime import date
from typing import Annotated, Any, ClassVar, Final

from pydantic import AfterValidator, Field, SecretStr

from app.api.schemas.base import CleanText, NameText, OpaqueId, PartialModel, RequestModel
from app.core.access import Visibility
from app.core.bot_settings import Place
from app.core.bots import Expansion, PiiPolicy, Provider, RerankerKind, Unsupported
from app.rag.guardrails.kinds import PiiKind

Name = Annotated[NameText, Field(max_length=200, examples=["Help desk"])]
Description = Annotated[CleanText, Field(max_length=2000)]
Note = Annotated[
    CleanText, Field(max_length=500, description="Why: it stands with the version in their list.")
]
ModelName = Annotated[NameText, Field(max_length=200, examples=["gpt-4.1-mini"])]
Url = Annotated[CleanText, Field(min_length=1, max_length=2000)]


def _sendable(key: SecretStr) -> SecretStr:
    """A key travels in a header."""
    if not all(" " < character <= "~" for character in key.get_secret_value()):
        raise ValueError("an API key has no blanks and no control characters")
    return key


Key = Annotated[SecretStr, Field(min_length=1, max_length=1000), AfterValidator(_sendable)]
VersionNumber = Annotated[int, Field(ge=1, le=2**31 - 1)]
Day = Annotated[date, Field(ge=date(2000, 1, 1), le=date(2999, 12, 31))]
Revision = Annotated[int, Field(ge=1, le=2**31 - 1)]
Text = Annotated[NameText, Field(max_length=500)]
CollectionIds = Annotated[list[OpaqueId], Field(max_length=100)]


class TopicFields(RequestModel):
    description: Text
    examples: list[Text] = Field(
        default_factory=list, max_length=20, description="Questions about it, as people ask them."
    )


class RerankerFields(PartialModel):
    clearable = frozenset({"model", "url", "api_key"})

    kind: RerankerKind | None = None
    model: ModelName | None = None
    url: Url | None = Field(None, description="Of a server that ranks; for the kind `http`.")
    api_key: Key | None = Field(None, description="Of that server. Stored encrypted and never shown.")
    candidates: int | None = Field(
        None, ge=1, le=200, description="How many passages are put in order again."
    )
    timeout_seconds: float | None = Field(
        None, gt=0, le=60, description="After which their first order stays."
    )


class RetrievalFields(PartialModel):
    clearable = frozenset({"top_k"})

    top_k: int | None = Field(
        None, ge=1, le=50, description="Sources for an answer; null is the service's TOP_K_DEFAULT."
    )
    expansion: Expansion | None = Field(
        None, description="What a question is searched with besides itself; costs a model call."
    )
    reranker: RerankerFields | None = None
    context_tokens: int | None = Field(
        None, ge=100, le=1_000_000, description="The most that the sources of an answer may have together."
    )


class GuardrailFields(PartialModel):
    clearable = frozenset({"refusal_text", "minimum_relevance", "pii_kinds"})

    in_scope: list[TopicFields] | None = Field(
        None, max_length=50, description="Where given, a question must be about one of these."
    )
    out_of_scope: list[TopicFields] | None = Field(None, max_length=50)
    refusal_text: Annotated[NameText, Field(max_length=2000)] | None = Field(
        None, description="Null is a sentence in the language of the question."
    )
    minimum_relevance: float | None = Field(
        None, ge=0, le=1, description="Null is the value measured for the embedding model and the language."
    )
    pii: PiiPolicy | None = None
    pii_kinds: Annotated[list[PiiKind], Field(max_length=50)] | None = Field(
        None, description="Null is all kinds."
    )  # fmt: skip
    unsupported_citations: Unsupported | None = None


class BotFields(RequestModel):
    """What a bot answers with."""

    base_url: Url | None = Field(
        None,
        description="Of an `openai-compatible` server or of `ollama`. Whoever changes it has to enter the key again.",
        examples=["https://llm.example.com/v1"],
    )
    api_key: Key | None = Field(
        None,
        description="Of the provider. Stored encrypted and never shown. Without one, `openai` uses the service's.",
    )
    temperature: float | None = Field(None, ge=0, le=2)
    max_answer_tokens: int | None = Field(None, ge=1, le=128_000)
    fallback_model: ModelName | None = Field(
        None,
        description="Another model of the same provider, asked when the first one fails before its first token.",
    )
    extractive_fallback: bool | None = Field(
        None, description="Whether sentences of the sources answer when no model does."
    )
    persona: Annotated[CleanText, Field(max_length=20_000)] | None = Field(
        None, description="Who the bot is and how it speaks: part of its instructions, never shown to users."
    )
    language: Annotated[str, Field(pattern=r"^(auto|[a-z]{2})$")] | None = Field(
        None,
        description="`auto` answers in the question's language; otherwise an ISO 639-1 code.",
        examples=["ms"],
    )
    summarise_history: bool | None = Field(
        None, description="Whether earlier turns that don't fit any more are summarised; costs model calls."
    )
    retrieval: RetrievalFields | None = None
    guardrails: GuardrailFields | None = None

    @property
    def keys(self) -> dict[Place, str | None]:
        """The keys that the client sent; None removes one."""
        given: dict[Place, str | None] = {}
        if "api_key" in self.model_fields_set:
            given[Place.MODEL] = self.api_key.get_secret_value() if self.api_key else None
        reranker = self.retrieval.reranker if self.retrieval else None
        if reranker is not None and "api_key" in reranker.model_fields_set:
            given[Place.RERANKER] = reranker.api_key.get_secret_value() if reranker.api_key else None
        return given

    @property
    def settings(self) -> dict[str, Any]:
        """What the client sent of the settings, in the form in which they are stored."""
        given = self.model_dump(mode="json", exclude_unset=True, exclude=_NOT_SETTINGS)
        model = {name: given.pop(name) for name in _OF_MODEL if name in given}
        return given | ({"model": model} if model else {})


_OF_MODEL: Final = (
    "provider",
    "model",
    "base_url",
    "temperature",
    "max_answer_tokens",
    "fallback_model",
    "extractive_fallback",
)
_NOT_SETTINGS: Final[dict[str, Any]] = {
    **dict.fromkeys(("name", "description", "visibility", "collection_ids", "note", "revision", "api_key"), True),
    "retrieval": {"reranker": {"api_key": True}},
}  # fmt: skip


COLLECTIONS_DESCRIPTION: Final = "The collections that it answers from, also for users who may not see them; null is what the caller may see."
VISIBILITY_DESCRIPTION: Final = "`organization`: for all its users; `restricted`: for those on the list."


class CreateBotRequest(BotFields):
    name: Name
    description: Description = ""
    visibility: Visibility = Field(Visibility.ORGANIZATION, description=VISIBILITY_DESCRIPTION)
    collection_ids: CollectionIds | None = Field(None, description=COLLECTIONS_DESCRIPTION)
    note: Note = ""
    provider: Provider
    model: ModelName | None = Field(None, description="Needed by every provider but `extractive`.")

    @property
    def settings(self) -> dict[str, Any]:
        given = {name: value for name, value in super().settings.items() if value is not None}
        given["model"] = {name: value for name, value in given["model"].items() if value is not None}
        return given | {"model": {"model": "", **given["model"]}}


class ChangeBotRequest(BotFields, PartialModel):
    """A change of what it answers with is a new version; name, description, access and collections are not part of one."""

    clearable: ClassVar[frozenset[str]] = frozenset(
        {"base_url", "api_key", "fallback_model", "collection_ids"}
    )

    name: Name | None = None
    description: Description | None = None
    visibility: Visibility | None = Field(None, description=VISIBILITY_DESCRIPTION)
    collection_ids: CollectionIds | None = Field(None, description=COLLECTIONS_DESCRIPTION)
    note: Note | None = None
    provider: Provider | None = None
    model: ModelName | None = None
    revision: Revision | None = Field(
        None, description="The revision that you know: if the bot has another one by now, the answer is 409."
    )


class TryRequest(RequestModel):
    provider: Provider
    model: ModelName
    base_url: Url | None = None
    api_key: Key | None = None


class BotUsersRequest(RequestModel):
    user_ids: Annotated[list[OpaqueId], Field(max_length=1000)]
