"""`ibid search`: the passages nearest to a question, without a model's answer."""

from typing import TYPE_CHECKING, Annotated, Final

import typer
from rich.table import Table

from app.cli import terminal

if TYPE_CHECKING:  # they take seconds, which `ibid --help` need not wait for
    from app.api.schemas.search import SearchRequest
    from app.core.config import Settings
    from app.core.retrieval import Hit

_SNIPPET_WIDTH: Final = 36
"""What it keeps on a narrow terminal; title and source are wrapped instead."""


def search(
    query: Annotated[str, typer.Argument(help="What to look for, in quotation marks.", show_default=False)],
    top_k: Annotated[
        int | None, typer.Option(metavar="N", min=1, max=50, help="Passages to show (setting TOP_K_DEFAULT).")
    ] = None,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print the object of POST /search instead.")
    ] = False,
) -> None:
    """Show the passages nearest to a question, best first."""
    settings = terminal.start()
    request = _request(query, top_k)
    hits = terminal.run(lambda: _search(settings, request))
    if as_json:
        _print_object(hits)
    elif hits:
        terminal.results().print(_table(hits))
    else:
        terminal.notes().print(
            "Nothing was found: there are no documents yet. Start with: ibid ingest FOLDER"
        )


def _request(query: str, top_k: int | None) -> "SearchRequest":
    """Checked as POST /search checks it. Raises CommandFailed."""
    from pydantic import ValidationError

    from app.api.schemas.search import SearchRequest

    try:
        return SearchRequest(query=query, top_k=top_k)
    except ValidationError:
        raise terminal.CommandFailed(
            "The query is blank or too long.", "Use 1 to 8,000 characters."
        ) from None


async def _search(settings: "Settings", request: "SearchRequest") -> "list[Hit]":
    async with terminal.open_service(settings) as service:
        from app.services import retrieval

        limit = request.top_k or settings.top_k_default
        return await retrieval.search(
            service.runtime, service.principal, request.query, limit=limit, degraded=_say_by_words
        )


def _say_by_words(code: str) -> None:
    terminal.notes().print(terminal.BY_WORDS.format(code=code))


def _print_object(hits: "list[Hit]") -> None:
    from app.api.schemas.search import SearchHit, SearchResponse

    results = [SearchHit.model_validate(hit) for hit in hits]
    terminal.print_json(SearchResponse(results=results).model_dump(mode="json"))


def _table(hits: "list[Hit]") -> Table:
    table = Table()
    table.add_column("rank", justify="right")
    table.add_column("score", justify="right")
    table.add_column("title")
    table.add_column("source", overflow="fold")
    table.add_column("snippet", min_width=_SNIPPET_WIDTH)
    for rank, hit in enumerate(hits, start=1):
        table.add_row(
            str(rank),
            f"{hit.score:.3f}",
            terminal.one_line(hit.title, limit=50),
            terminal.one_line(hit.source or "", limit=120),
            terminal.one_line(hit.text, limit=160),
        )
    return table
