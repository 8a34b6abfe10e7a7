"""`ibid eval`: how well the search finds what a question set says is right, and what another setting would change."""

import json
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.status import Status
from rich.table import Table

from app.cli import terminal

if TYPE_CHECKING:  # they take seconds, which `ibid --help` need not wait for
    from app.core.config import Settings
    from app.services.evaluation_results import Result
    from app.services.question_sets import QuestionSet

_THIS = "as configured"


def evaluate(
    dataset: Annotated[
        Path,
        typer.Argument(
            help="Folder with corpus.jsonl, queries.jsonl, qrels.tsv (BEIR), and unanswerable.jsonl if there is one."
        ),
    ],
    against: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME=VALUE", help="A setting of a second configuration to compare; repeatable."
        ),
    ] = None,
    calibrate: Annotated[
        bool, typer.Option("--calibrate", help="Print the MIN_RELEVANCE that refuses 5 % of the answerable.")
    ] = False,
    questions: Annotated[
        int | None, typer.Option(metavar="N", min=1, help="Ask only so many questions of each kind.")
    ] = None,
    answers: Annotated[
        bool,
        typer.Option(
            "--answers", help="Have the questions answered too, and measure the answers and their citations."
        ),
    ] = False,
    html: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Write a report with plots there.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print everything as JSON instead.")] = False,
) -> None:
    """Ingest a question set into an organization of its own, ask everything, measure, and delete it again."""
    settings = terminal.start(log_level="error")
    from app.services import evaluation_report, question_sets

    asked = question_sets.load(dataset, most_questions=questions)
    configurations = [(_THIS, settings)]
    if against:
        configurations.append((", ".join(against), _changed(settings, against)))
    results = [
        (name, terminal.run(partial(_evaluate, chosen, asked, with_answers=answers)))
        for name, chosen in configurations
    ]
    if html is not None:
        _write(html, evaluation_report.html(results))
    if as_json:
        terminal.print_json(_object(results))
        return
    terminal.results().print(_table(results))
    for line in _remarks(results, calibrate=calibrate):
        terminal.results().print(line)


def _changed(settings: "Settings", changes: list[str]) -> "Settings":
    """The settings with some replaced by what the command line says. Raises CommandFailed."""
    from pydantic import ValidationError

    given: dict[str, Any] = {}
    for change in changes:
        name, separator, value = change.partition("=")
        name = name.strip().lower()
        if not separator or name not in type(settings).model_fields:
            raise terminal.CommandFailed(
                f"{change!r} is not NAME=VALUE of a setting.", "For example: --against CHUNK_SIZE_TOKENS=120"
            )
        given[name] = value
    try:
        checked = type(settings).model_validate(
            {name: value for name, value in settings.model_dump(by_alias=True).items() if name not in given}
            | given
        )
    except ValidationError as error:
        problem = error.errors()[0]
        raise terminal.CommandFailed(
            f"{'.'.join(map(str, problem['loc'])).upper()}: {problem['msg']}.",
            "Give a value that is allowed.",
        ) from None
    return checked


async def _evaluate(settings: "Settings", asked: "QuestionSet", *, with_answers: bool) -> "Result":
    async with terminal.open_service(settings, set_up=True) as service:
        from app.services import evaluation

        with terminal.status(f"Evaluating on {asked.name} …") as status:

            def show(what: str, done: int, of: int) -> None:
                if isinstance(status, Status):
                    status.update(f"Evaluating on {asked.name}: {what} {done:,} of {of:,} …")

            return await evaluation.evaluate(service.runtime, asked, progress=show, with_answers=with_answers)


def _write(path: Path, report: str) -> None:
    try:
        path.write_text(report, encoding="utf-8")
    except OSError as error:
        raise terminal.CommandFailed(
            f"{path} can't be written ({error.strerror}).", "Name a file in a folder that is there."
        ) from error


def _object(results: "list[tuple[str, Result]]") -> dict[str, Any]:
    from app.services import evaluation_report

    found: dict[str, Any] = {
        "configurations": [{"name": name, **result.as_json()} for name, result in results]
    }
    if len(results) > 1:
        found["comparison"] = evaluation_report.compared(results[0][1], results[1][1])
    return json.loads(json.dumps(found))  # type: ignore[no-any-return]  # enums as their values


def _table(results: "list[tuple[str, Result]]") -> Table:
    table = Table(title=f"{results[0][1].dataset}: {len(results[0][1].answerable):,} questions")
    for column in (
        "configuration",
        "leg",
        "nDCG@10",
        "recall@10",
        "recall@100",
        "MRR@10",
        "p50 ms",
        "p95 ms",
    ):
        table.add_column(column, justify="left" if column in ("configuration", "leg") else "right")
    for name, result in results:
        for leg, found in result.legs.items():
            measured = found.summary()
            table.add_row(
                terminal.one_line(name, limit=40),
                leg.value,
                *(f"{measured[key]:.4f}" for key in ("ndcg@10", "recall@10", "recall@100", "mrr@10")),
                *(f"{measured[key]:.1f}" for key in ("latency_p50_ms", "latency_p95_ms")),
            )
    return table


def _remarks(results: "list[tuple[str, Result]]", *, calibrate: bool) -> list[str]:
    from app.services import evaluation_report

    lines = []
    for name, result in results:
        refused = "" if result.refused is None else f", of the unanswerable {result.refused:.1%}"
        lines.append(
            f"{name}: with MIN_RELEVANCE {result.needed:.3f}, {result.false_refusals:.1%} of the answerable questions"
            f" are refused{refused}."
        )
        if calibrate:
            needed, learnt = result.calibrated()
            effect = "" if learnt is None else f" refuses {learnt:.1%} of the unanswerable and"
            lines.append(
                f"MIN_RELEVANCE={needed:.3f}{effect} refuses at most 5 % of the answerable questions."
            )
        if result.answers is not None:
            lines.append(f"{name}: answers: {_told(result.answers.as_json())}.")
    if len(results) > 1:
        for leg, values in evaluation_report.compared(results[0][1], results[1][1]).items():
            lines.append(f"{leg}: nDCG@10 {values['difference']:+.4f}, p = {values['p']:.4f}")
    return lines


def _told(measured: dict[str, Any]) -> str:
    """The measures of answers that there are, as words."""
    parts = []
    for key, value in measured.items():
        if value is not None and key != "answers":
            shown = f"{value:.2f} s" if key == "seconds" else f"{value:.1%}"
            parts.append(f"{key.replace('_', ' ')} {shown}")
    return ", ".join(parts)
