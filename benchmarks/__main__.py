"""`python -m benchmarks [NAME…] [--quick] [--json FILE]`: run the benchmarks and print figures against their goals."""

import argparse
import importlib
import json
import os
import platform
import signal
import sys
import time
from pathlib import Path
from typing import Any, Final

from rich.console import Console

from benchmarks.report import Failed, Report, Skipped, show

_NAMES: Final = (
    "startup",
    "chat",
    "stream",
    "retrieval",
    "streams",
    "ingest",
    "parsing",
    "embeddings",
    "documents",
    "logins",
    "guardrails",
    "answers",
)
_ONLY_WHEN_NAMED: Final = ("scale",)
_HELP: Final = f"of {', '.join(_NAMES)} (default: all), or {', '.join(_ONLY_WHEN_NAMED)}"
_WIDTH_OF_A_FILE: Final = 130


def main() -> int:
    """0 when all that could run has run (whether or not it reached its goals), 1 when one failed."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("names", nargs="*", metavar="NAME", help=_HELP)
    parser.add_argument("--quick", action="store_true", help="small numbers, for a first impression")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the reports there too")
    arguments = parser.parse_args()
    if unknown := set(arguments.names) - {*_NAMES, *_ONLY_WHEN_NAMED}:
        parser.error(f"no such benchmark: {', '.join(sorted(unknown))}")
    signal.signal(signal.SIGTERM, _interrupt)
    console = Console(width=None if sys.stdout.isatty() else _WIDTH_OF_A_FILE)
    found: list[Report] = []
    skipped: dict[str, str] = {}
    failed: dict[str, str] = {}
    for name in arguments.names or _NAMES:
        console.rule(name)
        started = time.monotonic()
        try:
            report = importlib.import_module(f"benchmarks.{name}").run(quick=arguments.quick)
        except Skipped as reason:
            skipped[name] = str(reason)
            console.print(f"skipped: {reason}")
        except Failed as reason:
            failed[name] = str(reason)
            console.print(f"[red]failed:[/red] {reason}")
        else:
            found.append(report)
            show(report, console)
            console.print(f"  {time.monotonic() - started:.0f} s", style="dim")
    if arguments.json:
        reports = [report.as_json() for report in found]
        whole = {
            "machine": _machine(),
            "quick": arguments.quick,
            "reports": reports,
            "skipped": skipped,
            "failed": failed,
        }
        arguments.json.write_text(json.dumps(whole, indent=2) + "\n")
    return 1 if failed else 0


def _machine() -> dict[str, Any]:
    return {
        "cpus": os.cpu_count(),
        "load": os.getloadavg(),
        "platform": platform.platform(),
        "python": platform.python_version(),
        "time": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
    }


def _interrupt(*_: object) -> None:
    raise KeyboardInterrupt


if __name__ == "__main__":
    try:
        sys.exit(main())
    except KeyboardInterrupt:
        sys.exit(130)
