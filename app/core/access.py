"""The closed sets in which access to collections is told."""

from enum import IntEnum, StrEnum


class Visibility(StrEnum):
    """Who sees a collection: all users of its organization, or those on its access list."""

    ORGANIZATION = "organization"
    RESTRICTED = "restricted"


class Permission(StrEnum):
    """What the access list of a collection gives a user."""

    READ = "read"
    WRITE = "write"


class Level(IntEnum):
    """What a caller may do in a collection, each including the ones before."""

    READ = 1
    ADD = 2
    """Also add documents, and change or delete those that one added oneself."""
    WRITE = 3
    """Also change and delete everybody's documents."""
