"""`/docs`: Swagger UI from the wheel `fastapi-swagger`, served by ourselves. No page of ours loads anything from elsewhere."""

import gzip
import hashlib
from functools import cache
from importlib import metadata, resources
from typing import Annotated, Final

import anyio.to_thread
from fastapi import FastAPI, Header, Response
from fastapi.responses import HTMLResponse

from app.core.errors import NotFound

_WHEEL: Final = "fastapi-swagger"
_RESOURCES: Final = "fastapi_swagger.resources"
_ASSETS: Final = {
    "swagger-ui-bundle.js": "text/javascript; charset=utf-8",
    "swagger-ui.css": "text/css; charset=utf-8",
    "favicon-32x32.png": "image/png",
}
_PAGE: Final = """<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{title}</title>
<link rel="icon" type="image/png" href="docs/favicon-32x32.png?v={version}">
<link rel="stylesheet" href="docs/swagger-ui.css?v={version}">
</head>
<body>
<div id="swagger-ui"></div>
<script src="docs/swagger-ui-bundle.js?v={version}"></script>
<script src="docs/start.js?v={version}"></script>
</body>
</html>
"""
# In a file of its own, so that the page's policy need not allow scripts within it.
_START: Final = """SwaggerUIBundle({
  url: "openapi.json",
  dom_id: "#swagger-ui",
  deepLinking: true,
  displayRequestDuration: true,
  filter: true,
  persistAuthorization: false,
  tryItOutEnabled: true,
  validatorUrl: null,
});
"""


def add_documentation(app: FastAPI) -> None:
    """The page and what it loads. The application must be made with `docs_url=None` and `redoc_url=None`."""
    page = _PAGE.format(title=f"{app.title} API", version=_version(app.version))

    @app.get("/docs", include_in_schema=False)
    async def documentation() -> HTMLResponse:
        return HTMLResponse(page)

    @app.get("/docs/{asset}", include_in_schema=False)
    async def documentation_asset(
        asset: str,
        accept_encoding: Annotated[str, Header()] = "",
    ) -> Response:
        """A file of Swagger UI. Raises NotFound."""
        if asset == "start.js":
            return _file(_START.encode(), "text/javascript; charset=utf-8")
        if asset not in _ASSETS:
            raise NotFound
        if "gzip" in accept_encoding and not asset.endswith(".png"):
            compressed = await anyio.to_thread.run_sync(_compressed, asset)
            return _file(compressed, _ASSETS[asset], encoding="gzip")
        return _file(_bytes(asset), _ASSETS[asset])


def _file(content: bytes, media_type: str, *, encoding: str | None = None) -> Response:
    """Kept by browsers for good: the page names another version when there is one."""
    headers = {"Cache-Control": "public, max-age=31536000, immutable", "Vary": "Accept-Encoding"}
    if encoding:
        headers["Content-Encoding"] = encoding
    return Response(content, media_type=media_type, headers=headers)


def _bytes(asset: str) -> bytes:
    return resources.files(_RESOURCES).joinpath(asset).read_bytes()


@cache
def _compressed(asset: str) -> bytes:
    return gzip.compress(_bytes(asset), compresslevel=6, mtime=0)


def _version(own: str) -> str:
    named = f"{own} {metadata.version(_WHEEL)} {_START}"
    return hashlib.sha256(named.encode()).hexdigest()[:12]
