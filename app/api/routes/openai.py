"""OpenAI's chat completions, models and search, for any client that speaks it: a bot is a model."""

from typing import Annotated, Any, Final

from fastapi import APIRouter, Path, Request, Response

from app.api import quotas
from app.api.compatible import CompatibleRoute
from app.api.completions import Asked, CompletionStream, completion, opened, warning_headers
from app.api.deps import AskingPrincipal, ChatPrincipal, RuntimeDep, SearchingPrincipal
from app.api.schemas import openai as schemas
from app.api.schemas import vector_stores
from app.api.schemas.base import OpaqueId
from app.api.streaming import while_connected
from app.core.errors import CollectionNotFound
from app.core.text import clean
from app.rag.llms import Turn
from app.services import named_bots, retrieval, stateless
from app.services.answers import Question
from app.services.runtime import Runtime

router = APIRouter(prefix="/v1", tags=["openai"], route_class=CompatibleRoute)
"""Under `/v1` alone, where clients look for it."""

_STREAM: Final[dict[int | str, dict[str, Any]]] = {
    200: {
        "description": "The answer; or, with `stream`, its chunks as server-sent events and `[DONE]`.",
        "content": {"text/event-stream": {"schema": {"type": "string"}}},
    }
}
ModelId = Annotated[str, Path(min_length=1, max_length=200)]


@router.post(
    "/chat/completions", response_model=schemas.Completion, responses={**_STREAM, **quotas.RESPONSES}
)
async def create_completion(
    body: schemas.CompletionRequest,
    request: Request,
    response: Response,
    runtime: RuntimeDep,
    principal: AskingPrincipal,
) -> schemas.Completion | Response:
    """Answer from the documents. Nothing of it is kept as a conversation; the caller sends what was said before."""
    asked = Asked(
        model=body.model,
        base_url=_base_url(runtime, request),
        warnings=body.ignored,
        include_usage=body.stream_options is not None and body.stream_options.include_usage,
    )
    question = _question(body, await named_bots.id_of(runtime, principal, body.model))
    if not body.stream:
        response.headers.update(warning_headers(asked.warnings))
        answer = await while_connected(request, stateless.answer(runtime, principal, question))
        return completion(answer, asked)
    events = stateless.converse(runtime, principal, question)
    opening = await while_connected(request, opened(events))
    return CompletionStream(opening, events, asked, request.app.state.draining)


@router.get("/models")
async def list_models(runtime: RuntimeDep, principal: ChatPrincipal) -> schemas.ModelList:
    """The bots that the caller may ask, the default one first."""
    return schemas.ModelList(data=[_model(bot) for bot in await named_bots.newest(runtime, principal)])


@router.get("/models/{model_id}")
async def get_model(model_id: ModelId, runtime: RuntimeDep, principal: ChatPrincipal) -> schemas.Model:
    """One of them, by its id or its name."""
    return _model(await named_bots.find(runtime, principal, clean(model_id)))


@router.post("/vector_stores/{collection_id}/search", responses=quotas.RESPONSES)
async def search_vector_store(
    collection_id: OpaqueId,
    body: vector_stores.VectorStoreSearch,
    runtime: RuntimeDep,
    principal: SearchingPrincipal,
) -> vector_stores.VectorStorePage:
    """The passages of a collection nearest to a question."""
    failures: list[str] = []
    try:
        hits = await retrieval.search(
            runtime,
            principal,
            body.question,
            limit=body.max_num_results,
            where=body.where(collection_id),
            degraded=failures.append,
        )
    except CollectionNotFound as error:
        raise CollectionNotFound from error  # which one is in the address
    return vector_stores.page(body, hits, degraded=next(iter(failures), None))


def _question(body: schemas.CompletionRequest, bot_id: str | None) -> Question:
    *earlier, last = body.conversation
    return Question(
        message=last.text,
        bot_id=bot_id,
        history=tuple(Turn(message.role, message.text) for message in earlier),
        temperature=body.temperature,
        stream=bool(body.stream),
        max_tokens=body.most_tokens,
        stop=body.stops,
        preferences=body.preferences,
    )


def _model(bot: named_bots.NamedBot) -> schemas.Model:
    return schemas.Model(
        id=bot.id,
        created=0 if bot.created_at is None else int(bot.created_at.timestamp()),
        owned_by=bot.organization_id or "ibid",
        name=bot.name,
    )


def _base_url(runtime: Runtime, request: Request) -> str:
    return (runtime.settings.public_url or str(request.base_url)).rstrip("/")
