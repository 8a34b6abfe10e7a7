"""Reading an HTML form's body, which is what OAuth2 wants of a login; JSON is taken as well."""

import json
from typing import Any, Final, TypeVar
from urllib.parse import parse_qsl

from fastapi import Request
from fastapi.exceptions import RequestValidationError
from pydantic import BaseModel, ValidationError

Form = TypeVar("Form", bound=BaseModel)

_MAX_BYTES: Final = 20_000
_MAX_FIELDS: Final = 50


async def read_form(request: Request, model: type[Form]) -> Form:
    """The body as the model, whichever of the two it is. Raises RequestValidationError."""
    body = bytearray()
    async for piece in request.stream():
        body += piece
        if len(body) > _MAX_BYTES:
            raise _refused("The form is too long.")
    try:
        return model.model_validate(_fields(request, bytes(body)))
    except ValidationError as error:
        problems = [{**problem, "loc": ("body", *problem["loc"])} for problem in error.errors()]
        raise RequestValidationError(problems) from error


def form_schema(model: type[BaseModel]) -> dict[str, Any]:
    """How a route that reads such a form says so in the OpenAPI description."""
    content = {"application/x-www-form-urlencoded": {"schema": model.model_json_schema()}}
    return {"requestBody": {"required": True, "content": content}}


def _fields(request: Request, body: bytes) -> Any:
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    try:
        if kind == "application/json":
            return json.loads(body)
        return dict(parse_qsl(body.decode(), keep_blank_values=True, max_num_fields=_MAX_FIELDS))
    except (ValueError, RecursionError) as error:
        raise _refused("The body is neither a form nor JSON.") from error


def _refused(message: str) -> RequestValidationError:
    return RequestValidationError([{"loc": ("body",), "msg": message, "type": "form"}])
