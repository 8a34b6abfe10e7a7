"""How people get an account by themselves, as far as the setting SIGNUP lets them."""

from dataclasses import dataclass, field

from app.core import security
from app.core.errors import EmailRequired, EmailTaken, InvalidOneTimeToken, InvitationRequired, SignupClosed
from app.core.principal import SYSTEM, Role
from app.db.engine import Transaction
from app.db.models import User
from app.db.repositories import one_time
from app.db.repositories.accounts import AccountRepository
from app.db.repositories.identity import IdentityRepository
from app.services import guesses, passwords
from app.services.runtime import Runtime


@dataclass(frozen=True, slots=True)
class Applicant:
    """Who wants an account. Without an `invitation` they get an organization of their own."""

    password: str = field(repr=False)
    email: str | None
    name: str
    organization_name: str | None
    invitation: str | None = field(repr=False)


async def sign_up(runtime: Runtime, applicant: Applicant, *, address: str) -> User:
    """Make the account: by invitation in the organization that invites, else as admin of a new one.

    Raises SignupClosed, EmailRequired, InvitationRequired, InvalidOneTimeToken, EmailTaken or TooManyAttempts.
    """
    if runtime.settings.signup == "closed":
        raise SignupClosed
    if applicant.invitation is None and runtime.settings.signup == "invitation":
        raise InvitationRequired
    if applicant.invitation is None and applicant.email is None:
        raise EmailRequired
    await guesses.at_signup(runtime.database, address=address)
    password_hash = await passwords.hashed(applicant.password)
    async with runtime.database.unit_of_work(SYSTEM) as session:
        organization_id, email, role = await _place(session, applicant)
        user = await AccountRepository(session).add(
            organization_id=organization_id,
            email=email,
            name=applicant.name,
            password_hash=password_hash,
            role=role,
        )
        if user is None:
            raise EmailTaken
    return user


async def _place(session: Transaction, applicant: Applicant) -> tuple[str, str, Role]:
    """Organization, e-mail address and role of the new account: those of the invitation, or an organization of its own.

    The address is the one that was invited, whatever the applicant says: it is what the admin vouched for.
    """
    if applicant.invitation is None:
        email = applicant.email or ""
        name = applicant.organization_name or applicant.name or email
        return await IdentityRepository(session).add_organization(name), email, Role.ADMIN
    invitation = await one_time.accept_invitation(session, security.token_hash(applicant.invitation))
    if invitation is None or applicant.email not in (None, invitation.email):
        raise InvalidOneTimeToken
    return invitation.organization_id, invitation.email, Role(invitation.role)
