"""The tests that fsspec has for every file system, but those of copies, which are in a file of their own."""

from fsspec.tests import abstract

from tests.support.fsspec_fixtures import Fixtures, quick_server

__all__ = ["quick_server"]


class TestGet(abstract.AbstractGetTests, Fixtures):
    pass


class TestPut(abstract.AbstractPutTests, Fixtures):
    pass


class TestOpen(abstract.AbstractOpenTests, Fixtures):
    pass


class TestPipe(abstract.AbstractPipeTests, Fixtures):
    pass


def test_every_class_of_tests_of_fsspec_is_run():
    theirs = {name for name in dir(abstract) if name.startswith("Abstract") and name.endswith("Tests")}
    ours = {base.__name__ for each in (TestGet, TestPut, TestOpen, TestPipe) for base in each.__mro__}
    assert theirs - ours == {"AbstractCopyTests"}
