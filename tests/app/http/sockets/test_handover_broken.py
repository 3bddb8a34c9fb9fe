"""Large bodies that are refused or break off, with and without socket handover."""

import pytest

from tests.support.live import eventually
from tests.support.raw_sockets import KIB, MIB, NOISE, WiredServer, query

DATA = NOISE[: 12 * MIB]
SMALL = NOISE[: 2 * MIB]
TOKEN = "secret-0123456789abcdef"
UPLOAD = "/v1/uploads/0123/files/model.pt"


@pytest.fixture(scope="module", params=[True, False], ids=["handover", "plain"])
def server(request, tmp_path_factory):
    with WiredServer(tmp_path_factory.mktemp("wired") / "root", socket_handover=request.param) as live:
        yield live


@pytest.fixture(scope="module", params=[True, False], ids=["handover", "plain"])
def guarded(request, tmp_path_factory):
    with WiredServer(
        tmp_path_factory.mktemp("guarded") / "root", socket_handover=request.param, admin_token=TOKEN
    ) as live:
        yield live


@pytest.fixture(autouse=True)
def quiet(request):
    used = request.getfixturevalue("guarded" if "guarded" in request.fixturenames else "server")
    with used.keeping_quiet():
        yield


def refused(server, wire, answer, expected, place=None, data=DATA):
    """Expect a refusal, and then a usable connection or one that was announced to close."""
    assert (answer.status, answer.code) == expected
    if answer.headers.get("connection") == "close":
        assert wire.is_ended()
        return
    wire.send(server.live)
    assert wire.answer().status == 200
    if place is not None:
        wire.send(server.ask("PUT", place, data), data)
        assert wire.answer().status == 200
        assert server.commit(place) == data


REFUSED = [
    pytest.param("PUT", UPLOAD, {}, (404, "upload_not_found"), id="of no upload"),
    pytest.param("PUT", "{place}x", {}, (404, "file_not_found"), id="of no file"),
    pytest.param("PUT", "{place}", {"Sec-Fetch-Site": "cross-site"}, (403, "cross_site"), id="of another site"),
    pytest.param("PUT", "{place}", {"Host": "evil.example"}, (403, "host_not_allowed"), id="for another host"),
    pytest.param("PUT", "{place}?offset=1", {}, (422, "wrong_length"), id="beyond the file"),
    pytest.param("PUT", "{place}?offset=x", {}, (422, "invalid_request"), id="that makes no sense"),
    pytest.param("POST", "{save}&mode=max", {}, (409, "mode_conflict"), id="of the other mode"),
    pytest.param("POST", "/v1/info", {}, (405, "method_not_allowed"), id="by another method"),
    pytest.param("POST", "/v1/uploads", {}, (413, "too_large"), id="too large for JSON"),
]


@pytest.mark.parametrize(("method", "target", "headers", "expected"), REFUSED)
@pytest.mark.parametrize("patient", [False, True], ids=["all at once", "after the refusal"])
def test_a_body_that_is_refused_unread_leaves_its_connection_usable(
    server, directory, method, target, headers, expected, patient
):
    server.save(directory, epoch=1, metric=1, mode="min")
    place = server.begin(directory, SMALL)
    target = target.format(place=place, save="/v1/checkpoints" + query(directory=directory, name="other.pt"))
    body = SMALL if expected[0] != 413 else SMALL * 17
    with server.wire() as wire:
        wire.send(server.ask(method, target, body, **headers), b"" if patient else body)
        answer = wire.answer()
        if patient and answer.headers.get("connection") != "close":
            wire.send(body)
        refused(server, wire, answer, expected, place, SMALL)
    assert eventually(lambda: not server.received_files(place))


@pytest.mark.parametrize("authorization", [{}, {"Authorization": "Bearer wrong"}], ids=["none", "wrong"])
@pytest.mark.parametrize("headers", [{}, {"Expect": "100-continue"}], ids=["unasked", "asked first"])
def test_a_body_without_the_token_is_refused(guarded, authorization, headers):
    with guarded.wire() as wire:
        wire.send(guarded.ask("PUT", UPLOAD, DATA, **headers, **authorization), b"" if headers else DATA)
        answer = wire.answer()
        if headers and answer.headers.get("connection") != "close":
            wire.send(DATA)
        refused(guarded, wire, answer, (401, "unauthorized"))


def test_a_client_that_asks_first_is_refused_before_it_sends(server, directory):
    place = server.begin(directory, DATA)
    with server.wire() as wire:
        wire.send(server.ask("PUT", UPLOAD, DATA, Expect="100-continue"))
        answer = wire.answer()
        if answer.headers.get("connection") != "close":
            wire.send(DATA)
        refused(server, wire, answer, (404, "upload_not_found"), place)


@pytest.mark.parametrize(
    "wrong",
    [
        pytest.param(0, id="in the first chunk"),
        pytest.param(5, id="in the middle"),
        pytest.param(11, id="in the last chunk"),
    ],
)
@pytest.mark.parametrize("how", ["all at once", "waiting for the refusal", "asked first"])
def test_a_body_that_is_refused_half_read_leaves_its_connection_usable(server, directory, wrong, how):
    place = server.begin(directory, DATA)
    spoilt = bytearray(DATA)
    spoilt[wrong * MIB] ^= 1
    with server.wire() as wire:
        if how == "asked first":
            wire.send(server.ask("PUT", place, DATA, Expect="100-continue"))
            assert wire.head().status == 100
            wire.send(spoilt)
        elif how == "waiting for the refusal" and wrong < 11:
            sent = (wrong + 5) * MIB  # the server verifies some chunks together
            wire.send(server.ask("PUT", place, DATA), spoilt[:sent])
            assert eventually(lambda: not server.received_files(place))
            wire.send(spoilt[sent:])
        else:
            wire.send(server.ask("PUT", place, DATA), spoilt)
        answer = wire.answer()
        assert eventually(lambda: not server.received_files(place))
        assert server.missing(place) == [(wrong * MIB, len(DATA) - wrong * MIB)]
        refused(server, wire, answer, (422, "digest_mismatch"), place)


def test_what_is_sent_right_behind_a_refused_body_is_heard(server, directory):
    place = server.begin(directory, DATA)
    spoilt = b"!" + DATA[1:]
    put = server.ask("PUT", place, DATA)
    with server.wire() as wire:
        wire.send(put, spoilt, server.live, server.ask("PUT", UPLOAD, DATA), DATA, put, spoilt, put, DATA, server.live)
        assert [wire.answer().status for _ in range(6)] == [422, 200, 404, 422, 200, 200]
    assert server.commit(place) == DATA


@pytest.mark.parametrize("reset", [False, True], ids=["closed", "reset"])
@pytest.mark.parametrize("afterwards", ["sent again", "sent on"])
def test_what_was_verified_of_a_body_that_broke_off_stays(server, directory, reset, afterwards):
    place = server.begin(directory, DATA)
    rest = [(4 * MIB, 8 * MIB)]
    with server.wire() as wire:
        wire.send(server.ask("PUT", place, DATA), DATA[: 6 * MIB])
        assert eventually(lambda: server.missing(place) == rest)
        assert eventually(lambda: server.handed_over() == server.has_handover)
        wire.leave(reset=reset)
    assert eventually(lambda: not server.received_files(place) and server.handed_over() == 0)
    assert server.missing(place) == rest
    assert server.http.post(place.partition("/files/")[0] + "/commit").json()["code"] == "ranges_missing"
    start = 4 * MIB if afterwards == "sent on" else 0
    server.http.put(place + query(offset=start), content=DATA[start:]).raise_for_status()
    assert server.commit(place) == DATA


@pytest.mark.parametrize("reset", [False, True], ids=["closed", "reset"])
def test_nothing_is_left_of_a_single_shot_that_broke_off(server, directory, reset):
    before = server.incoming()
    with server.wire() as wire:
        wire.send(server.ask("POST", "/v1/checkpoints" + query(directory=directory), DATA), DATA[: 6 * MIB])
        assert eventually(lambda: server.incoming() != before)
        wire.leave(reset=reset)
    assert eventually(lambda: server.incoming() == before)
    assert server.http.get("/v1/checkpoints", params={"directory": directory}).status_code == 404


def test_a_client_that_leaves_instead_of_going_on_is_forgotten(server, directory):
    place = server.begin(directory, DATA)
    with server.wire() as wire:
        wire.send(server.ask("PUT", place, DATA, Expect="100-continue"))
        assert wire.head().status == 100
    assert eventually(lambda: not server.received_files(place) and server.handed_over() == 0)
    assert server.missing(place) == [(0, len(DATA))]


def test_a_client_that_leaves_within_a_refused_body_is_forgotten(server, directory):
    place = server.begin(directory, DATA)
    sockets = len(server.opened("socket:"))
    with server.wire() as wire:
        wire.send(server.ask("PUT", place, DATA), b"!" * (6 * MIB))
        assert wire.answer().code == "digest_mismatch"
    assert eventually(lambda: len(server.opened("socket:")) <= sockets)


def test_a_hundred_bodies_that_break_off_leave_nothing_behind(server, directory):
    place = server.begin(directory, SMALL)

    def ten():
        for number in range(10):
            with server.wire() as wire:
                wire.send(server.ask("PUT", place, SMALL), SMALL[: 600 * KIB])
                wire.leave(reset=bool(number % 2))
        server.http.put(place, content=SMALL).raise_for_status()
        assert eventually(lambda: not server.received_files(place) and server.handed_over() == 0)
        opened = [link for link in server.opened() if "/catalog.db" not in link]  # the catalog holds a few open
        return server.threads(), len(opened)

    threads, descriptors = ten()
    for _ in range(10):
        now = ten()
    assert now[0] <= threads + 12  # the size of the thread pool
    assert now[1] <= descriptors + 3
    assert server.commit(place) == SMALL
