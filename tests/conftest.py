"""Fixtures of the whole suite, one file a concern under `tests/fixtures`."""

from hypothesis import settings

pytest_plugins = (
    "tests.fixtures.postgres",
    "tests.fixtures.service",
    "tests.fixtures.provider",
    "tests.fixtures.guarded",
    "tests.fixtures.native_providers",
    "tests.fixtures.people",
    "tests.fixtures.workers",
)

# How long an example takes says more about the machine than about what is tested.
settings.register_profile("untimed", deadline=None)
settings.load_profile("untimed")
