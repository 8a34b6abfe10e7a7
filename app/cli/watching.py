"""`ibid ingest --watch`: what is added or changed, until Ctrl-C. Nothing else ends it: a folder may go away and come back,
and so may the provider of the embeddings.

No document is deleted: a file that is gone may have been moved, and its text be another file's.
"""

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Final

from app.cli import terminal
from app.cli.batch import SURROUNDINGS, IngestionStopped
from app.cli.tally import Outcome, Result, Tally
from app.services import folders
from app.services.folders import Found, FoundFile

_LOOK_SECONDS: Final = 2.0
_FIRST_PAUSE_SECONDS: Final = 4.0
_LONGEST_PAUSE_SECONDS: Final = 60.0
_MOST_LINES: Final = 20

Ingest = Callable[[Found, Callable[[Result], None]], Awaitable[None]]
"""Has the files ingested and hears what became of each document. Raises IngestionStopped."""


class Watch:
    """Folders and files that are looked at again and again."""

    def __init__(self, paths: Sequence[Path], *, recursive: bool, tally: Tally, ingest: Ingest) -> None:
        self._paths = paths
        self._recursive = recursive
        self._tally = tally
        self._ingest = ingest
        self._done: dict[Path, FoundFile] = {}
        self._before: dict[Path, FoundFile] = {}
        self._unreadable: set[str] = set()
        self._postponed: dict[str, Result] = {}
        """What failed through no fault of its own, by its source: it is tried again."""
        self._pause_seconds = _LOOK_SECONDS

    async def run(self, found: Found, ingest_first: Ingest) -> None:
        """Ingest what was found, then what is added or changed, once it has stayed the same between two looks."""
        self._before = {file.path: file for file in found.files}
        self._unreadable = {each.source for each in found.unreadable}
        try:
            await self._ingest_files(found, ingest_first, is_first=True)
            _say("Watching for changes. Ctrl-C ends it.")
            while True:
                await asyncio.sleep(self._pause_seconds)
                await self._look()
        finally:
            for result in self._postponed.values():
                self._tally.add(result)

    async def _look(self) -> None:
        now = await asyncio.to_thread(
            folders.find, self._paths, recursive=self._recursive, strict=False, known=self._before
        )
        self._tell_unreadable(now)
        seen = {file.path: file for file in now.files}
        self._tell_gone(seen)
        changed = [
            file
            for file in now.files
            if file != self._done.get(file.path) and file == self._before.get(file.path)
        ]
        self._before = seen
        if changed:
            await self._ingest_files(Found(changed), self._ingest)

    async def _ingest_files(self, found: Found, ingest: Ingest, *, is_first: bool = False) -> None:
        told: set[str] = set()
        failed: set[str] = set()
        stopped: IngestionStopped | None = None

        def report(result: Result) -> None:
            source = result.source
            told.add(source)
            self._postponed.pop(source, None)
            is_away = result.error is not None and result.error.category in SURROUNDINGS
            if is_away and any(_is_told(file, (source,)) for file in found.files):  # and no address
                self._postponed[source] = result
                return
            self._tally.add(result)
            if result.error is not None:
                failed.add(source)
                _say(f"failed {source}: {terminal.sentence(result.error)}")

        try:
            await ingest(found, report)
        except IngestionStopped as error:
            stopped = error
        for file in found.files:
            if not self._is_postponed(file) and (stopped is None or _is_told(file, told)):
                self._done[file.path] = file
                if not is_first and file.source not in failed:
                    _say(f"changed {file.source}")
        self._plan(stopped)

    def _is_postponed(self, file: FoundFile) -> bool:
        return _is_told(file, self._postponed)

    def _plan(self, stopped: IngestionStopped | None) -> None:
        """When to look again: later and later, while what failed fails again."""
        if not self._postponed and stopped is None:
            self._pause_seconds = _LOOK_SECONDS
            return
        longer = max(_FIRST_PAUSE_SECONDS, 2 * self._pause_seconds)
        self._pause_seconds = min(longer, _LONGEST_PAUSE_SECONDS)
        errors = [result.error for result in self._postponed.values() if result.error is not None]
        reason = stopped.reason if stopped is not None else errors[0]
        _say(f"postponed, trying again in {self._pause_seconds:.0f} seconds: {terminal.sentence(reason)}")

    def _tell_unreadable(self, now: Found) -> None:
        """Once for each; where one of the paths named is away, that may pass, and nothing has failed."""
        named = {folders.shown(path.name or str(path)) for path in self._paths}
        for each in now.unreadable:
            if each.source in self._unreadable:
                continue
            if each.source in named:
                _say(f"waiting for {each.source}: {terminal.sentence(each.error)}")
            else:
                _say(f"failed {each.source}: {terminal.sentence(each.error)}")
                self._tally.add(Result(each.source, Outcome.FAILED, error=each.error))
        self._unreadable = {each.source for each in now.unreadable}

    def _tell_gone(self, seen: Mapping[Path, FoundFile]) -> None:
        roots = [path for path in self._paths if _is_there(path)]
        gone = [
            file
            for path, file in self._done.items()
            if path not in seen and any(root in path.parents for root in roots) and not _is_there(path)
        ]
        for file in gone:
            del self._done[file.path]
        lines = [
            f"gone {file.source}: what was ingested of it stays until its document is deleted"
            for file in gone
        ]
        for line in lines[:_MOST_LINES]:
            _say(line)
        if len(lines) > _MOST_LINES:
            _say(f"… and {len(lines) - _MOST_LINES:,} more are gone")


def _is_told(file: FoundFile, sources: Iterable[str]) -> bool:
    """Whether any document of the file is among these; a corpus has many."""
    return any(source == file.source or source.startswith(f"{file.source}#") for source in sources)


def _is_there(path: Path) -> bool:
    """Whether it is, as far as one may see: what can't be looked at is not gone."""
    try:
        path.lstat()
    except (FileNotFoundError, NotADirectoryError):
        return False
    except OSError:
        return True
    return True


def _say(line: str) -> None:
    terminal.notes().print(terminal.printable(line))
