"""The tests that fsspec has for every file system: copies."""

from fsspec.tests import abstract

from tests.support.fsspec_fixtures import Fixtures, quick_server

__all__ = ["quick_server"]


class TestCopy(abstract.AbstractCopyTests, Fixtures):
    pass
