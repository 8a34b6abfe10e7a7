"""A page of a PDF as a picture, with boxes marked as a highlighter would. Runs in the child, like every parser."""

import base64
import io
from collections.abc import Sequence
from contextlib import closing
from typing import Any, Final

import pypdfium2 as pdfium
from PIL import Image, ImageChops, ImageDraw, WebPImagePlugin
from pypdfium2 import raw

from app.rag.parsing.answer import Job
from app.rag.parsing.model import FailureCode, ParseFailed

_MOST_PIXELS: Final = 6_000_000
_MOST_HEIGHT: Final = 8_000
_LEAST_POINTS: Final = 1.0
_MARKER: Final = (255, 235, 59)
_MARGIN: Final = 1.5
"""In points, around the letters."""
_QUALITY: Final = 80
_EFFORT: Final = 3
# Pillow looks for its formats when it writes the first picture; by then the child can't open files.
_FORMATS: Final = WebPImagePlugin


def draw(job: Job, request: dict[str, Any]) -> str:
    """The page `request["number"]` (from 1), `request["width"]` pixels wide, as WebP in Base64.

    `request["boxes"]` are left, top, right, bottom in points from the top left. Raises ParseFailed.
    """
    try:
        document = pdfium.PdfDocument(job.path)
    except pdfium.PdfiumError as error:
        is_locked = error.err_code == raw.FPDF_ERR_PASSWORD
        raise ParseFailed(FailureCode.ENCRYPTED if is_locked else FailureCode.CORRUPT) from None
    with closing(document):
        try:
            page = document[int(request["number"]) - 1]
        except (pdfium.PdfiumError, IndexError):
            raise ParseFailed(FailureCode.CORRUPT) from None
        with closing(page):
            picture, scale = _rendered(page, int(request["width"]))
    _mark(picture, request["boxes"], scale)
    packed = io.BytesIO()
    picture.save(packed, "WEBP", quality=_QUALITY, method=_EFFORT)
    return base64.b64encode(packed.getvalue()).decode()


def _rendered(page: Any, width: int) -> tuple[Image.Image, float]:
    """The page as a picture within the limits, and how many pixels a point of it has."""
    wide, high = (max(side, _LEAST_POINTS) for side in page.get_size())
    scale = min(width / wide, _MOST_HEIGHT / high, (_MOST_PIXELS / (wide * high)) ** 0.5)
    with closing(page.render(scale=scale, may_draw_forms=False)) as bitmap:
        picture: Image.Image = bitmap.to_pil().convert("RGB")
    return picture, scale


def _mark(picture: Image.Image, boxes: Sequence[Sequence[float]], scale: float) -> None:
    """Colour what is behind the letters: darker colours stay what they are."""
    for left, top, right, bottom in boxes:
        sides = (left - _MARGIN, top - _MARGIN, right + _MARGIN, bottom + _MARGIN)
        x0, y0, x1, y1 = (round(side * scale) for side in sides)
        box = (max(x0, 0), max(y0, 0), min(x1, picture.width), min(y1, picture.height))
        if box[0] >= box[2] or box[1] >= box[3]:
            continue
        part = picture.crop(box)
        colour = Image.new("RGB", part.size)
        ImageDraw.Draw(colour).rectangle((0, 0, *part.size), fill=_MARKER)
        picture.paste(ImageChops.multiply(part, colour), box)
