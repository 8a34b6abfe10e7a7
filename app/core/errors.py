"""Errors that a caller can meet. Each class has a category (the HTTP status is decided in `api.errors`) and a code.

The docstring of a class is its default message: written for the person who reads the answer of the API.
"""

import re
from enum import StrEnum
from typing import Any, ClassVar


class Category(StrEnum):
    INVALID = "invalid"
    UNAUTHENTICATED = "unauthenticated"
    PAYMENT_REQUIRED = "payment_required"
    FORBIDDEN = "forbidden"
    NOT_FOUND = "not_found"
    CONFLICT = "conflict"
    OUTDATED = "outdated"
    TOO_LARGE = "too_large"
    UNSUPPORTED = "unsupported"
    TARGET_TOO_LONG = "target_too_long"
    HEAD_TOO_LARGE = "head_too_large"
    LIMITED = "limited"
    BAD_GATEWAY = "bad_gateway"
    UNAVAILABLE = "unavailable"
    GATEWAY_TIMEOUT = "gateway_timeout"
    INSUFFICIENT_STORAGE = "insufficient_storage"


class AppError(Exception):
    """Something went wrong."""

    category: ClassVar[Category]
    code: ClassVar[str]

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        if "code" not in cls.__dict__:
            cls.code = re.sub(r"(?<!^)(?=[A-Z])", "_", cls.__name__).lower()

    def __init__(
        self,
        message: str | None = None,
        *,
        details: dict[str, Any] | None = None,
        retry_after_seconds: float | None = None,
    ) -> None:
        self.message = message or " ".join((type(self).__doc__ or "").split())
        self.details = details or {}
        self.retry_after_seconds = retry_after_seconds
        super().__init__(self.message)


class Invalid(AppError):
    """The request is not valid."""

    category = Category.INVALID


class Unauthenticated(AppError):
    """Valid credentials are needed: `Authorization: Bearer <access token or API key>` or `X-API-Key: <API key>`."""

    category = Category.UNAUTHENTICATED


class Forbidden(AppError):
    """These credentials do not allow this."""

    category = Category.FORBIDDEN


class NotFound(AppError):
    """There is nothing here under this id."""

    category = Category.NOT_FOUND


class Conflict(AppError):
    """This contradicts the present state."""

    category = Category.CONFLICT


class TooLarge(AppError):
    """The request is larger than the limit."""

    category = Category.TOO_LARGE


class TargetTooLong(AppError):
    """The address of the request is longer than the limit."""

    category = Category.TARGET_TOO_LONG


class HeadTooLarge(AppError):
    """The request has more header fields, or longer ones, than the limit."""

    category = Category.HEAD_TOO_LARGE


class Unavailable(AppError):
    """The service can't answer right now; try again shortly."""

    category = Category.UNAVAILABLE


class MissingScope(Forbidden):
    """These credentials lack the scope that this needs."""


class DocumentNotFound(NotFound):
    """There is no such document."""


class CollectionNotFound(NotFound):
    """There is no such collection."""


class AnswerNotFound(NotFound):
    """There is no such answer."""


class MessageNotFound(NotFound):
    """There is no such message."""


class NotAnAnswer(Invalid):
    """Only an answer can be given again; edit a question to have it answered otherwise."""


class NotAQuestion(Invalid):
    """Only a question can be edited; have an answer given again."""


class AnswerBrokenOff(AppError):
    """The answer was broken off: the process that wrote it is gone. Ask again."""

    category = Category.BAD_GATEWAY


class AnotherQuestion(Invalid):
    """Last-Event-ID names the answer to another question; leave it out to ask this one."""


class InvalidEventId(Invalid):
    """An event id is `<message id>:<number>`, as the stream gave it out."""


class EvaluationNotFound(NotFound):
    """There is no such evaluation."""


class EvaluationSetNotFound(NotFound):
    """There is no such question set."""


class EvaluationSetDiffers(Conflict):
    """There is a question set of this name with other questions; give this one another name, or delete that one."""


class TooManyEvaluations(Conflict):
    """So many evaluations or question sets can't be kept at a time; wait, or delete some."""


class EvaluationNotDone(Conflict):
    """The evaluation has no result yet."""


class BotNotFound(NotFound):
    """There is no such bot."""


class BotVersionNotFound(NotFound):
    """This bot has no such version."""


class BotNameTaken(Conflict):
    """There is a bot of this name already."""


class InvalidBot(Invalid):
    """A bot can't have these settings."""


class BotChanged(Conflict):
    """Somebody has changed this bot since you read it; read it again and repeat your change."""


class BotOutdated(AppError):
    """Somebody has changed this bot since you read it: If-Match names an older revision."""

    category = Category.OUTDATED


class InvalidRange(Invalid):
    """The span of days is not one that can be asked for."""


class InvalidIfMatch(Invalid):
    """If-Match takes the ETag of an answer, a revision in quotes, or *."""


class BotWithoutKey(Unavailable):
    """The model of this bot can't be asked without an API key; an administrator has to enter one."""


class SessionNotFound(NotFound):
    """There is no such session."""


class ShareNotFound(NotFound):
    """There is nothing shared under this link: it is wrong, has expired, or was revoked."""


class SharingDisabled(Forbidden):
    """Conversations can't be shared by a link here (setting SHARE_LINKS)."""


class NothingToShare(Conflict):
    """There is no answer in this session yet that could be shared."""


class TooManyShares(Conflict):
    """This session has as many links as it can have; revoke one of them first."""


class TooLargeToShare(TooLarge):
    """This conversation is too long to be shared by a link; export it instead."""


class TooManySessionFiles(Conflict):
    """This session has as many files as it can have; delete one of them, or put them into a collection."""


class InvalidCursor(Invalid):
    """The cursor is not one that this list gave out."""


class BlankText(Invalid):
    """The text is empty or has nothing in it that can be read."""


class InvalidQuestionSet(Invalid):
    """The question set can't be read."""


class DocumentIdTaken(Conflict):
    """This document id is in use by another document."""


class SessionBusy(Conflict):
    """Another turn of this session is still being answered; wait for it or use another session."""


class TextTooLarge(TooLarge):
    """The text is longer than the limit for one document."""


class DatabaseUnavailable(Unavailable):
    """The database does not answer; try again shortly."""


class StorageFull(AppError):
    """The server has no space left to store this; nothing of it was kept."""

    category = Category.INSUFFICIENT_STORAGE


class ServiceStopping(Unavailable):
    """The service is being stopped or replaced; ask again in a moment."""


class OriginalMissing(NotFound):
    """The file is not where it was stored."""


class OriginalNotKept(NotFound):
    """There is no file of this document: it was sent as text, or files are not kept here (KEEP_ORIGINAL_FILES)."""


class PageNotFound(NotFound):
    """The document has no such page."""


class ChunkNotFound(NotFound):
    """The page has no such passage; the document may have been processed anew since."""


class NoPageImages(Conflict):
    """Only pages of PDF files can be shown as pictures."""


class PageNotDrawn(Conflict):
    """The page can't be drawn: the file is damaged or locked, or the page too heavy."""


class OriginalDamaged(AppError):
    """The stored file is not what was sent any more, so it is not given out."""

    category = Category.BAD_GATEWAY


class OriginalsUnavailable(Unavailable):
    """The storage of the files does not answer; try again shortly."""


class EmptyFile(Invalid):
    """The file is empty."""


class UnsupportedFile(AppError):
    """This type of file can't be read."""

    category = Category.UNSUPPORTED


class FileTooLarge(TooLarge):
    """The file is larger than the limit."""


class TooManyFiles(TooLarge):
    """There are more files in this request than the limit."""


class NotAnUpload(Invalid):
    """Send the files as multipart/form-data, each in a part named `file` or `files`."""


class UploadInterrupted(Invalid):
    """The request ended before the file did; send it again."""


class NotProcessing(Conflict):
    """Nothing is being done to this document that could be cancelled."""


class NothingToReprocess(Conflict):
    """There is nothing to process again: neither the file nor the text of this document is kept."""


class Superseded(Conflict):
    """The document was deleted or changed while it was being processed."""


class IdempotencyKeyInUse(Conflict):
    """A request with this Idempotency-Key is still being answered; try again shortly."""


class IdempotencyKeyReused(Invalid):
    """This Idempotency-Key was used for another request."""


class IdempotencyKeyInvalid(Invalid):
    """An Idempotency-Key has 1 to 255 printable characters."""


class EmbeddingModelMismatch(Unavailable):
    """The index was built by an embedding model that this process can't use."""


class IndexMoved(Unavailable):
    """The index was switched to another build just now; try again."""


class RebuildUnderWay(Conflict):
    """Another rebuild of the index is under way; wait for its end, or cancel it (DELETE /admin/index/rebuild)."""


class NoRebuild(NotFound):
    """There is no rebuild of the index."""


class RebuildNotRunning(Conflict):
    """The rebuild can't be cancelled any more: the new index is served already."""


class InvalidRebuild(Invalid):
    """The index can't be built like this."""


class ProviderError(AppError):
    """The model provider answered with an error."""

    category = Category.BAD_GATEWAY


class ProviderUnavailable(AppError):
    """The model provider can't be reached or is overloaded; try again shortly."""

    category = Category.UNAVAILABLE


class ProviderPaused(ProviderUnavailable):
    """The model provider has failed several times in a row, so it is not asked for a while; try again then."""


class ProviderTimeout(AppError):
    """The model provider did not answer in time."""

    category = Category.GATEWAY_TIMEOUT


class ProviderStreamInterrupted(AppError):
    """The model provider broke off in the middle of the answer."""

    category = Category.BAD_GATEWAY


class TokenExpired(Unauthenticated):
    """The access token has expired: get a new one from /auth/refresh."""


class LoginFailed(Unauthenticated):
    """The e-mail address or the password is wrong."""


class WrongPassword(Forbidden):
    """The present password is wrong."""


class TotpRequired(Unauthenticated):
    """The password is right; send the code of the authenticator app (or a recovery code) as `totp_code` too."""


class TotpWrong(Unauthenticated):
    """The code is wrong, too old, or was used already; wait for the next one."""


class TotpCodeRefused(Forbidden):
    """The code is wrong, too old, or was used already; wait for the next one."""


class TotpEnrolmentRequired(Forbidden):
    """Admins need a second factor here: enrol with POST /auth/totp/enrol, then confirm it with /auth/totp/verify."""


class TotpAlreadyEnabled(Conflict):
    """The second factor is on already; disable it before you enrol another device."""


class TotpNotEnrolled(Conflict):
    """There is no second factor to do this with: enrol first."""


class TooManyAttempts(AppError):
    """Too many wrong attempts; try again later."""

    category = Category.LIMITED


class RateLimited(AppError):
    """Too many requests; slow down and try again."""

    category = Category.LIMITED

    def __init__(
        self,
        message: str | None = None,
        *,
        details: dict[str, Any] | None = None,
        retry_after_seconds: float | None = None,
        quotas: tuple[Any, ...] = (),
    ) -> None:
        super().__init__(message, details=details, retry_after_seconds=retry_after_seconds)
        self.quotas = quotas


class BudgetSpent(AppError):
    """The budget is spent; no model was called."""

    category = Category.PAYMENT_REQUIRED


class BudgetReserved(AppError):
    """What is left of the budget is reserved by answers under way; try again in a moment."""

    category = Category.LIMITED


class McpOff(NotFound):
    """Agents can't connect here (setting MCP)."""


class BudgetNotFound(NotFound):
    """There is no such budget."""


class BudgetExists(Conflict):
    """There is a budget of this subject and period already: change that one."""


class TooManyBudgets(Conflict):
    """The organization has as many budgets as it can have."""


class InvalidPeriod(Invalid):
    """The range of time is empty or longer than the limit."""


class InvalidMessage(Invalid):
    """The message is none that this connection knows, or lacks something."""


class TooManyAnswers(AppError):
    """Too many answers are followed on this connection at once; wait for one of them to end."""

    category = Category.LIMITED


class TooManyConnections(AppError):
    """There are too many connections with these credentials; close one of them."""

    category = Category.LIMITED


class InvalidRefreshToken(Unauthenticated):
    """The refresh token is unknown, expired, ended, or was used before; log in again."""


class InvalidOneTimeToken(Invalid):
    """The link is wrong, expired, or was used already; ask for a new one."""


class SignupClosed(Forbidden):
    """Nobody can sign up here (setting SIGNUP); ask an administrator for an account."""


class InvitationRequired(Forbidden):
    """Signing up needs an invitation here (setting SIGNUP); ask an administrator for one."""


class EmailRequired(Invalid):
    """An e-mail address is needed to sign up without an invitation."""


class EmailTaken(Conflict):
    """There is an account with this e-mail address already."""


class UserRequired(Forbidden):
    """This is for a person who has logged in, not for an API key."""


class SuperadminRequired(Forbidden):
    """Only a superadmin may do this."""


class BeyondOwnRights(Forbidden):
    """Nobody can give, or act upon, rights that they do not have themselves."""


class LastAdmin(Conflict):
    """This is the organization's last active admin: make somebody else an admin first."""


class LastSuperadmin(Conflict):
    """This is the last active superadmin: make somebody else a superadmin first."""


class OrganizationHasSuperadmins(Conflict):
    """A superadmin belongs to this organization, so it can't be deleted."""


class UserNotFound(NotFound):
    """There is no such user."""


class AdminsOnly(Forbidden):
    """Only admins may do this."""


class KeyIsRestricted(Forbidden):
    """This API key is restricted to certain collections and can't make new ones."""


class CollectionReadOnly(Forbidden):
    """You may read this collection but not add to it."""


class DocumentReadOnly(Forbidden):
    """You may read this document but not change it: somebody else added it."""


class CollectionRequired(Invalid):
    """Name the collection: this API key is restricted to several."""


class CollectionNotEmpty(Conflict):
    """There are documents in this collection; `?force=true` deletes them with it."""


class SameTextElsewhere(Conflict):
    """Another document of the collection has this text."""

    code = "conflict"


class DefaultCollection(Conflict):
    """The default collection can't be deleted: documents go there when no collection is named."""


class PersonalCollection(Conflict):
    """A personal collection, like the files of a session, is its owner's alone: it has no access list and can't be opened."""


class InvitationNotFound(NotFound):
    """There is no such invitation."""


class ApiKeyNotFound(NotFound):
    """There is no such API key."""


class BoundKeyChatsOnly(Invalid):
    """An API key that is bound to a bot has the scope `chat` and no other."""


class OrganizationNotFound(NotFound):
    """There is no such organization."""


class ExpiryInThePast(Invalid):
    """The moment of expiry has passed already."""


class SecretUnreadable(Unavailable):
    """A stored secret can't be decrypted with this SECRET_KEY; the operator must add the one that encrypted it."""


class StartupError(Exception):
    """The service can't start; the message says what to do. Not for HTTP: it ends the process."""
