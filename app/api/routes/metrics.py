"""Numbers for Prometheus."""

from itertools import groupby

from fastapi import APIRouter, Response
from fastapi.responses import PlainTextResponse

from app.api.deps import ManagePrincipal, RuntimeDep
from app.services import metrics
from app.services.metrics import Metric

router = APIRouter(tags=["operations"])

_CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"


@router.get(
    "/metrics",
    response_class=Response,
    responses={200: {"content": {"text/plain": {"schema": {"type": "string"}}}}},
)
async def read_metrics(runtime: RuntimeDep, principal: ManagePrincipal) -> PlainTextResponse:
    """What this process does just now, in the text format of Prometheus."""
    lines = []
    for name, values in groupby(metrics.collect(runtime), key=lambda metric: metric.name):
        of_name = list(values)
        lines += [f"# HELP {name} {of_name[0].help}", f"# TYPE {name} gauge"]
        lines += [f"{name}{_labels(metric)} {metric.value:g}" for metric in of_name]
    return PlainTextResponse("\n".join(lines) + "\n", headers={"Content-Type": _CONTENT_TYPE})


def _labels(metric: Metric) -> str:
    if not metric.labels:
        return ""
    return "{" + ",".join(f'{name}="{_escaped(value)}"' for name, value in metric.labels.items()) + "}"


def _escaped(value: str) -> str:
    return value.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
