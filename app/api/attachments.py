"""Files that people have sent, given out so that no browser takes them for a page of ours."""

from urllib.parse import quote

from app.services.files import File


def saved_as(filename: str) -> dict[str, str]:
    """To be saved and not shown; named as RFC 6266 and RFC 8187 (5987) want it."""
    plain = "".join(
        character if character.isascii() and character.isprintable() and character not in '"\\%/' else "_"
        for character in filename
    )
    encoded = quote(filename, safe="", encoding="utf-8", errors="replace")
    return {
        "Content-Disposition": f"attachment; filename=\"{plain}\"; filename*=UTF-8''{encoded}",
        "Content-Security-Policy": "sandbox; default-src 'none'",
        "X-Content-Type-Options": "nosniff",
        "Cross-Origin-Resource-Policy": "same-origin",
        "Cache-Control": "private, no-cache",
    }


def attachment_headers(file: File) -> dict[str, str]:
    """Those of a file that somebody has sent."""
    return {
        **saved_as(file.filename),
        "Content-Length": str(file.size_bytes),
        "ETag": f'"{file.sha256}"',
        "X-Document-Type": file.content_type,
    }


def image_headers(etag: str) -> dict[str, str]:
    """Of a picture that is made for those who may see it; asked for again each time, whether they still may."""
    return {
        "Content-Security-Policy": "sandbox; default-src 'none'",
        "X-Content-Type-Options": "nosniff",
        "Cross-Origin-Resource-Policy": "same-origin",
        "Cache-Control": "private, no-cache",
        "ETag": etag,
    }
