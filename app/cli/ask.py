"""`ibid ask`: a question on the command line, its answer as it comes, and the sources that it cites."""

import sys
from contextlib import aclosing
from typing import TYPE_CHECKING, Annotated

import typer
from rich.table import Table

from app.cli import terminal

if TYPE_CHECKING:  # they take seconds, which `ibid --help` need not wait for
    from app.api.schemas.chat import ChatRequest
    from app.core.config import Settings
    from app.services.answers import Answer, Question


def ask(
    question: Annotated[str, typer.Argument(help="The question, in quotation marks.", show_default=False)],
    session: Annotated[
        str | None, typer.Option(metavar="ID", help="Session to go on with; left out, a new one.")
    ] = None,
    top_k: Annotated[
        int | None,
        typer.Option(metavar="N", min=1, max=50, help="Sources for the answer (setting TOP_K_DEFAULT)."),
    ] = None,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print the answer object of POST /chat instead.")
    ] = False,
) -> None:
    """Answer a question from the documents, with citations."""
    settings = terminal.start()
    request = _request(question, session, top_k)
    terminal.run(lambda: _ask(settings, request, as_json=as_json))


def _request(message: str, session: str | None, top_k: int | None) -> "ChatRequest":
    """Checked as POST /chat checks it. Raises CommandFailed."""
    from pydantic import ValidationError

    from app.api.schemas.chat import ChatConfig, ChatRequest

    try:
        return ChatRequest(message=message, session_id=session, config=ChatConfig(top_k=top_k))
    except ValidationError as error:
        if "session_id" in error.errors()[0]["loc"]:
            raise terminal.CommandFailed(
                f"{session!r} is no id of a session.", "Ids look like sess_…"
            ) from None
        raise terminal.CommandFailed(
            "The question is blank or too long.", "Use 1 to 8,000 characters."
        ) from None


async def _ask(settings: "Settings", request: "ChatRequest", *, as_json: bool) -> None:
    async with terminal.open_service(settings) as service:
        from app.services import chat
        from app.services.answers import Question

        question = Question(
            message=request.question,
            session_id=request.session_id,
            top_k=request.config.top_k,
            stream=not as_json,
        )
        if as_json:
            _print_object(await chat.answer(service.runtime, service.principal, question))
        else:
            _print_sources(await _stream(service, question))


async def _stream(service: terminal.Service, question: "Question") -> "Answer":
    """Print the answer piece by piece; whatever ends it, the line is ended too."""
    from app.services import answers, chat

    answer = None
    events = chat.converse(service.runtime, service.principal, question)
    started = False
    try:
        async with aclosing(events):
            async for event in events:
                if isinstance(event, answers.AnswerDelta):
                    started = True
                    print(terminal.printable(event.delta), end="", flush=True)
                elif isinstance(event, answers.AnswerDone):
                    answer = event.answer
    finally:
        if started:
            print(flush=True)
    assert answer is not None
    return answer


def _print_object(answer: "Answer") -> None:
    from app.api.schemas.chat import ChatResponse
    from app.api.streaming import answer_fields

    terminal.print_json(ChatResponse(**answer_fields(answer)).model_dump(mode="json"))


def _print_sources(answer: "Answer") -> None:
    notes = terminal.notes()
    cited = [source for source in answer.sources if source.cited]
    if answer.refused:
        notes.print(
            "Refused: the documents hold no answer to this. `ibid search` shows what is nearest to it."
        )
    elif not cited:
        notes.print("The answer cites no source: do not rely on it.")
    else:
        table = Table()
        for name in ("n", "title", "source", "page", "characters"):
            table.add_column(name, justify="left" if name in ("title", "source") else "right")
        for source in cited:
            table.add_row(
                str(source.n),
                terminal.one_line(source.title, limit=80),
                terminal.one_line(source.source or "", limit=120),
                str(source.page),
                f"{source.start:,}–{source.end:,}",
            )
        print(flush=True)
        terminal.results().print(table)
    if answer.degraded is not None:
        notes.print(terminal.BY_WORDS.format(code=answer.degraded))
    if sys.stderr.isatty():
        notes.print(f'To go on: ibid ask --session {answer.session_id} "…"')
