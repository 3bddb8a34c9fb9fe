"""Refusals as errors of Python's own families, each with the server's code."""

import inspect
from pickle import UnpicklingError

import pytest

import app.core.errors
from holdfast import errors

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


def test_a_warning_points_at_the_line_outside_the_package():
    with pytest.warns(errors.HoldfastWarning) as caught:
        errors.warn("look here")
    assert caught[0].filename == __file__
