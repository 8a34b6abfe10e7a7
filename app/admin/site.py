"""The site at /admin: sqladmin with our gate in front, and only the routes that are used."""

from collections.abc import Callable
from http import HTTPStatus
from pathlib import Path
from typing import Final

import structlog
from fastapi import FastAPI
from sqladmin import Admin
from sqlalchemy.exc import DBAPIError
from starlette.requests import Request
from starlette.responses import Response

from app.admin.gate import Gate
from app.admin.views import TABLES, view_of
from app.api.errors import STATUS
from app.core.errors import AppError
from app.db.engine import translated_errors
from app.db.tables import TableSessions
from app.services.runtime import Runtime

log = structlog.get_logger(__name__)

PATH: Final = "/admin"
USED_ROUTES: Final = frozenset(
    {"statics", "index", "list", "details", "edit", "ajax_lookup", "login", "logout"}
)
_BAD_VALUE: Final = "22"
"""The class of SQL states for a value that its type can't have: a search for NUL, a number that is none."""


def mount(app: FastAPI) -> None:
    """Serve the tables, over what the application has open once it runs."""
    site = Site(app, lambda: app.state.runtime)
    for table in TABLES:
        site.add_view(view_of(table))


class Site(Admin):
    def __init__(self, app: FastAPI, runtime: Callable[[], Runtime]) -> None:
        self._gate = Gate(runtime)
        super().__init__(
            app,
            session_maker=TableSessions(lambda: runtime().database.engine),
            base_url=PATH,
            title="Ibid tables",
            templates_dir=str(Path(__file__).parent / "templates"),
            authentication_backend=self._gate,
        )
        self.admin.router.routes = [
            route for route in self.admin.router.routes if getattr(route, "name", None) in USED_ROUTES
        ]
        self.admin.exception_handlers |= {AppError: self._refused, DBAPIError: self._not_queried}

    async def login(self, request: Request) -> Response:
        """The login page, and what its form does."""
        new_secret = self._gate.prepare_forms(request)
        error, status = None, HTTPStatus.OK
        if request.method == "POST":
            try:
                return await self._gate.login(request)
            except AppError as refusal:
                error, status = refusal.message, HTTPStatus(STATUS[refusal.category])
                if status == HTTPStatus.UNAUTHORIZED:  # a browser would ask in a window of its own
                    status = HTTPStatus.FORBIDDEN
        response = await self.templates.TemplateResponse(
            request, "sqladmin/login.html", {"error": error}, status_code=status
        )
        if new_secret is not None:
            self._gate.set_form_cookie(request, response, new_secret)
        return response

    async def _refused(self, request: Request, error: Exception) -> Response:
        assert isinstance(error, AppError)
        return await self._page(request, STATUS[error.category], error.message)

    async def _not_queried(self, request: Request, error: Exception) -> Response:
        assert isinstance(error, DBAPIError)
        if str(getattr(error.orig, "sqlstate", "")).startswith(_BAD_VALUE):
            return await self._page(request, HTTPStatus.BAD_REQUEST, "No row can have this value.")
        try:
            with translated_errors():
                raise error
        except AppError as known:
            return await self._refused(request, known)

    async def _page(self, request: Request, status: int, message: str) -> Response:
        return await self.templates.TemplateResponse(
            request, "sqladmin/error.html", {"status_code": status, "message": message}, status_code=status
        )
