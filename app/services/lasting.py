"""Whether what is kept on this machine's disk outlives it: on some platforms each deploy begins with an empty one."""

import os
from pathlib import Path
from typing import Final, NamedTuple

from app.core.config import Settings

IN_DATABASE: Final = "database"
"""What STORAGE_URL says for it."""


class StorageProblem(NamedTuple):
    """What will be lost, and what to do about it."""

    reason: str
    next_step: str


def disk_is_ephemeral(folder: Path) -> bool:
    """Whether this folder is gone with the next deploy, as far as the platform tells."""
    if not os.environ.get("RAILWAY_ENVIRONMENT"):
        return False
    volume = os.environ.get("RAILWAY_VOLUME_MOUNT_PATH")
    return not volume or not folder.absolute().is_relative_to(volume)


def keeps_files_in_database(settings: Settings) -> bool:
    """Whether original files are in PostgreSQL: where the operator says so, and where nothing else would last."""
    if settings.storage_url is None:
        return settings.db_url is not None and disk_is_ephemeral(settings.data_dir)
    return settings.storage_url == IN_DATABASE


def storage_problem(settings: Settings) -> StorageProblem | None:
    """Why original files would be lost; None where they are not."""
    if keeps_files_in_database(settings):
        return None
    if settings.storage_url is not None and not settings.storage_url.startswith("file:"):
        return None
    folder = Path(settings.storage_url.removeprefix("file://")) if settings.storage_url else settings.data_dir
    if not disk_is_ephemeral(folder):
        return None
    return StorageProblem(
        f"Original files are stored in {folder}, which is lost with the next deploy: what waits to be processed then fails, and"
        " nothing can be downloaded or read anew.",
        "Set STORAGE_URL to a bucket (s3://…) or to `database`, or mount a volume and set DATA_DIR to a folder on it.",
    )
