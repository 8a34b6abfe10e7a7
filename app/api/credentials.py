"""Where in a request its credential is: told to the reader of the API's description, and found in one look at the header fields."""

from typing import Any, Final

from fastapi import FastAPI
from fastapi.openapi.models import HTTPBearer as BearerScheme
from fastapi.security import APIKeyHeader, OAuth2PasswordBearer
from fastapi.security.base import SecurityBase
from starlette.requests import HTTPConnection

_BEARER: Final = "HTTPBearer"
_KEY_HEADER: Final = "X-API-Key"
_OTHERS: Final = {
    "APIKeyHeader": APIKeyHeader(name=_KEY_HEADER, description="The same API key in its own header."),
    "OAuth2PasswordBearer": OAuth2PasswordBearer(
        tokenUrl="auth/login", description="E-mail address and password."
    ),
}
"""Of three schemes FastAPI would ask one after the other, which takes longer than checking what they find."""


class Credentials(SecurityBase):
    """An API key or an access token, unchecked; empty for nothing."""

    def __init__(self) -> None:
        self.model = BearerScheme(
            description="An access token, or an API key: `ibid_<public part>_<secret>`."
        )
        self.scheme_name = _BEARER

    async def __call__(self, connection: HTTPConnection) -> str:
        scheme, _, credential = connection.headers.get("authorization", "").partition(" ")
        if credential and scheme.lower() == "bearer":
            return credential
        return connection.headers.get(_KEY_HEADER, "")


def describe_credentials(app: FastAPI) -> None:
    """Have the API's description name all the ways in which a credential is sent."""
    plain = app.openapi

    def described() -> dict[str, Any]:
        if app.openapi_schema is None:
            document = plain()
            schemes = document["components"]["securitySchemes"]
            schemes |= {
                name: scheme.model.model_dump(by_alias=True, exclude_none=True, mode="json")
                for name, scheme in _OTHERS.items()
            }
            for operations in document["paths"].values():
                for operation in operations.values():
                    if {_BEARER: []} in operation.get("security", ()):
                        operation["security"] += [{name: []} for name in _OTHERS]
        return app.openapi_schema or {}

    app.openapi = described  # type: ignore[method-assign]  # which is how FastAPI has it extended
