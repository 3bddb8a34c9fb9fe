"""Deduplication uses only chunks that the token may read: deltas and a base reveal nothing of others."""

import pytest

from tests.data.delta_states import Uploader, asked, declared, pieces
from tests.support.live import LiveServer
from tests.support.tokens import bearer, mint


@pytest.fixture(scope="module")
def guarded(tmp_path_factory):
    with LiveServer(tmp_path_factory.mktemp("guarded") / "root") as live:
        live.admin = bearer(mint(live.root, "admin"))
        yield live


@pytest.fixture
def act_as(guarded):
    """Uploads to a directory with a token of these scopes and this prefix."""

    def act(directory, *scopes, prefix=""):
        guarded.http.headers.update(bearer(mint(guarded.root, *scopes, prefix=prefix)))
        return Uploader(guarded, directory)

    yield act
    del guarded.http.headers["authorization"]


@pytest.fixture
def secret(guarded, act_as, directory):
    """A checkpoint of another team: its state and its id."""
    state = pieces(4)
    uploader = act_as(f"other/{directory}", "admin")
    upload = uploader.begin(declared(state), name="secret.pt")
    uploader.send(upload, state=state)
    uploader.committed(upload, state)
    return state, upload["id"]


@pytest.mark.parametrize(
    ("scopes", "prefix", "is_copied"),
    [
        pytest.param(["write"], "", False, id="may not read"),
        pytest.param(["read", "write"], "team", False, id="not there"),
        pytest.param(["read", "write"], "", True, id="may"),
        pytest.param(["read", "write"], "other", True, id="may there"),
        pytest.param(["admin"], "", True, id="may everything"),
    ],
)
def test_a_base_is_copied_from_by_who_may_read_it(act_as, directory, secret, scopes, prefix, is_copied):
    state, base = secret
    uploader = act_as(f"{prefix or 'team'}/{directory}/mine", *scopes, prefix=prefix)
    upload = uploader.begin(declared(state), name="mine.pt", base=base)
    assert asked(upload) == ([] if is_copied else [("mine.pt", 0, sum(map(len, state)))])


def test_a_base_that_is_out_of_reach_is_answered_as_one_that_is_not_there(guarded, act_as, directory, secret):
    state, base = secret
    uploader = act_as(f"team/{directory}/mine", "read", "write", prefix="team")
    answers = [
        uploader.begin(declared(state), name="a.pt", base=some, save_id=f"save-{some}") for some in (base, "0123")
    ]
    told = [{**answer, "id": "", "expires_at": "", "save_id": "", "saved_after": ""} for answer in answers]
    for answer in told:
        for missing in answer["missing"]:
            missing.update(url="", expires_at="")
    assert told[0] == told[1]


@pytest.mark.parametrize(
    ("scopes", "is_copied"), [(["write"], False), (["read", "write"], True)], ids=["may not read", "may"]
)
def test_what_the_directory_holds_is_copied_for_who_may_read_it(act_as, directory, secret, scopes, is_copied):
    state, _ = secret
    uploader = act_as(f"other/{directory}", *scopes, prefix="other")
    for name in ("secret.pt", "new.pt"):
        upload = uploader.begin(declared(state), name=name)
        assert asked(upload) == ([] if is_copied else [(name, 0, sum(map(len, state)))])


@pytest.mark.parametrize(
    ("scopes", "prefix", "is_copied"),
    [
        pytest.param(["write"], "", False, id="may not read"),
        pytest.param(["read", "write"], "team", False, id="may not read the base"),
        pytest.param(["read", "write"], "", True, id="may"),
    ],
)
def test_digests_that_are_told_later_are_looked_for_only_if_who_tells_them_may_read(
    act_as, directory, secret, scopes, prefix, is_copied
):
    state, base = secret
    save = {"name": "mine.pt", "save_id": "job-17-epoch-2", "base": base}
    act_as(f"team/{directory}", "admin").begin(declared(state, hashed=False), **save)
    again = act_as(f"team/{directory}", *scopes, prefix=prefix).reserve(declared(state), **save).json()
    assert asked(again) == ([] if is_copied else [("mine.pt", 0, sum(map(len, state)))])


def test_who_only_writes_can_still_save_what_is_there(act_as, directory, secret):
    state, _ = secret
    uploader = act_as(f"other/{directory}", "write")
    upload = uploader.begin(declared(state), name="secret.pt")
    commit = f"/v1/uploads/{upload['id']}/commit"
    assert uploader.http.post(commit).json()["code"] == "ranges_missing"
    uploader.send(upload, state=state)
    assert uploader.http.post(commit).status_code == 201
