"""`ibid ingest`: files and folders into a collection, with progress and a summary."""

import asyncio
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from app.cli import terminal

if TYPE_CHECKING:  # they take time, which `ibid --help` need not wait for
    from app.cli.batch import Destination
    from app.cli.tally import Result, Tally
    from app.core.config import Settings
    from app.services.folders import Found


def ingest(
    paths: Annotated[
        list[Path],
        typer.Argument(
            metavar="PATHS...",
            help="Files, and folders with all that is in them: .txt, .md, .markdown, and .jsonl with a `text` a line.",
        ),
    ],
    collection: Annotated[
        str | None, typer.Option(metavar="ID", help="Collection they go into; left out, the default one.")
    ] = None,
    tag: Annotated[
        list[str] | None, typer.Option(metavar="T", help="Tag for all of them; repeatable.")
    ] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Read the files and say what would be done; store nothing.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print the result as JSON.")] = False,
    concurrency: Annotated[
        int, typer.Option(metavar="N", min=1, max=64, help="Documents under way at a time.")
    ] = 4,
) -> None:
    """Make documents searchable. Safe to run again: what is there already is not stored twice."""
    settings = terminal.start()
    destination = _destination(collection, tag or [])
    from app.cli.tally import Tally

    tally = Tally(keep_all=as_json)
    found = _find(paths, tally)
    if dry_run:
        _read_only(settings, found, tally)
    elif found.files:
        terminal.run(lambda: _ingest(settings, found, tally, destination, concurrency))
    for line in tally.remarks():
        terminal.notes().print(terminal.printable(line))
    if as_json:
        terminal.print_json(tally.as_json(dry_run=dry_run))
    else:
        terminal.results().print(tally.table(dry_run=dry_run))
    if not tally.is_complete:
        raise typer.Exit(terminal.INTERRUPTED if tally.interrupted else 1)


def _destination(collection: str | None, tags: list[str]) -> "Destination":
    """Checked as POST /ingest checks it. Raises CommandFailed."""
    from pydantic import ValidationError

    from app.api.schemas.documents import IngestRequest
    from app.cli.batch import Destination

    try:
        request = IngestRequest(text="-", collection_id=collection, tags=tags)
    except ValidationError as error:
        if error.errors()[0]["loc"][0] == "collection_id":
            raise terminal.CommandFailed(
                f"{collection!r} is no id of a collection.", "Ids look like col_…"
            ) from None
        raise terminal.CommandFailed(
            "A tag is not valid.", "Give up to 100 tags of 1 to 100 characters."
        ) from None
    return Destination(request.collection_id, request.all_tags)


def _find(paths: list[Path], tally: "Tally") -> "Found":
    from app.cli.tally import Outcome, Result
    from app.services import folders

    try:
        found = folders.find(paths)
    except OSError as error:
        reason = f"{error.filename} can't be opened ({error.strerror}); nothing was ingested."
        raise terminal.CommandFailed(reason, "Check the path.") from error
    for source, reason in found.skipped:
        tally.add(Result(source, Outcome.SKIPPED, reason=reason))
    for file in found.unreadable:
        tally.add(Result(file.source, Outcome.FAILED, error=file.error))
    return found


def _read_only(settings: "Settings", found: "Found", tally: "Tally") -> None:
    from app.cli.tally import Outcome, Result
    from app.core.errors import BlankText
    from app.services import folders

    for entry in folders.read(found.files, max_bytes=settings.ingest_max_text_bytes):
        if isinstance(entry, folders.Unreadable):
            tally.add(Result(entry.source, Outcome.FAILED, error=entry.error))
        elif not entry.text.strip():
            tally.add(Result(entry.source, Outcome.FAILED, error=BlankText()))
        else:
            tally.add(Result(entry.source, Outcome.READABLE, title=entry.title, encoding=entry.encoding))


async def _ingest(
    settings: "Settings", found: "Found", tally: "Tally", destination: "Destination", concurrency: int
) -> None:
    from app.cli import batch
    from app.services import folders, maintenance

    entries = folders.read(found.files, max_bytes=settings.ingest_max_text_bytes)
    total_bytes = sum(file.size_bytes for file in found.files)
    async with terminal.open_service(settings, set_up=True) as service:
        service.runtime.require_matching_index()
        try:
            with _reporting(tally, total_bytes) as report:
                await batch.ingest(service, entries, report, destination=destination, concurrency=concurrency)
            with terminal.status("Bringing the index up to date …"):
                await maintenance.run_once(service.runtime)
        except asyncio.CancelledError:  # Ctrl-C: the summary of what is done follows
            tally.interrupted = True
        except batch.IngestionStopped as stopped:
            tally.stopped_by = stopped.reason


@contextmanager
def _reporting(tally: "Tally", total_bytes: int) -> Iterator[Callable[["Result"], None]]:
    """Count each result, and show how far it is."""
    from app.cli import progress

    started = time.monotonic()
    with progress.showing(total_bytes) as advance:

        def report(result: "Result") -> None:
            tally.add(result)
            tally.seconds = time.monotonic() - started
            advance(result.size_bytes)

        yield report
