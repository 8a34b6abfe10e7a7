"""The report of an evaluation as one HTML file: tables and plots as inline SVG, nothing loaded from anywhere."""

from collections.abc import Sequence
from html import escape
from typing import Final

from app.core import measures
from app.services.evaluation_results import Leg, Result

_WIDTH: Final = 640
_BAR_HEIGHT: Final = 22
_PLOT_HEIGHT: Final = 160
_BINS: Final = 20
_COLOURS: Final = ("#2f6f4f", "#c0562b")
_MEASURES: Final = ("ndcg@10", "recall@10", "recall@100", "mrr@10")
_STYLE: Final = """
body{font:15px/1.5 system-ui,sans-serif;max-width:46rem;margin:2rem auto;padding:0 1rem;color:#1c1c1c;background:#fff}
table{border-collapse:collapse;width:100%;margin:.5rem 0 1.5rem}th,td{padding:.25rem .6rem;text-align:right;border-bottom:1px solid #ddd}
th:first-child,td:first-child{text-align:left}svg{width:100%;height:auto}text{font:12px system-ui,sans-serif;fill:currentColor}
@media(prefers-color-scheme:dark){body{background:#161616;color:#e8e8e8}th,td{border-color:#444}}
"""


def html(results: Sequence[tuple[str, Result]]) -> str:
    """One configuration, or two that are compared; each with the name it was given."""
    title = f"Search on {results[0][1].dataset}"
    parts = [
        f"<h1>{escape(title)}</h1>",
        _facts(results),
        "<h2>Measures</h2>",
        _table(results),
        _bars(results),
    ]
    if len(results) > 1:
        parts += ["<h2>Difference</h2>", _comparison(results), _differences(results)]
    for name, result in results:
        parts += [f"<h2>Refusals{_suffix(results, name)}</h2>", _refusals(result), _relevances(result)]
    if any(result.answers for _, result in results):
        parts += ["<h2>Answers</h2>", _answers(results)]
    body = "\n".join(parts)
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width,initial-scale=1">'
        f"<title>{escape(title)}</title><style>{_STYLE}</style></head><body>\n{body}\n</body></html>\n"
    )


def compared(first: Result, second: Result) -> dict[str, dict[str, float]]:
    """For each leg the difference in nDCG@10 and its p value; the results must be of the same questions."""
    return {
        leg.value: {
            "difference": _mean(second.legs[leg].ndcg) - _mean(first.legs[leg].ndcg),
            "p": measures.p_value(first.legs[leg].ndcg, second.legs[leg].ndcg),
        }
        for leg in Leg
    }


def _suffix(results: Sequence[tuple[str, Result]], name: str) -> str:
    return f": {escape(name)}" if len(results) > 1 else ""


def _facts(results: Sequence[tuple[str, Result]]) -> str:
    rows = []
    for name, result in results:
        settings = ", ".join(f"{key} {value}" for key, value in result.settings.items())
        rows.append(
            f"<p><b>{escape(name)}</b>: {result.passages} passages in {result.chunks} chunks, ingested in"
            f" {result.ingest_seconds:.0f} s; {len(result.answerable)} answerable and {len(result.unanswerable)}"
            f" unanswerable questions. {escape(settings)}.</p>"
        )
    return "\n".join(rows)


def _table(results: Sequence[tuple[str, Result]]) -> str:
    columns = (*_MEASURES, "latency_p50_ms", "latency_p95_ms")
    head = "".join(f"<th>{escape(column.replace('_', ' '))}</th>" for column in columns)
    rows = []
    for name, result in results:
        for leg, found in result.legs.items():
            summary = found.summary()
            cells = "".join(
                f"<td>{summary[column]:.{1 if column.endswith('ms') else 4}f}</td>" for column in columns
            )
            rows.append(f"<tr><td>{escape(name)} {leg.value}</td>{cells}</tr>")
    return f"<table><tr><th></th>{head}</tr>{''.join(rows)}</table>"


def _answers(results: Sequence[tuple[str, Result]]) -> str:
    """The measures of the answers, a column each configuration."""
    measured = [(name, result.answers.as_json()) for name, result in results if result.answers]
    head = "".join(f"<th>{escape(name)}</th>" for name, _ in measured)
    rows = []
    for key in measured[0][1]:
        values = (found[key] for _, found in measured)
        cells = "".join(f"<td>{'–' if value is None else f'{value:.4g}'}</td>" for value in values)
        rows.append(f"<tr><td>{escape(key.replace('_', ' '))}</td>{cells}</tr>")
    return f"<table><tr><th></th>{head}</tr>{''.join(rows)}</table>"


def _bars(results: Sequence[tuple[str, Result]]) -> str:
    shapes, y = [], 0
    for leg in Leg:
        for number, (name, result) in enumerate(results):
            value = _mean(result.legs[leg].ndcg)
            shapes.append(
                f'<rect x="150" y="{y}" width="{value * (_WIDTH - 220):.1f}" height="{_BAR_HEIGHT - 6}"'
                f' fill="{_COLOURS[number % 2]}"/>'
                f'<text x="144" y="{y + 12}" text-anchor="end">{escape(name[:14])} {leg.value}</text>'
                f'<text x="{156 + value * (_WIDTH - 220):.1f}" y="{y + 12}">{value:.4f}</text>'
            )
            y += _BAR_HEIGHT
    return _svg(y, "nDCG@10 of each leg", "".join(shapes))


def _comparison(results: Sequence[tuple[str, Result]]) -> str:
    rows = "".join(
        f"<tr><td>{leg}</td><td>{values['difference']:+.4f}</td><td>{values['p']:.4f}</td></tr>"
        for leg, values in compared(results[0][1], results[1][1]).items()
    )
    return (
        f"<p>{escape(results[1][0])} against {escape(results[0][0])}, nDCG@10, paired randomization test.</p>"
        f"<table><tr><th></th><th>difference</th><th>p</th></tr>{rows}</table>"
    )


def _differences(results: Sequence[tuple[str, Result]]) -> str:
    """Each question as a bar, from the largest loss to the largest gain."""
    first, second = (result.legs[Leg.FUSED].ndcg for _, result in results[:2])
    values = sorted(b - a for a, b in zip(first, second, strict=True))
    step, middle = _WIDTH / max(len(values), 1), _PLOT_HEIGHT / 2
    shapes = "".join(
        f'<rect x="{place * step:.2f}" y="{middle - max(value, 0) * middle:.1f}" width="{max(step, 0.5):.2f}"'
        f' height="{abs(value) * middle:.1f}" fill="{_COLOURS[value < 0]}"/>'
        for place, value in enumerate(values)
        if value
    )
    line = f'<line x1="0" x2="{_WIDTH}" y1="{middle}" y2="{middle}" stroke="currentColor"/>'
    return _svg(_PLOT_HEIGHT, "Difference in nDCG@10, question by question", shapes + line)


def _refusals(result: Result) -> str:
    needed, refused = result.calibrated()
    unanswerable = "" if result.refused is None else f", {result.refused:.1%} of the unanswerable are"
    learnt = "" if refused is None else f", which refuses {refused:.1%} of the unanswerable"
    return (
        f"<p>With MIN_RELEVANCE {result.needed:.3f}, {result.false_refusals:.1%} of the answerable questions are"
        f" refused{unanswerable}. At most 5 % would be with {needed:.3f}{learnt}.</p>"
    )


def _relevances(result: Result) -> str:
    """How the relevance of the best passage is spread, answerable above the line and unanswerable below it."""
    middle = _PLOT_HEIGHT / 2
    shapes = []
    for number, values in enumerate((result.answerable, result.unanswerable)):
        counts = [0] * _BINS
        for value in values:
            counts[min(int(value * _BINS), _BINS - 1)] += 1
        for place, count in enumerate(counts):
            height = middle * count / max(*counts, 1)
            top = middle - height if number == 0 else middle
            shapes.append(
                f'<rect x="{place * _WIDTH / _BINS:.1f}" y="{top:.1f}" width="{_WIDTH / _BINS - 1:.1f}"'
                f' height="{height:.1f}" fill="{_COLOURS[number]}"/>'
            )
    at = result.needed * _WIDTH
    shapes.append(f'<line x1="{at:.1f}" x2="{at:.1f}" y1="0" y2="{_PLOT_HEIGHT}" stroke="currentColor"/>')
    return _svg(
        _PLOT_HEIGHT,
        "Relevance of the best passage, 0 to 1: answerable above, unanswerable below",
        "".join(shapes),
    )


def _svg(height: float, title: str, shapes: str) -> str:
    return (
        f'<figure><svg role="img" viewBox="0 0 {_WIDTH} {height:.0f}"><title>{escape(title)}</title>{shapes}</svg>'
        f"<figcaption>{escape(title)}</figcaption></figure>"
    )


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values) if values else 0.0
