"""Every operation of the OpenAPI description, called as it says and as it does not: no failure of ours, no answer that it
does not describe.

As an admin, a user and an API key, on objects that exist and on invented ones.
"""

import asyncio
import contextlib
import os
from collections.abc import AsyncIterator
from typing import Any, Final

import pytest
import requests
import schemathesis
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis.errors import Unsatisfiable
from schemathesis import Case, GenerationMode
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
    status_code_conformance,
)

from app.core.principal import Role
from app.main import create_app
from tests.api.authorization_rows import ROWS, Cast, Persona, Row
from tests.fixtures.accounts import new_organization, new_person
from tests.fixtures.postgres import MakeDatabase
from tests.fixtures.service import Service, make_settings, running

CHECKS: Final = [
    not_a_server_error,
    status_code_conformance,
    content_type_conformance,
    response_schema_conformance,
    response_headers_conformance,
]
DESCRIBED: Final = create_app(make_settings()).openapi()
SCHEMA: Final = schemathesis.openapi.from_dict(DESCRIBED)
OPERATIONS: Final = [row for row in ROWS if row.path in DESCRIBED["paths"]]
CALLERS: Final = (Persona.ADMIN, Persona.USER, Persona.MANAGE_KEY)
_REACHED_BY_OTHERS: Final = {"/auth/totp/enrol", "/auth/totp/recovery-codes", "/auth/totp/disable"}
"""Whose rows speak of people with a second factor, which nobody here has."""


@pytest.fixture(scope="module")
async def own_service(make_database: MakeDatabase) -> AsyncIterator[Service]:
    """A service that no other test uses: what is called here may delete what it finds."""
    async with running(make_settings(DB_URL=await make_database(), signup="open")) as service:
        yield service


def test_every_operation_of_the_description_is_called() -> None:
    described = {(method.upper(), path) for path, item in DESCRIBED["paths"].items() for method in item}

    assert described == {row.key for row in OPERATIONS}


@pytest.mark.parametrize("row", OPERATIONS, ids=lambda row: f"{row.method} {row.path}")
async def test_the_answers_are_as_described(own_service: Service, row: Row) -> None:
    await assert_conforms(own_service, row, examples=2)


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize("row", OPERATIONS, ids=lambda row: f"{row.method} {row.path}")
async def test_the_answers_are_as_described_at_length(own_service: Service, row: Row) -> None:
    await assert_conforms(own_service, row, examples=int(os.environ.get("IBID_EXAMPLES", "100")))


async def assert_conforms(service: Service, row: Row, *, examples: int) -> None:
    cast = await gather(service)
    caller = Caller(service, row, cast)
    await caller.prepare()
    await asyncio.to_thread(caller.call_as_meant)
    await asyncio.to_thread(caller.call_as_described, examples=examples)

    assert row.status in caller.answered or row.path in _REACHED_BY_OTHERS, caller.answered


class Caller:
    """Calls one operation as everybody, and checks each answer against the description."""

    def __init__(self, service: Service, row: Row, cast: Cast) -> None:
        self.service, self.row, self.cast = service, row, cast
        self.operation = SCHEMA[row.path][row.method]
        self.existing: dict[Persona, dict[str, str]] = {}
        self.answered: set[int] = set()
        self.session = requests.Session()
        self.session.trust_env = False

    async def prepare(self) -> None:
        """An object for each caller, since a call may delete it."""
        if self.row.make is not None:
            for persona in (*CALLERS, Persona.SUPERADMIN):
                self.existing[persona] = await self.row.make(self.cast)

    def call_as_meant(self) -> None:
        """The example of the authorization matrix, which succeeds for some."""
        for persona in (*CALLERS, Persona.SUPERADMIN):
            body = self.row.body(self.cast, persona)
            parts: dict[str, Any] = {} if body is None else {"body": body, "media_type": self._media_type()}
            case = self.operation.Case(path_parameters=self.existing.get(persona, {}), **parts)
            self._call(case, persona, files=self.row.files() if self.row.files else None)

    def call_as_described(self, *, examples: int) -> None:
        """Generated requests, with ids that exist and with invented ones."""

        def call(case: "Case[Any]") -> None:
            invented = case.path_parameters
            for persona in CALLERS:
                case.path_parameters = invented
                self._call(case, persona)
                # Nobody here is a superadmin, so that whoever names an organization gets no further.
                case.headers.pop("X-Organization-ID", None)
                if persona in self.existing:
                    case.path_parameters = self.existing[persona]
                self._call(case, persona)

        for mode in GenerationMode:
            with contextlib.suppress(Unsatisfiable):  # nothing can be wrong about a request without parts
                rules = settings(
                    max_examples=examples,
                    derandomize=True,
                    database=None,
                    deadline=None,
                    phases=[Phase.generate],
                    suppress_health_check=list(HealthCheck),
                )
                rules(given(self.operation.as_strategy(generation_mode=mode))(call))()

    def _call(self, case: "Case[Any]", persona: Persona, files: Any = None) -> None:
        headers = {"Authorization": f"Bearer {self.cast.credentials[persona]}"}
        sent = {} if files is None else {"files": files}
        response = case.call(
            base_url=self.service.url, session=self.session, headers=headers, timeout=60, **sent
        )
        self.answered.add(response.status_code)
        case.validate_response(response, checks=CHECKS, headers=headers)

    def _media_type(self) -> str:
        content = DESCRIBED["paths"][self.row.path][self.row.method.lower()]["requestBody"]["content"]
        return str(next(iter(content)))


async def gather(service: Service) -> Cast:
    """Fresh people of an organization of their own: what one operation does to them is no other's concern."""
    home = await new_organization(service)
    people = {
        Persona.ADMIN: await new_person(service, Role.ADMIN, organization_id=home),
        Persona.USER: await new_person(service, Role.USER, organization_id=home),
        Persona.SUPERADMIN: await new_person(service, Role.SUPERADMIN, organization_id=home),
        Persona.BEFORE_TOTP: await new_person(service, Role.USER, organization_id=home),
    }
    key, _ = await service.new_key(organization_id=home)
    credentials: dict[Persona, str | None] = {
        persona: person.access_token for persona, person in people.items()
    }
    credentials[Persona.MANAGE_KEY] = key
    return Cast(service, home, people, credentials)
