"""How people get an account by themselves, as far as the setting SIGNUP lets them."""

from dataclasses import dataclass, field

from app.core import security
from app.core.errors import EmailTaken, InvalidOneTimeToken, InvitationRequired, SignupClosed
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

    Raises SignupClosed, InvitationRequired, InvalidOneTimeToken, EmailTaken or TooManyAttempts.
    """
    if runtime.settings.signup == "closed":
        raise SignupClosed
    if applicant.invitation is None and runtime.settings.signup == "invitation":
        raise InvitationRequired
    await guesses.at_signup(runtime.database, address=address)
    password_hash = await passwords.hashed(applicant.password)
    async with runtime.database.unit_of_work(SYSTEM) as session:
        if applicant.invitation is None:
            user = await _found_organization(session, applicant, password_hash)
        else:
            user = await _accept(session, applicant, applicant.invitation, password_hash)
        if user is None:
            raise EmailTaken
    return user


async def _accept(session: Transaction, applicant: Applicant, token: str, password_hash: str) -> User | None:
    """The address is the one that was invited, whatever the applicant says: it is what the admin vouched for."""
    invitation = await one_time.accept_invitation(session, security.token_hash(token))
    if invitation is None or applicant.email not in (None, invitation.email):
        raise InvalidOneTimeToken
    return await AccountRepository(session).add(
        organization_id=invitation.organization_id,
        email=invitation.email,
        name=applicant.name,
        password_hash=password_hash,
        role=Role(invitation.role),
    )


async def _found_organization(session: Transaction, applicant: Applicant, password_hash: str) -> User | None:
    email = applicant.email or ""
    organization_id = await IdentityRepository(session).add_organization(
        applicant.organization_name or applicant.name or email
    )
    return await AccountRepository(session).add(
        organization_id=organization_id,
        email=email,
        name=applicant.name,
        password_hash=password_hash,
        role=Role.ADMIN,
    )
