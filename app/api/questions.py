"""From what a client sent to the question that is asked."""

from app.api.schemas.chat import AnswerOptions, ChatRequest, EditRequest
from app.api.schemas.filters import search_filter
from app.api.schemas.sockets import UserMessage
from app.rag.llms import Turn
from app.services.answers import Question


def question_of(
    body: AnswerOptions, *, stream: bool, regenerates: str | None = None, edits: str | None = None
) -> Question:
    message, session_id, history = "", None, None
    if isinstance(body, ChatRequest):
        message, session_id = body.question, body.session_id
        if body.messages is not None:
            history = tuple(Turn(message.role, message.content) for message in body.messages[:-1])
    elif isinstance(body, EditRequest):
        message = body.message
    elif isinstance(body, UserMessage):
        message, session_id = body.message, body.session_id
    return Question(
        message=message,
        session_id=session_id,
        bot_id=body.bot_id,
        history=history,
        where=search_filter(body.filters, body.collection_ids),
        top_k=body.config.top_k,
        temperature=body.config.temperature,
        stream=stream,
        regenerates=regenerates,
        edits=edits,
    )
