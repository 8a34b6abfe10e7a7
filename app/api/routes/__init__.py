"""One module a noun, independent of each other. `ROUTERS` is everything that is served."""

from typing import Final

from app.api.routes import (
    api_keys,
    audit,
    auth,
    chat,
    collections,
    documents,
    health,
    index_care,
    ingest,
    metrics,
    organizations,
    search,
    sockets,
    totp,
    users,
)

ROUTERS: Final = (
    health.router,
    ingest.router,
    documents.router,
    index_care.router,
    collections.router,
    search.router,
    chat.router,
    sockets.router,
    auth.router,
    totp.router,
    users.router,
    organizations.router,
    api_keys.router,
    audit.router,
    metrics.router,
)
