"""Files put into a conversation: the form in, the session and a result for each file out."""

from fastapi import Request
from fastapi.responses import JSONResponse

from app.api import multipart, uploads
from app.api.schemas.sessions import SessionUploadFields, SessionUploadResponse
from app.core.errors import NotAnUpload
from app.core.principal import Principal
from app.services import idempotency, session_files
from app.services.runtime import Runtime
from app.services.uploads import Wish


async def receive_session_uploads(
    request: Request, runtime: Runtime, principal: Principal, key: str | None
) -> JSONResponse:
    """Take the files of a form into a session. Nothing is made of a form in which there is no file that could be read.

    Raises what `uploads.receive_uploads` raises, SessionNotFound and TooManySessionFiles.
    """
    limit = runtime.settings.max_upload_bytes
    async with (
        idempotency.once(
            runtime, principal, key, route="POST /chat/upload", longest_seconds=uploads.LONGEST_SECONDS
        ) as attempt,
        multipart.received(request, runtime.spool, max_file_bytes=limit) as form,
    ):
        if earlier := attempt.earlier(uploads.fingerprint(form)):
            return JSONResponse(earlier.body, earlier.status)
        if not form.files:
            raise NotAnUpload
        fields = uploads.fields_of(form, SessionUploadFields)
        uploads.require_readable(runtime, form)
        place = await session_files.place(
            runtime,
            principal,
            fields.session_id,
            title=fields.title or form.files[0].filename,
            arriving=len(form.files),
        )
        wish = Wish(title=fields.title, collection_id=place.collection_id)
        status, documents = await uploads.take_all(runtime, principal, form, wish)
        answer = SessionUploadResponse(
            session_id=place.session_id, collection_id=place.collection_id, documents=documents
        )
        body = answer.model_dump()
        attempt.answer = idempotency.Answer(status, body)
        return JSONResponse(body, status)
