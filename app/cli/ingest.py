"""`ibid ingest`: files, folders and web pages into a collection, with progress and a summary."""

import asyncio
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final

import typer

from app.cli import terminal

if TYPE_CHECKING:  # they take time, which `ibid --help` need not wait for
    from app.cli.batch import Destination, Show
    from app.cli.tally import Result, Tally
    from app.core.config import Settings
    from app.core.errors import AppError
    from app.services.folders import Found, Uploadable


_ADDRESSES: Final = ("http://", "https://")


@dataclass(frozen=True, slots=True)
class Plan:
    """What to ingest, and how."""

    folders: list[Path]
    addresses: list[str]
    recursive: bool
    watch: bool
    concurrency: int


def ingest(
    paths: Annotated[
        list[str],
        typer.Argument(
            metavar="PATHS|URLS...",
            help="Files of any format that Ibid reads, folders with what is in them, and addresses of web pages. A .jsonl"
            " file with a `text` in each line is a document a line.",
        ),
    ],
    collection: Annotated[
        str | None, typer.Option(metavar="ID", help="Collection they go into; left out, the default one.")
    ] = None,
    tag: Annotated[
        list[str] | None, typer.Option(metavar="T", help="Tag for all of them; repeatable.")
    ] = None,
    recursive: Annotated[
        bool, typer.Option("--recursive/--no-recursive", help="Also what is in the folders of a folder.")
    ] = True,
    watch: Annotated[
        bool,
        typer.Option(
            "--watch",
            help="Go on, and ingest what is added or changed, until Ctrl-C. Documents of removed files stay.",
        ),
    ] = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Read the files and say what would be done; store nothing.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print the result as JSON.")] = False,
    concurrency: Annotated[
        int, typer.Option(metavar="N", min=1, max=64, help="Documents under way at a time.")
    ] = 4,
) -> None:
    """Make documents searchable. Safe to run again: what is there is not stored twice, a changed file is updated."""
    settings = terminal.start()
    destination = _destination(collection, tag or [])
    from app.cli.tally import Tally

    tally = Tally(keep_all=as_json)
    plan = Plan(
        folders=[Path(path) for path in paths if not path.startswith(_ADDRESSES)],
        addresses=[path for path in paths if path.startswith(_ADDRESSES)],
        recursive=recursive,
        watch=watch,
        concurrency=concurrency,
    )
    found = _find(plan, tally)
    if dry_run:
        _read_only(settings, plan, found, tally)
    elif found.files or plan.addresses or watch:
        terminal.run(lambda: _ingest(settings, plan, found, tally, destination))
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


def _find(plan: Plan, tally: "Tally") -> "Found":
    from app.cli.tally import Outcome, Result
    from app.services import folders

    try:
        found = folders.find(plan.folders, recursive=plan.recursive)
    except OSError as error:
        reason = f"{error.filename} can't be opened ({error.strerror}); nothing was ingested."
        raise terminal.CommandFailed(reason, "Check the path.") from error
    for source, reason in found.skipped:
        tally.add(Result(source, Outcome.SKIPPED, reason=reason))
    for file in found.unreadable:
        tally.add(Result(file.source, Outcome.FAILED, error=file.error))
    return found


def _read_only(settings: "Settings", plan: Plan, found: "Found", tally: "Tally") -> None:
    """What would be done, as far as that is seen without a database: addresses are not fetched, uploads not parsed."""
    from app.cli.tally import Outcome, Result
    from app.core.errors import BlankText
    from app.services import folders

    for address in plan.addresses:
        tally.add(Result(address, Outcome.READABLE))
    for entry in folders.read(found.files, max_bytes=settings.ingest_max_text_bytes):
        match entry:
            case folders.Unreadable():
                tally.add(Result(entry.source, Outcome.FAILED, error=entry.error))
            case folders.Readable() if not entry.text.strip():
                tally.add(Result(entry.source, Outcome.FAILED, error=BlankText()))
            case folders.Readable():
                tally.add(Result(entry.source, Outcome.READABLE, title=entry.title, encoding=entry.encoding))
            case folders.Uploadable():
                error = _refusal(entry, limit_bytes=settings.max_upload_bytes)
                tally.add(Result(entry.source, Outcome.FAILED if error else Outcome.READABLE, error=error))
            case _:
                tally.add(Result(entry.source, Outcome.READABLE))


def _refusal(entry: "Uploadable", *, limit_bytes: int) -> "AppError | None":
    """Why an upload of the file would not be taken, as its size, name and beginning tell."""
    from app.core.errors import AppError
    from app.services import folders, upload_checks
    from app.storage.spool import HEAD_BYTES

    try:
        with entry.path.open("rb") as file:
            head = file.read(HEAD_BYTES)
        upload_checks.check(
            head,
            size_bytes=entry.size_bytes,
            filename=entry.path.name,
            declared=None,
            limit_bytes=limit_bytes,
        )
    except OSError:
        return folders.FileNotReadable()
    except AppError as error:
        return error
    return None


async def _ingest(
    settings: "Settings", plan: Plan, found: "Found", tally: "Tally", destination: "Destination"
) -> None:
    from app.cli import batch
    from app.services import maintenance
    from app.worker import running

    async with terminal.open_service(settings, set_up=True) as service:
        service.runtime.require_matching_index()
        try:
            async with running(service.runtime, concurrency=plan.concurrency, drain_seconds=0):
                if plan.watch:
                    await _watch(service, plan, found, tally, destination)
                await _ingest_found(service, plan, found, plan.addresses, tally.add, tally, destination)
            with terminal.status("Bringing the index up to date …"):
                await maintenance.run_once(service.runtime)
        except asyncio.CancelledError:  # Ctrl-C: the summary of what is done follows
            tally.interrupted = not plan.watch
        except batch.IngestionStopped as stopped:
            tally.stopped_by = stopped.reason


async def _ingest_found(
    service: terminal.Service,
    plan: Plan,
    found: "Found",
    addresses: Sequence[str],
    report: Callable[["Result"], None],
    tally: "Tally",
    destination: "Destination",
) -> None:
    """Raises IngestionStopped, and what else `batch.ingest` raises."""
    from app.cli import batch
    from app.services import folders

    pages = (folders.WebPage(address) for address in addresses)
    limit = service.runtime.settings.ingest_max_text_bytes
    entries = chain(pages, folders.read(found.files, max_bytes=limit))
    total_bytes = sum(file.size_bytes for file in found.files)
    with _reporting(report, tally, total_bytes) as (told, show):
        await batch.ingest(
            service, entries, told, destination=destination, concurrency=plan.concurrency, show=show
        )


async def _watch(
    service: terminal.Service, plan: Plan, found: "Found", tally: "Tally", destination: "Destination"
) -> None:
    from app.cli.watching import Watch

    async def first(found: "Found", report: Callable[["Result"], None]) -> None:
        await _ingest_found(service, plan, found, plan.addresses, report, tally, destination)

    async def later(found: "Found", report: Callable[["Result"], None]) -> None:
        await _ingest_found(service, plan, found, (), report, tally, destination)

    watch = Watch(plan.folders, recursive=plan.recursive, tally=tally, ingest=later)
    await watch.run(found, first)


@contextmanager
def _reporting(
    report: Callable[["Result"], None], tally: "Tally", total_bytes: int
) -> Iterator[tuple[Callable[["Result"], None], "Show"]]:
    """Hand on each result, and show how far it all is."""
    from app.cli import progress

    started = time.monotonic()
    with progress.showing(total_bytes) as display:

        def told(result: "Result") -> None:
            report(result)
            tally.seconds = time.monotonic() - started
            display.advance(result.size_bytes)

        yield told, display.show
