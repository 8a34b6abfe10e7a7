"""A shared conversation as a page: text and nothing else. No script, nothing loaded, nothing that leads anywhere."""

from collections.abc import Mapping
from html import escape
from typing import Final

from app.api.schemas.shares import SharedMessage, SharedResponse

PAGE_HEADERS: Final[Mapping[str, str]] = {
    "Content-Security-Policy": "default-src 'none'; style-src 'unsafe-inline'; base-uri 'none'; form-action 'none';"
    " frame-ancestors 'none'; sandbox",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
}
_PAGE: Final = """<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="robots" content="noindex, nofollow, noarchive">
<title>{title}</title>
<style>
body {{ font: 16px/1.5 system-ui, sans-serif; max-width: 44rem; margin: 2rem auto; padding: 0 1rem; color: #1d2733; }}
h1 {{ font-size: 1.4rem; }}
article {{ margin: 1.5rem 0; }}
.user {{ background: #eef2f7; border-radius: .5rem; padding: .75rem 1rem; }}
.text {{ white-space: pre-wrap; overflow-wrap: anywhere; }}
h2 {{ font-size: .85rem; margin: 0 0 .25rem; color: #55626f; }}
ol, p.note {{ font-size: .85rem; color: #55626f; }}
li {{ margin: .25rem 0; }}
</style>
</head>
<body>
<h1>{title}</h1>
<p class="note">A conversation as it was on {shared_at:%Y-%m-%d at %H:%M} UTC.</p>
{messages}
</body>
</html>
"""


def page(shared: SharedResponse) -> str:
    """The document; every text in it is escaped."""
    messages = "\n".join(_message(message) for message in shared.messages)
    return _PAGE.format(title=escape(shared.title), shared_at=shared.shared_at, messages=messages)


def _message(message: SharedMessage) -> str:
    speaker = "Question" if message.role == "user" else "Answer"
    notes = "".join(
        f'<li value="{source.n}">{escape(source.title)}, page {source.page}: “{escape(source.snippet)}”</li>'
        for source in message.sources
        if source.cited
    )
    sources = f"<ol>{notes}</ol>" if notes else ""
    unfinished = "" if message.complete else '<p class="note">This answer was broken off.</p>'
    return (
        f'<article class="{message.role}"><h2>{speaker}</h2><div class="text">{escape(message.content)}</div>'
        f"{unfinished}{sources}</article>"
    )
