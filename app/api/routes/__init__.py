"""One module a noun, independent of each other. `ROUTERS` is everything that is served."""

from typing import Final

from app.api.routes import chat, collections, documents, health, ingest, search

ROUTERS: Final = (
    health.router,
    ingest.router,
    documents.router,
    collections.router,
    search.router,
    chat.router,
)
