"""Time-based one-time passwords (RFC 6238): 6 digits, 30 seconds, SHA-1, as every authenticator app knows them."""

import hmac
import re
from datetime import datetime
from typing import Final

import pyotp
import segno

_STEP_SECONDS: Final = 30
_TOLERATED_STEPS: Final = 1
_ISSUER: Final = "Ibid"
_CODE: Final = re.compile(r"[0-9]{6}")


def new_secret() -> str:
    """160 bits in base 32."""
    return pyotp.random_base32()


def provisioning_uri(secret: str, *, account: str) -> str:
    """The `otpauth://` address that an authenticator app takes."""
    return pyotp.TOTP(secret).provisioning_uri(name=account, issuer_name=_ISSUER)


def qr_code(uri: str) -> str:
    """The address as a QR code: an SVG in a `data:` URI."""
    return segno.make_qr(uri).svg_data_uri(scale=4)


def matching_step(secret: str, code: str, *, now: datetime) -> int | None:
    """The time step whose code this is: the present one, or one beside it for clocks that differ.

    None when the code is of none of them. That a step is used only once is the caller's to see to.
    """
    code = code.replace(" ", "")
    if not _CODE.fullmatch(code):
        return None
    present = int(now.timestamp()) // _STEP_SECONDS
    generator = pyotp.HOTP(secret)
    found = None
    for step in range(present - _TOLERATED_STEPS, present + _TOLERATED_STEPS + 1):
        if hmac.compare_digest(generator.at(step), code):
            found = step
    return found
