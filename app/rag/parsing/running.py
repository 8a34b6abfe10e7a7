"""Inside the child: picks the parser, shuts the door behind it, and turns whatever happens into an answer."""

import importlib
import os
import sys
from pathlib import Path
from typing import Any, BinaryIO, Final

from app.rag.parsing import confinement
from app.rag.parsing.answer import Answer, Job
from app.rag.parsing.model import FailureCode, Kind, ParseFailed, ParseLimits

_PARSERS: Final = {
    Kind.TEXT: "plain",
    Kind.MARKDOWN: "plain",
    Kind.HTML: "html",
    Kind.PDF: "pdf",
    Kind.DOCX: "docx",
    Kind.PPTX: "pptx",
    Kind.XLSX: "xlsx",
    Kind.CSV: "delimited",
    Kind.TSV: "delimited",
    Kind.JSON: "json_records",
    Kind.JSONL: "json_records",
    Kind.EMAIL: "mail",
    **{kind: "ocr" for kind in Kind if kind.is_image},
}

_LIBRARIES: Final = (
    "/lib",
    "/lib64",
    "/usr/lib",
    "/usr/lib64",
    "/usr/local/lib",
    "/etc/ld.so.cache",
    "/dev/urandom",
)


def run(request: dict[str, Any], pipe: BinaryIO) -> int:
    """Parse the file of the request; 0 when the answer says how it ended, whichever way that was."""
    limits = ParseLimits(**request["limits"])
    answer = Answer(pipe, limits)
    job = Job(
        path=Path(request["path"]),
        filename=request["filename"],
        kind=Kind(request["kind"]),
        content_type=request["content_type"],
        limits=limits,
        engine=request["engine"],
    )
    try:
        if picture := request.get("picture"):
            _draw(job, answer, picture)
        else:
            _parse(job, answer)
    except ParseFailed as failure:
        answer.failed(failure)
    except MemoryError:
        answer.failed(ParseFailed(FailureCode.MEMORY_LIMIT))
    except FileNotFoundError:
        answer.failed(ParseFailed(FailureCode.FILE_MISSING, retryable=True))
    except Exception as error:
        answer.failed(ParseFailed(FailureCode.CORRUPT), cause=type(error).__name__)
    # Not the usual end: what libraries do in their last moments is no part of the answer.
    sys.stdout.flush()
    pipe.flush()
    os._exit(0)


def parse_with(job: Job, answer: Answer) -> None:
    """Hand the job to the parser of its format."""
    importlib.import_module(f"app.rag.parsing.{_PARSERS[job.kind]}").parse(job, answer)


def _draw(job: Job, answer: Answer, picture: dict[str, Any]) -> None:
    # Loaded for pictures alone: texts do without Pillow.
    from app.rag.parsing import page_image

    _enclose(job, program=None)
    answer.picture(page_image.draw(job, picture))


def _parse(job: Job, answer: Answer) -> None:
    importlib.import_module(f"app.rag.parsing.{_PARSERS[job.kind]}")
    _enclose(job, program=job.limits.tesseract if job.kind.is_image or job.kind is Kind.PDF else None)
    parse_with(job, answer)
    answer.done()


def _enclose(job: Job, *, program: str | None) -> None:
    code, root = str(Path(__file__).parents[2]), Path(sys.path[0])
    # Beside the code of a checkout lie its settings and data; beside that of an installed wheel the other packages.
    beside = [str(root)] if root.name in ("site-packages", "dist-packages") else []
    readable = [code, *beside, *sys.path[1:], str(Path(os.__file__).parent), *_LIBRARIES, str(job.path)]
    confinement.enclose(readable, program=program)
