"""Requests with files: the form in, a result for each file out."""

import hashlib
import json
from collections.abc import Mapping
from typing import Any, Final, TypeVar

from fastapi import Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from pydantic import ValidationError

from app.api import multipart
from app.api.multipart import Upload, UploadForm
from app.api.schemas.base import RequestModel
from app.api.schemas.documents import UploadError, UploadFields, UploadResponse
from app.core.errors import AppError, FileTooLarge, NotAnUpload
from app.core.principal import Principal
from app.services import idempotency, upload_checks, uploads
from app.services.runtime import Runtime
from app.services.uploads import Accepted, Wish

_FEW_FILES: Final = 5
LONGEST_SECONDS: Final = 900
Fields = TypeVar("Fields", bound=RequestModel)
_SINGLE: Final = ("title", "source", "document_id")


def upload_schema(kind: type[RequestModel] = UploadFields) -> dict[str, Any]:
    """How the route says in the OpenAPI description what it reads."""
    files = {"type": "array", "items": {"type": "string", "format": "binary"}}
    schema = kind.model_json_schema()
    schema["properties"] |= {"files": files, "file": {"type": "string", "format": "binary"}}
    return {"requestBody": {"required": True, "content": {"multipart/form-data": {"schema": schema}}}}


async def receive_uploads(
    request: Request, runtime: Runtime, principal: Principal, key: str | None
) -> JSONResponse:
    """Take the files of a form. The caller is known before anything of the body is read.

    Raises what `multipart.received` and `idempotency.once` raise, RequestValidationError for the fields, and the error of
    the first file when none could be taken.
    """
    limit = runtime.settings.max_upload_bytes
    async with (
        idempotency.once(
            runtime, principal, key, route="POST /documents", longest_seconds=LONGEST_SECONDS
        ) as attempt,
        multipart.received(request, runtime.spool, max_file_bytes=limit) as form,
    ):
        if earlier := attempt.earlier(fingerprint(form)):
            return JSONResponse(earlier.body, earlier.status)
        if not form.files:
            raise NotAnUpload
        fields = fields_of(form, UploadFields)
        wish = Wish(
            title=fields.title,
            source=fields.source,
            tags=fields.all_tags,
            metadata=fields.metadata,
            collection_id=fields.collection_id,
            document_id=fields.document_id,
            bulk=len(form.files) > _FEW_FILES,
        )
        status, results = await take_all(runtime, principal, form, wish)
        body = [result.model_dump() for result in results]
        attempt.answer = idempotency.Answer(status, body)
        return JSONResponse(body, status)


async def take_all(
    runtime: Runtime, principal: Principal, form: UploadForm, wish: Wish
) -> tuple[int, list[UploadResponse]]:
    """What became of each file, and the status of an answer that says so: 200 when all were there already, else 202.

    Raises the error of the first one when none could be taken.
    """
    results = [await _take(runtime, principal, upload, wish) for upload in form.files]
    failures = [result for result in results if isinstance(result, AppError)]
    if len(failures) == len(results):
        raise _all_failed(form, failures)
    taken = [result for result in results if isinstance(result, Accepted)]
    status = 200 if all(result.duplicate for result in taken) else 202
    return status, [_result(upload, result) for upload, result in zip(form.files, results, strict=True)]


def require_readable(runtime: Runtime, form: UploadForm) -> None:
    """Raise the error of the first file when, as far as their beginnings tell, none of them can be read."""
    failures: list[AppError] = []
    for upload in form.files:
        try:
            _type_of(runtime, upload)
        except AppError as error:
            failures.append(error)
        else:
            return
    raise _all_failed(form, failures)


def _type_of(runtime: Runtime, upload: Upload) -> str:
    limit = runtime.settings.max_upload_bytes
    if upload.truncated:
        raise FileTooLarge(f"The file is larger than {limit:,} bytes.", details={"limit_bytes": limit})
    return upload_checks.check_file(
        upload.file, filename=upload.filename, declared=upload.declared_type, limit_bytes=limit
    )


async def _take(runtime: Runtime, principal: Principal, upload: Upload, wish: Wish) -> Accepted | AppError:
    try:
        content_type = _type_of(runtime, upload)
        return await uploads.accept(
            runtime, principal, upload.file, wish, filename=upload.filename, content_type=content_type
        )
    except AppError as error:
        return error


def _result(upload: Upload, result: Accepted | AppError) -> UploadResponse:
    if isinstance(result, AppError):
        error = UploadError(code=result.code, message=result.message, details=result.details)
        return UploadResponse(
            document_id=None, filename=upload.filename, status=None, duplicate=False, error=error
        )
    return UploadResponse.model_validate(
        {
            "document_id": result.document.id,
            "filename": upload.filename,
            "status": result.document.status,
            "duplicate": result.duplicate,
        }
    )


def _all_failed(form: UploadForm, failures: list[AppError]) -> AppError:
    """The first error; of several files, with what was wrong with each."""
    first = failures[0]
    if len(failures) > 1:
        first.details = {
            **first.details,
            "files": [
                {"filename": upload.filename, "code": error.code, "message": error.message}
                for upload, error in zip(form.files, failures, strict=True)
            ],
        }
    return first


def fields_of(form: UploadForm, kind: type[Fields]) -> Fields:
    """The fields of the form, checked. Raises RequestValidationError."""
    values: dict[str, Any] = {}
    for name, given in form.fields.items():
        if name == "tags":
            values[name] = [value for value in given if value]
        elif len(given) > 1:
            raise _refused(name, "Only `tags` may be given more than once.")
        elif given[0]:
            values[name] = given[0]
    if "metadata" in values:
        try:
            values["metadata"] = json.loads(values["metadata"])
        except (ValueError, RecursionError) as error:
            raise _refused("metadata", "This must be a JSON object.") from error
    try:
        fields = kind.model_validate(values)
    except ValidationError as error:
        problems = [{**problem, "loc": ("body", *problem["loc"])} for problem in error.errors()]
        raise RequestValidationError(problems) from error
    for name in _SINGLE:
        if len(form.files) > 1 and getattr(fields, name, None) is not None:
            raise _refused(name, "This is for a request with one file.")
    return fields


def _refused(name: str, message: str) -> RequestValidationError:
    return RequestValidationError([{"loc": ("body", name), "msg": message, "type": "form"}])


def fingerprint(form: UploadForm) -> str:
    """What was sent, whatever the order of the fields and the boundary between the parts."""
    fields: Mapping[str, list[str]] = form.fields
    files = [
        [upload.filename, upload.declared_type, upload.file.sha256, upload.truncated] for upload in form.files
    ]
    return hashlib.sha256(json.dumps([sorted(fields.items()), files]).encode()).hexdigest()
