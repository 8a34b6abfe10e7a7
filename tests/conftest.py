"""Fixtures of the whole suite, one file a concern under `tests/fixtures`."""

pytest_plugins = (
    "tests.fixtures.postgres",
    "tests.fixtures.service",
    "tests.fixtures.provider",
    "tests.fixtures.guarded",
    "tests.fixtures.native_providers",
    "tests.fixtures.people",
    "tests.fixtures.workers",
)
