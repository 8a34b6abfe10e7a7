"""Who comes to the tables: superadmins alone, by the same login as everywhere, and no foreign page in their name.

The cookie is a signed token that names a login row, read again with every request: a logout, a new password, another role
or a deactivation counts on the next one. Each form carries a token made of what only this browser has in its cookies.
"""

import hashlib
import hmac
import secrets
from collections.abc import Callable
from http import HTTPStatus
from typing import Final

from sqladmin.authentication import AuthenticationBackend
from starlette.datastructures import URL
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response

from app.core import origin
from app.core.errors import AppError, Forbidden
from app.core.principal import Principal
from app.core.text import clean
from app.core.tokens import Purpose
from app.services import auth, logins
from app.services.runtime import Runtime

LOGIN_COOKIE: Final = "ibid_tables"
FORM_COOKIE: Final = "ibid_tables_form"
_MAX_FIELDS: Final = 50
_MAX_EMAIL_CHARACTERS: Final = 320
_MAX_PASSWORD_CHARACTERS: Final = 256
_MAX_CODE_CHARACTERS: Final = 40


class Gate(AuthenticationBackend):
    def __init__(self, runtime: Callable[[], Runtime]) -> None:
        self.middlewares = []
        self._runtime = runtime

    async def login(self, request: Request) -> Response:
        """Log in by the form. Raises AppError."""
        await self.require_own_form(request)
        form = await request.form(max_files=0, max_fields=_MAX_FIELDS)
        email, password, code = (str(form.get(name) or "") for name in ("username", "password", "totp_code"))
        if len(email) > _MAX_EMAIL_CHARACTERS or len(password) > _MAX_PASSWORD_CHARACTERS:
            raise HTTPException(HTTPStatus.BAD_REQUEST, "The address or the password is too long.")
        issued = await logins.login(
            self._runtime(),
            email=clean(email).strip().lower(),
            password=password,
            totp_code=code[:_MAX_CODE_CHARACTERS] or None,
            address=origin.address() or "",
            purpose=Purpose.TABLES,
        )
        response = RedirectResponse(request.url_for("admin:index"), status_code=HTTPStatus.SEE_OTHER)
        self._set_cookie(
            request, response, LOGIN_COOKIE, issued.access_token, max_age=issued.expires_in_seconds
        )
        self._set_cookie(request, response, FORM_COOKIE, secrets.token_urlsafe(32))
        return response

    async def logout(self, request: Request) -> bool:
        """End the login, wherever its cookie may have got to."""
        if (caller := await self._caller(request)) is not None:
            await logins.logout(self._runtime(), caller, everywhere=False)
        return False

    async def authenticate(self, request: Request) -> bool:
        """Whether a superadmin asks; what changes something must also come from a form of ours."""
        caller = await self._caller(request)
        if caller is None:
            return False
        self.prepare_forms(request)
        if request.method not in ("GET", "HEAD"):
            await self.require_own_form(request)
        return True

    async def get_user_id(self, request: Request) -> str | None:
        principal: Principal | None = getattr(request.state, "principal", None)
        return None if principal is None else principal.id

    def prepare_forms(self, request: Request) -> str | None:
        """Give the request its form token; returns the value of a cookie that is to be set for it, if there is none yet."""
        held = request.cookies.get(FORM_COOKIE)
        secret = held or secrets.token_urlsafe(32)
        request.state.form_token = self._form_token(secret, request.cookies.get(LOGIN_COOKIE, ""))
        return None if held else secret

    def set_form_cookie(self, request: Request, response: Response, secret: str) -> None:
        self._set_cookie(request, response, FORM_COOKIE, secret)

    async def require_own_form(self, request: Request) -> None:
        """Raise Forbidden unless the request was made by a form that this browser was given here."""
        foreign = request.headers.get("sec-fetch-site", "same-origin") not in ("same-origin", "none")
        named = request.headers.get("origin")
        if foreign or (named is not None and URL(named).netloc != request.url.netloc):
            raise Forbidden("This form was not sent by a page of this service.")
        form = await request.form(max_files=0, max_fields=_MAX_FIELDS)
        secret, given = request.cookies.get(FORM_COOKIE), form.get("form_token")
        wanted = self._form_token(secret or "", request.cookies.get(LOGIN_COOKIE, ""))
        if not secret or not hmac.compare_digest(str(given or "").encode(), wanted.encode()):
            raise Forbidden("This form is out of date: open the page again, then send it again.")

    async def _caller(self, request: Request) -> auth.Caller | None:
        token = request.cookies.get(LOGIN_COOKIE)
        if not token:
            return None
        try:
            caller = await auth.authenticate_for_tables(self._runtime(), token)
        except AppError as error:
            if error.category in _NOT_LET_IN:
                return None
            raise
        origin.recognise(caller.principal)
        request.state.principal = caller.principal
        return caller

    def _form_token(self, secret: str, login: str) -> str:
        key = self._runtime().keyring.signing_keys[0]
        return hmac.new(key, f"form\0{secret}\0{login}".encode(), hashlib.sha256).hexdigest()

    def _set_cookie(
        self, request: Request, response: Response, name: str, value: str, *, max_age: int | None = None
    ) -> None:
        response.set_cookie(
            name,
            value,
            max_age=max_age,
            path="/admin",
            secure=request.url.scheme == "https",
            httponly=True,
            samesite="strict",
        )


_NOT_LET_IN: Final = frozenset({"unauthenticated", "forbidden", "not_found"})
