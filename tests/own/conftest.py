"""Shared by the tests of this folder."""

from tests.support.watches import the_machine_is_calm  # noqa: F401 - a fixture for all of them
