"""Lists: `limit`, `cursor` and `offset` in, the next page's address out in the `Link` header."""

from typing import Annotated

from fastapi import Query, Request, Response

Limit = Annotated[int, Query(ge=1, le=200, description="Items on a page.")]
Cursor = Annotated[
    str | None,
    Query(max_length=300, description="Where the page begins: taken from the `Link` of the one before."),
]
Offset = Annotated[int, Query(ge=0, le=100_000, description="Items to skip, for clients without cursors.")]


def link_next(request: Request, response: Response, **parameters: str | int) -> None:
    """Point at the next page: this request's own address with these parameters changed."""
    url = request.url.include_query_params(**parameters)
    response.headers["Link"] = f'<{url.path}?{url.query}>; rel="next"'
