"""What a start leaves behind in memory, given back before the first request."""

import ctypes
import gc
import sys
from typing import Final

_COLLECT_AFTER: Final = (5_000, 20, 20)
"""A chat turn makes some thousand objects that need no collector; at 700, Python's own number, it runs five times for it."""


def settle() -> None:
    """Collect what importing and starting made and dropped, and hand free memory back to the system.

    What is left lives as long as the process: it is frozen, so that later collections, which hold up every request in
    flight, need not walk through its million objects.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(*_COLLECT_AFTER)
    if sys.platform == "linux":
        trim = getattr(ctypes.CDLL(None), "malloc_trim", None)  # glibc has it, musl does not
        if trim is not None:
            trim(0)
