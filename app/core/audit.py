"""What the audit log tells: the closed set of acts. Most are written by the database itself, see migration 0004_audit."""

from collections.abc import Collection
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum


class Action(StrEnum):
    ORGANIZATION_CREATED = "organization.created"
    ORGANIZATION_CHANGED = "organization.changed"
    ORGANIZATION_DELETED = "organization.deleted"
    USER_CREATED = "user.created"
    USER_SIGNED_UP = "user.signed_up"
    USER_CHANGED = "user.changed"
    USER_ROLE_CHANGED = "user.role_changed"
    USER_DEACTIVATED = "user.deactivated"
    USER_REACTIVATED = "user.reactivated"
    USER_DELETED = "user.deleted"
    PASSWORD_CHANGED = "password.changed"  # noqa: S105 an act's name
    PASSWORD_RESET_CREATED = "password_reset.created"  # noqa: S105
    PASSWORD_RESET_USED = "password_reset.used"  # noqa: S105
    TOTP_ENROLMENT_STARTED = "totp.enrolment_started"
    TOTP_ENABLED = "totp.enabled"
    TOTP_DISABLED = "totp.disabled"
    RECOVERY_CODE_USED = "recovery_code.used"
    RECOVERY_CODES_RENEWED = "recovery_codes.renewed"
    LOGIN_SUCCEEDED = "login.succeeded"
    LOGIN_FAILED = "login.failed"
    LOGIN_ENDED = "login.ended"
    REFRESH_TOKEN_REUSED = "refresh_token.reused"  # noqa: S105
    INVITATION_CREATED = "invitation.created"
    INVITATION_ACCEPTED = "invitation.accepted"
    INVITATION_WITHDRAWN = "invitation.withdrawn"
    API_KEY_CREATED = "api_key.created"
    API_KEY_CHANGED = "api_key.changed"
    API_KEY_REVOKED = "api_key.revoked"
    COLLECTION_CREATED = "collection.created"
    COLLECTION_CHANGED = "collection.changed"
    COLLECTION_DELETED = "collection.deleted"
    ACCESS_GRANTED = "access.granted"
    ACCESS_CHANGED = "access.changed"
    ACCESS_REVOKED = "access.revoked"
    DOCUMENT_INGESTED = "document.ingested"
    DOCUMENT_REPLACED = "document.replaced"
    DOCUMENT_CHANGED = "document.changed"
    DOCUMENT_REPROCESSED = "document.reprocessed"
    DOCUMENT_DELETED = "document.deleted"
    PROCESSING_STOPPED = "processing.stopped"
    BOT_CREATED = "bot.created"
    BOT_CHANGED = "bot.changed"
    BOT_DELETED = "bot.deleted"
    BOT_VERSION_ADDED = "bot_version.added"
    BOT_COLLECTION_ADDED = "bot_collection.added"
    BOT_COLLECTION_REMOVED = "bot_collection.removed"
    BOT_ACCESS_GRANTED = "bot_access.granted"
    BOT_ACCESS_REVOKED = "bot_access.revoked"
    SHARE_CREATED = "share.created"
    SHARE_REVOKED = "share.revoked"
    EVALUATION_SET_CREATED = "evaluation_set.created"
    EVALUATION_SET_DELETED = "evaluation_set.deleted"
    EVALUATION_STARTED = "evaluation.started"
    EVALUATION_DELETED = "evaluation.deleted"
    BUDGET_CREATED = "budget.created"
    BUDGET_CHANGED = "budget.changed"
    BUDGET_DELETED = "budget.deleted"
    INDEX_REPAIRED = "index.repaired"
    INDEX_REBUILD_STARTED = "index.rebuild_started"
    INDEX_REBUILD_CANCELLED = "index.rebuild_cancelled"
    SECRETS_ROTATED = "secrets.rotated"
    AUDIT_EXPORTED = "audit.exported"
    AUDIT_PURGED = "audit.purged"


class ActorKind(StrEnum):
    USER = "user"
    API_KEY = "api_key"
    OPERATOR = "operator"
    SYSTEM = "system"
    ANONYMOUS = "anonymous"


@dataclass(frozen=True, slots=True)
class AuditFilter:
    """Which entries; None and empty leave open. `actor` is an id, an e-mail address or a key's name; `to` is excluded."""

    organization_id: str | None = None
    actor: str | None = None
    actions: Collection[Action] = ()
    object_type: str | None = None
    object_id: str | None = None
    since: datetime | None = None
    to: datetime | None = None
