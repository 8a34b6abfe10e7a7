"""One module a noun, independent of each other. `ROUTERS` is everything that is served."""

from typing import Final

from app.api.routes import (
    api_keys,
    audit,
    auth,
    bots,
    budgets,
    chat,
    collections,
    diagnostics,
    documents,
    evaluations,
    health,
    index_care,
    ingest,
    mcp,
    metrics,
    openai,
    organizations,
    search,
    sessions,
    shares,
    sockets,
    totp,
    usage,
    users,
)

# A request is held against one after the other: what is asked most comes first.
ROUTERS: Final = (
    chat.router,
    search.router,
    health.router,
    ingest.router,
    documents.router,
    index_care.router,
    evaluations.router,
    collections.router,
    bots.router,
    sessions.router,
    shares.router,
    sockets.router,
    auth.router,
    totp.router,
    users.router,
    organizations.router,
    api_keys.router,
    audit.router,
    usage.router,
    budgets.router,
    mcp.router,
    metrics.router,
    diagnostics.router,
)

COMPATIBLE_ROUTERS: Final = (openai.router,)
"""What is served under `/v1` alone, where the clients of another API look for it."""
