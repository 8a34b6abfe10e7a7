"""The child: reads one request from stdin, gives up its rights, parses one file, answers on stdout.

Started as `python -I -S -B child.py` with an empty environment. The answer is lines of JSON: pages as they come, then `done`
or `failed`.
"""

import json
import os
import sys
from typing import BinaryIO


def main() -> None:
    request = json.loads(sys.stdin.buffer.readline())
    sys.path[:] = [path for path in request["import_paths"] if path]
    answer = _private_stdout()

    from app.rag.parsing import confinement

    confinement.come_last()
    confinement.limit_resources(
        memory_bytes=request["limits"]["memory_bytes"],
        cpu_seconds=request["cpu_seconds"],
        most_cpu_seconds=request["most_cpu_seconds"],
    )

    from app.rag.parsing.running import run

    sys.exit(run(request, answer))


def _private_stdout() -> BinaryIO:
    """The pipe for the answer, out of the reach of libraries that print."""
    pipe = os.dup(1)
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 1)
    os.dup2(nowhere, 2)
    os.close(nowhere)
    return os.fdopen(pipe, "wb", buffering=1 << 16)


if __name__ == "__main__":
    main()
