"""The typed filters that search and chat share, and their translation into the service's own values."""

from datetime import UTC, datetime
from typing import Annotated, Self

from pydantic import AfterValidator, Discriminator, Field, model_validator
from pydantic import Tag as Alternative

from app.api.schemas.base import CleanText, OpaqueId, RequestModel, Tag
from app.core.retrieval import Condition, Operator, Scalar, SearchFilter

FilterText = Annotated[CleanText, Field(max_length=1000)]
FilterNumber = Annotated[float, Field(allow_inf_nan=False)]
FilterScalar = bool | int | FilterNumber | FilterText | None
# Strict, so that true is no number.
Bound = (
    Annotated[int, Field(strict=True)]
    | Annotated[float, Field(strict=True, allow_inf_nan=False)]
    | FilterText
)
MetadataKey = Annotated[CleanText, Field(min_length=1, max_length=200)]


class MetadataCondition(RequestModel):
    """Conditions on one key; all of them must hold. Numbers compare with numbers, text with text (dates in ISO order)."""

    eq: FilterScalar = None
    in_: Annotated[list[FilterScalar] | None, Field(alias="in", max_length=100)] = None
    gt: Bound | None = None
    gte: Bound | None = None
    lt: Bound | None = None
    lte: Bound | None = None
    exists: bool | None = None

    @model_validator(mode="after")
    def _not_empty(self) -> Self:
        if not self.model_fields_set:
            raise ValueError("name at least one of eq, in, gt, gte, lt, lte, exists")
        for name in sorted(self.model_fields_set - {"eq"}):
            if getattr(self, name) is None:
                raise ValueError(f"{name} can't be null")
        return self

    def conditions(self, key: str) -> list[Condition]:
        found = []
        for operator in Operator:
            name = "in_" if operator is Operator.IN else operator.value
            if name in self.model_fields_set:
                value = getattr(self, name)
                values: tuple[Scalar, ...] = tuple(value or ()) if operator is Operator.IN else (value,)
                found.append(Condition(key, operator, values))
        return found


def _in_utc(moment: datetime) -> datetime:
    try:
        return moment.astimezone(UTC) if moment.tzinfo else moment.replace(tzinfo=UTC)
    except OverflowError as error:
        raise ValueError("out of range") from error


Moment = Annotated[datetime, AfterValidator(_in_utc)]


class DateRange(RequestModel):
    """Bounds of a time; a date alone is its midnight, and without an offset it is UTC."""

    gt: Moment | None = None
    gte: Moment | None = None
    lt: Moment | None = None
    lte: Moment | None = None

    @model_validator(mode="after")
    def _not_empty(self) -> Self:
        if not any(getattr(self, name) for name in self.model_fields_set):
            raise ValueError("name at least one of gt, gte, lt, lte")
        return self

    def bounds(self) -> tuple[tuple[Operator, datetime], ...]:
        return tuple(
            (Operator(name), bound)
            for name in type(self).model_fields
            if (bound := getattr(self, name)) is not None
        )


def _alternative(value: object) -> str:
    """So that a mistake in a condition is told as one, and not as no text and no number either."""
    return "conditions" if isinstance(value, dict | MetadataCondition) else "value"


Wanted = Annotated[
    Annotated[MetadataCondition, Alternative("conditions")] | Annotated[FilterScalar, Alternative("value")],
    Discriminator(_alternative),
]


class Filters(RequestModel):
    """What may be found: every field given must match; within `tags`, `document_ids` and `in` any one suffices."""

    tags: Annotated[list[Tag] | None, Field(max_length=100, examples=[["ems"]])] = None
    document_ids: Annotated[list[OpaqueId] | None, Field(max_length=1000)] = None
    metadata: Annotated[
        dict[MetadataKey, Wanted],
        Field(
            default_factory=dict,
            max_length=20,
            examples=[{"department": "sales", "year": {"gte": 2024}, "language": {"in": ["ms", "en"]}}],
        ),
    ]
    title: Annotated[
        FilterText | None, Field(min_length=1, description="What the document's title contains, in any case.")
    ] = None
    date: Annotated[
        DateRange | None,
        Field(
            description="When the document was added.", examples=[{"gte": "2026-01-01", "lt": "2026-04-01"}]
        ),
    ] = None


def search_filter(filters: Filters | None, collection_ids: list[str] | None) -> SearchFilter:
    """The filters of a request as one value; None and an empty object do not filter."""
    conditions: list[Condition] = []
    if filters is None:
        filters = Filters(metadata={})
    for key, wanted in filters.metadata.items():
        if isinstance(wanted, MetadataCondition):
            conditions += wanted.conditions(key)
        else:
            conditions.append(Condition(key, Operator.EQ, (wanted,)))
    return SearchFilter(
        collection_ids=_tuple(collection_ids),
        document_ids=_tuple(filters.document_ids),
        tags=_tuple(filters.tags),
        metadata=tuple(conditions),
        title=filters.title,
        created=filters.date.bounds() if filters.date is not None else (),
    )


def _tuple(values: list[str] | None) -> tuple[str, ...] | None:
    return None if values is None else tuple(values)
