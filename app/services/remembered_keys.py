"""API keys that were found to be live a moment ago, so that a turn need not look its key up before it is opened.

What is remembered lets nobody in: it says whose the key is and what it may do, which never changes. Whether it is still live is
asked with each request.
"""

from dataclasses import dataclass
from typing import Final

from app.core.principal import Principal
from app.db.repositories.credentials import StoredKey

_KEYS_AT_MOST: Final = 10_000


@dataclass(frozen=True, slots=True)
class RememberedKey:
    """A key, and who comes with it: unproven."""

    stored: StoredKey
    principal: Principal


class RememberedKeys:
    """By the public part; a key that was not used within the last minute is as good as forgotten (`auth.authenticate_asker`)."""

    def __init__(self) -> None:
        self._keys: dict[str, RememberedKey] = {}

    def get(self, public_part: str) -> RememberedKey | None:
        return self._keys.get(public_part)

    def put(self, public_part: str, key: RememberedKey) -> None:
        if len(self._keys) >= _KEYS_AT_MOST:
            self._keys.clear()
        self._keys[public_part] = key

    def forget(self, key_id: str) -> None:
        self._keys = {public: key for public, key in self._keys.items() if key.stored.id != key_id}
