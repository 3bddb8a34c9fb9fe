"""Errors and warnings: refusals become errors of Python's own families, and warnings name the user's line."""

import inspect
import sys
from pathlib import Path
from pickle import UnpicklingError

import pytest

import app.core.errors
import holdfast
from holdfast import CheckpointManager, errors

PACKAGE = Path(holdfast.__file__).parent

FAMILIES = {
    errors.CheckpointNotFound: FileNotFoundError,
    errors.CheckpointExists: FileExistsError,
    errors.InvalidRequest: ValueError,
    errors.ModeConflict: ValueError,
    errors.NotImproved: ValueError,
    errors.NotAllowed: PermissionError,
    errors.OutOfSpace: OSError,
    errors.ServerUnreachable: ConnectionError,
    errors.ServerFailed: RuntimeError,
    errors.IntegrityError: OSError,
    errors.UnsafeCheckpoint: UnpicklingError,
    errors.UnreadableCheckpoint: RuntimeError,
    errors.MissingPackage: ModuleNotFoundError,
    errors.IncompleteCheckpoint: RuntimeError,
    errors.CommitTimeout: TimeoutError,
    errors.AttemptSuperseded: RuntimeError,
}


def test_every_error_belongs_to_one_of_pythons_families():
    mine = {kind for _, kind in inspect.getmembers(errors, inspect.isclass) if issubclass(kind, errors.HoldfastError)}
    assert mine - {errors.HoldfastError} == set(FAMILIES)
    for kind, family in FAMILIES.items():
        assert issubclass(kind, family)
        assert f"{kind.__name__} " in errors.__doc__
        assert f"({family.__name__})" in errors.__doc__


@pytest.mark.parametrize(
    ("refusal", "kind"),
    [
        (app.core.errors.DirectoryNotFound, errors.CheckpointNotFound),
        (app.core.errors.CheckpointRemoved, errors.CheckpointNotFound),
        (app.core.errors.Pinned, errors.CheckpointExists),
        (app.core.errors.NameTaken, errors.CheckpointExists),
        (app.core.errors.ForeignFile, errors.CheckpointExists),
        (app.core.errors.ModeConflict, errors.ModeConflict),
        (app.core.errors.NotImproved, errors.NotImproved),
        (app.core.errors.SaveIdReused, errors.InvalidRequest),
        (app.core.errors.InvalidName, errors.InvalidRequest),
        (app.core.errors.Unauthorized, errors.NotAllowed),
        (app.core.errors.CrossSite, errors.NotAllowed),
        (app.core.errors.NoSpace, errors.OutOfSpace),
        (app.core.errors.Altered, errors.IntegrityError),
        (app.core.errors.NotReady, errors.ServerFailed),
        (app.core.errors.BodyAltered, errors.ServerUnreachable),
        (app.core.errors.PathTaken, errors.CheckpointExists),
        (app.core.errors.WritersDisagree, errors.InvalidRequest),
        (app.core.errors.WritersMissing, errors.IncompleteCheckpoint),
        (app.core.errors.FilesMissing, errors.IncompleteCheckpoint),
        (app.core.errors.AttemptSuperseded, errors.AttemptSuperseded),
    ],
)
def test_the_servers_refusals_become_these_errors(refusal, kind):
    error = errors.from_problem(refusal.status, {"code": refusal.code, "detail": "what happened"})
    assert type(error) is kind
    assert error.code == refusal.code
    assert str(error) == f"what happened [{refusal.code}]"


def test_an_unknown_code_is_judged_by_its_status():
    error = errors.from_problem(404, {"code": "something_new"})
    assert isinstance(error, FileNotFoundError)
    assert error.code == "something_new"


def test_an_answer_that_is_no_problem_detail_is_the_servers_failure():
    error = errors.from_problem(502, {})
    assert isinstance(error, errors.ServerFailed)
    assert error.code == "http_502"


def giving(module, path):
    """Make a function of a module that warns."""
    names = {"__name__": module, "warn": errors.warn}
    exec(compile("def give():\n    warn('look here')", path, "exec"), names)
    return names["give"]


FOLDERS = sorted(path.parent.relative_to(PACKAGE) for path in PACKAGE.rglob("__init__.py"))


@pytest.mark.parametrize("folder", FOLDERS, ids=str)
def test_a_warning_of_any_folder_points_at_the_line_outside_the_package(folder):
    give = giving(".".join(["holdfast", *folder.parts, "module"]), str(PACKAGE / folder / "module.py"))
    line = sys._getframe().f_lineno + 2
    with pytest.warns(errors.HoldfastWarning) as caught:
        give()
    assert (caught[0].filename, caught[0].lineno) == (__file__, line)


@pytest.mark.parametrize(
    ("module", "path"),
    [
        pytest.param("__main__", PACKAGE / "train.py", id="a script in the folder of the package"),
        pytest.param("runs.train", PACKAGE / "runs" / "train.py", id="a package below it"),
        pytest.param("holdfast_runs.train", PACKAGE.parent / "holdfast_runs" / "train.py", id="one beside it"),
    ],
)
def test_a_warning_points_at_a_users_file_also_in_the_folder_of_the_package(module, path):
    with pytest.warns(errors.HoldfastWarning) as caught:
        giving(module, str(path))()
    assert (caught[0].filename, caught[0].lineno) == (str(path), 2)


def test_warnings_of_a_save_point_at_its_line():
    manager = CheckpointManager("runs/a", rank=1)
    line = sys._getframe().f_lineno + 2
    with pytest.warns(errors.HoldfastWarning) as caught:
        manager.save({}, epoch=1, metrc=0.5)
    assert ["rank 1 does not save" in str(each.message) for each in caught] == [False, True]
    assert {(each.filename, each.lineno) for each in caught} == {(__file__, line)}


def test_each_message_is_given_once():
    warn_once = errors.WarnOnce()
    with pytest.warns(errors.HoldfastWarning) as caught:
        [warn_once(message) for message in ("one", "two", "one")]
    assert [str(each.message) for each in caught] == ["one", "two"]
    assert {each.filename for each in caught} == {__file__}
