"""What request and response models share."""

from datetime import UTC, datetime
from typing import Annotated, Any, ClassVar, Final, Self

from pydantic import AfterValidator, AwareDatetime, BaseModel, ConfigDict, Field, model_validator

from app.core.text import clean


class RequestModel(BaseModel):
    """Strict about names: a misspelled field is an error, not silence."""

    model_config = ConfigDict(extra="forbid", allow_inf_nan=False)


class PartialModel(RequestModel):
    """The body of a PATCH: what is left out stays as it is; null only clears the fields named in `clearable`."""

    clearable: ClassVar[frozenset[str]] = frozenset()

    @model_validator(mode="after")
    def _changes_something(self) -> Self:
        if not self.model_fields_set:
            raise ValueError("name at least one field")
        for name in sorted(self.model_fields_set - self.clearable):
            if getattr(self, name) is None:
                raise ValueError(f"{name} can't be null")
        return self

    @property
    def given(self) -> dict[str, Any]:
        """The fields that the client sent."""
        return {name: getattr(self, name) for name in self.model_fields_set}


class ResponseModel(BaseModel):
    model_config = ConfigDict(from_attributes=True)


_MAX_JSON_DEPTH: Final = 32


def _clean_json(value: Any) -> Any:
    return _clean_to_depth(value, 0)


def _clean_to_depth(value: Any, depth: int) -> Any:
    if depth > _MAX_JSON_DEPTH:
        raise ValueError(f"nested more than {_MAX_JSON_DEPTH} levels deep")
    match value:
        case str():
            return clean(value)
        case dict():
            return {clean(str(key)): _clean_to_depth(inner, depth + 1) for key, inner in value.items()}
        case list():
            return [_clean_to_depth(inner, depth + 1) for inner in value]
        case _:
            return value


CleanText = Annotated[str, AfterValidator(clean)]
"""Text that PostgreSQL can store: without NUL and lone surrogates."""


def _not_blank(text: str) -> str:
    if not text.strip():
        raise ValueError("must not be blank")
    return text


NameText = Annotated[CleanText, AfterValidator(_not_blank)]

JsonObject = Annotated[dict[str, Any], AfterValidator(_clean_json)]

Tag = Annotated[str, AfterValidator(clean), Field(min_length=1, max_length=100)]
OpaqueId = Annotated[str, Field(min_length=1, max_length=64, pattern=r"^[A-Za-z0-9_-]+$")]


_EARLIEST: Final = datetime(1970, 1, 1, tzinfo=UTC)
_LATEST: Final = datetime(9000, 1, 1, tzinfo=UTC)


def _storable(moment: datetime) -> datetime:
    """PostgreSQL's years are not Python's, and a time zone can push either over its edge."""
    if not _EARLIEST <= moment <= _LATEST:
        raise ValueError(f"must be between {_EARLIEST.year} and {_LATEST.year}")
    return moment


Moment = Annotated[AwareDatetime, AfterValidator(_storable)]


class ErrorDetail(BaseModel):
    code: str = Field(description="Stable, for programs.", examples=["document_not_found"])
    message: str = Field(description="For people.")
    details: dict[str, Any]
    request_id: str


class ErrorResponse(BaseModel):
    """The shape of every error."""

    error: ErrorDetail
