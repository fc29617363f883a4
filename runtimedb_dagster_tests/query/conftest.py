"""No setting of this machine reaches these tests."""

from runtimedb_dagster_tests.support.fixtures import nothing_from_outside  # noqa: F401 - by itself
