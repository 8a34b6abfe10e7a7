"""Where texts are cut and analysed: in processes of their own while there is much to do, else in a thread.

Python runs one thread at a time, so what is done in another process is time for requests, and all cores are used. One is
started when a text is long or another is being analysed already, more when a text had to wait for it, and they end when they
have long had nothing to do. A process has the words of a language to learn, so two of them cost more than one that is not busy.
None is ever needed: where one has died or can't be started, and for a short text that would have to wait, a thread does it.
"""

import asyncio
import contextlib
import json
import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

from app.rag import analysis, analyst, languages
from app.rag.analysis import Cut, Task

_LONG_CHARACTERS: Final = 100_000
_SHORT_WAIT_SECONDS, _LONG_WAIT_SECONDS = 0.02, 5.0
"""For how long a text waits for a process before a thread has it after all; a long one also for the first to start."""
_PATIENCE_SECONDS: Final = 0.5
"""After so long another process is started: what it costs to start, and then to learn."""
_START_SECONDS: Final = 60.0
_SECONDS_A_TASK: Final = 60.0
_SECONDS_A_MEGABYTE: Final = 60.0
"""A hundred times what it takes, for there may be no CPU to be had."""
_IDLE_SECONDS: Final = 120.0
_PAUSE_SECONDS: Final = 10.0
"""Until processes are started again after one could not be."""
_LIMIT_BYTES: Final = 1 << 20
_BOOT: Final = (
    "import sys, json; sys.path[:0] = json.loads(sys.argv[1]); from app.rag.analyst import main; main()"
)


class _Lost(Exception):
    """A process is not there any more, or not to be relied on."""


class Analysts:
    """Up to `most` processes, each with one text at a time."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._all: set[_Process] = set()
        self._free: asyncio.LifoQueue[_Process | None] = asyncio.LifoQueue()
        """None is for somebody who waits in vain."""
        self._waiting = 0
        self._starting: asyncio.Task[None] | None = None
        self._not_before = 0.0
        self._under_way = 0
        self._tasks: set[asyncio.Task[Cut]] = set()

    @property
    def pids(self) -> list[int]:
        return [process.pid for process in self._all]

    async def cut(self, task: Task) -> Cut:
        """What `analysis.cut` finds. Whoever is cancelled here leaves a process to finish what it has begun."""
        is_long = task.characters >= _LONG_CHARACTERS
        self._under_way += 1
        try:
            process = await (self._take_for_long() if is_long else self._take_for_short())
            if process is not None:
                with contextlib.suppress(_Lost):
                    return await self._cut_by(process, task)
            return await asyncio.to_thread(analysis.cut, task)
        finally:
            self._under_way -= 1

    async def aclose(self) -> None:
        """End all processes."""
        self._most = 0
        if self._starting is not None:
            self._starting.cancel()
            await asyncio.gather(self._starting, return_exceptions=True)
        for process in list(self._all):
            await self._end(process)

    def _start_one_more(self) -> None:
        """Unless all are there, or none is wanted, or one is starting already."""
        now = asyncio.get_running_loop().time()
        if len(self._all) < self._most and self._starting is None and now >= self._not_before:
            self._starting = asyncio.create_task(self._start(), name="start an analyst")

    async def _start(self) -> None:
        try:
            process = await _Process.start()
        except (_Lost, OSError):
            self._not_before = asyncio.get_running_loop().time() + _PAUSE_SECONDS
            for _ in range(0 if self._all else self._waiting):
                self._free.put_nowait(None)
        else:
            self._all.add(process)
            self._give_back(process)
        finally:
            self._starting = None

    async def _take_for_long(self) -> "_Process | None":
        """As `_take`; where there is none yet, the one that starts."""
        if not self._all:
            self._start_one_more()
            return await self._take(_LONG_WAIT_SECONDS) if self._starting else None
        process = await self._take(_PATIENCE_SECONDS)
        if process is None:
            self._start_one_more()
            process = await self._take(_LONG_WAIT_SECONDS - _PATIENCE_SECONDS)
        return process

    async def _take_for_short(self) -> "_Process | None":
        """As `_take`, which is not worth while for the only one there is to analyse."""
        process = await self._take(_SHORT_WAIT_SECONDS) if self._all else None
        if process is None and self._under_way > 1:
            self._start_one_more()
        return process

    async def _take(self, wait_seconds: float) -> "_Process | None":
        """A free process; None where there is none in time."""
        self._waiting += 1
        try:
            if self._free.empty():
                async with asyncio.timeout(wait_seconds):
                    process = await self._free.get()
            else:
                process = self._free.get_nowait()
        except TimeoutError:
            return None
        finally:
            self._waiting -= 1
        if process is not None:
            process.keep()
        return process

    async def _cut_by(self, process: "_Process", task: Task) -> Cut:
        work = asyncio.create_task(self._work(process, task), name="analysis")
        self._tasks.add(work)
        work.add_done_callback(self._forget)
        return await asyncio.shield(work)

    def _forget(self, work: asyncio.Task[Cut]) -> None:
        self._tasks.discard(work)
        if not work.cancelled():
            work.exception()  # whoever asked may not be there any more to hear of it

    async def _work(self, process: "_Process", task: Task) -> Cut:
        try:
            found = await process.cut(task)
        except BaseException:
            await self._end(process)
            raise
        self._give_back(process)
        return found

    def _give_back(self, process: "_Process") -> None:
        self._free.put_nowait(process)
        process.end_after(_IDLE_SECONDS, self._end_idle)

    def _end_idle(self, process: "_Process") -> None:
        free = [self._free.get_nowait() for _ in range(self._free.qsize())]
        for other in free:
            if other is not process and other is not None:
                self._free.put_nowait(other)
        if process in free:
            self._all.discard(process)
            process.kill()

    async def _end(self, process: "_Process") -> None:
        self._all.discard(process)
        process.kill()
        await process.gone()


class _Process:
    def __init__(self, child: asyncio.subprocess.Process) -> None:
        assert child.stdin is not None
        assert child.stdout is not None
        self._child, self._stdin, self._stdout = child, child.stdin, child.stdout
        self._timer: asyncio.TimerHandle | None = None

    @classmethod
    async def start(cls) -> "_Process":
        """One that is ready for work. Raises _Lost or OSError, such as TimeoutError."""
        root = Path(__file__).parents[2]
        paths = [str(root), *(path for path in sys.path if Path(path).is_absolute() and path != str(root))]
        tables = languages.loaded_tables()  # to unpack them anew would take most of a child's start
        process = cls(
            await asyncio.create_subprocess_exec(
                sys.executable,
                *("-I", "-S", "-X", "utf8", "-c", _BOOT, json.dumps(paths)),
                json.dumps(tables and tables.as_json()),
                pass_fds=() if tables is None else (tables.file,),
                stdin=asyncio.subprocess.PIPE,
                stdout=asyncio.subprocess.PIPE,
                stderr=asyncio.subprocess.DEVNULL,
                env=_environment(),
                limit=_LIMIT_BYTES,
                start_new_session=True,  # a Ctrl-C is for the parent, which then ends its children in order
            )
        )
        try:
            async with asyncio.timeout(_START_SECONDS):
                ready = await process._stdout.readline() == analyst.READY
        except BaseException:
            process.kill()
            raise
        if not ready:
            process.kill()
            await process.gone()
            raise _Lost
        return process

    @property
    def pid(self) -> int:
        return self._child.pid

    async def cut(self, task: Task) -> Cut:
        """Raises _Lost."""
        seconds = _SECONDS_A_TASK + _SECONDS_A_MEGABYTE * task.characters / 1e6
        is_long = task.characters >= _LONG_CHARACTERS
        try:
            async with asyncio.timeout(seconds):
                # What there is much of is put together and taken apart in a thread.
                self._stdin.write(
                    await asyncio.to_thread(analyst.as_frame, task) if is_long else analyst.as_frame(task)
                )
                await self._stdin.drain()
                head: dict[str, Any] = json.loads(await self._stdout.readline())
                body = await self._stdout.readexactly(int(head["size_bytes"]))
            if is_long:
                return await asyncio.to_thread(analyst.read_answer, task, head, body)
            return analyst.read_answer(task, head, body)
        except (OSError, EOFError, ValueError, KeyError, TypeError, analyst.BrokenAnswer) as error:
            raise _Lost from error  # a TimeoutError is an OSError

    def end_after(self, seconds: float, end: "Callable[[_Process], None]") -> None:
        self._timer = asyncio.get_running_loop().call_later(seconds, end, self)

    def keep(self) -> None:
        if self._timer is not None:
            self._timer.cancel()

    def kill(self) -> None:
        self.keep()
        with contextlib.suppress(ProcessLookupError):
            self._child.send_signal(signal.SIGKILL)

    async def gone(self) -> None:
        with contextlib.suppress(ProcessLookupError):
            await self._child.wait()


def _environment() -> dict[str, str]:
    """Nothing of the service's: its settings are secrets."""
    return {
        "PATH": "/usr/local/bin:/usr/bin:/bin",
        "LC_ALL": "C.UTF-8",
        "OMP_NUM_THREADS": "1",
        "OPENBLAS_NUM_THREADS": "1",
        **({"TMPDIR": os.environ["TMPDIR"]} if "TMPDIR" in os.environ else {}),
    }
