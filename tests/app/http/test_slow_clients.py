"""Slow clients: one that stalls is disconnected; one that is merely slow, or waits for the server, is not."""

import os
import signal
import time
from contextlib import suppress

import pytest

from tests.support.live import eventually
from tests.support.raw_sockets import KIB, MIB, NOISE, WiredServer, query

DATA = NOISE[: 8 * MIB]
OFTEN_S, LONGER_S = 0.05, 1.2
"""Interval between drops, in seconds; longer than the idle timeout of the patient server."""
DROPS = [b"x" * 100] * 200
"""Too slow in total, although each drop comes soon after the previous one."""


@pytest.fixture(scope="module", params=[True, False], ids=["handover", "plain"])
def has_handover(request):
    return request.param


@pytest.fixture(scope="module")
def server(has_handover, tmp_path_factory):
    """A server with very short timeouts."""
    short = dict.fromkeys(("head_timeout_s", "idle_timeout_s", "body_grace_s"), "0.4")
    with WiredServer(
        tmp_path_factory.mktemp("wired") / "root", socket_handover=has_handover, **short, min_bytes_per_s="20000"
    ) as live:
        yield live


@pytest.fixture(scope="module")
def patient(has_handover, tmp_path_factory):
    """A server with timeouts long enough for a busy machine."""
    short = {"head_timeout_s": "0.8", "idle_timeout_s": "0.8", "body_grace_s": "0.3", "min_bytes_per_s": "20000"}
    with WiredServer(tmp_path_factory.mktemp("patient") / "root", socket_handover=has_handover, **short) as live:
        yield live


@pytest.fixture(autouse=True)
def quiet(request):
    used = request.getfixturevalue("patient" if "patient" in request.fixturenames else "server")
    with used.keeping_quiet():
        yield


def is_left(wire):
    """Tell if the server sends a timeout and closes the connection."""
    answer = wire.answer()
    assert (answer.status, answer.code) == (408, "request_timeout")
    assert answer.headers["content-type"] == "application/problem+json"
    return wire.is_ended()


def dawdle(wire, *drops):
    """Send drop after drop, or nothing, until the server closes the connection."""
    assert wire.drip(*(drops or [b""]), every_s=OFTEN_S if drops else 10)


@pytest.mark.parametrize(
    ("before", "beginning", "drops"),
    [
        pytest.param(False, b"GET /health/live", [], id="that stopped"),
        pytest.param(False, b"GET / HTTP/1.1\r\nHost: localhost\r\n", [b"x: y\r\n"] * 200, id="that drips in"),
        pytest.param(False, b"", [b"\r\n"] * 200, id="that does not begin"),
        pytest.param(True, b"G", [], id="of a second request, that stopped"),
        pytest.param(True, b"", [b"\r\n"] * 200, id="of a second request, that does not begin"),
    ],
)
def test_a_head_does_not_take_longer_than_its_time(server, before, beginning, drops):
    with server.wire() as wire:
        if before:
            wire.send(server.live)
            assert wire.answer().status == 200
        wire.send(beginning)
        dawdle(wire, *drops)
        assert is_left(wire)


def test_a_connection_on_which_nothing_is_asked_is_closed_without_a_word(server):
    with server.wire() as wire:
        assert wire.is_ended()


@pytest.mark.parametrize(
    ("in_chunks", "early", "drops"),
    [
        pytest.param(False, 100, DROPS, id="drips in"),
        pytest.param(False, 6 * MIB, [], id="stops"),
        pytest.param(True, 100, DROPS, id="drips in, in chunks"),
        pytest.param(True, 6 * MIB, [], id="stops, in chunks"),
        pytest.param(True, 0, [b"1;" + b"x" * 100 + b"\r\nx\r\n"] * 200, id="drips in, in small chunks"),
    ],
)
def test_an_upload_whose_body_is_too_slow_can_be_resumed(server, directory, in_chunks, early, drops):
    place = server.begin(directory, DATA)
    head = server.ask("PUT", place, DATA)
    if in_chunks:
        head = server.ask("PUT", place + query(length=len(DATA)), Transfer_Encoding="chunked")
        head += b"800000\r\n" if early else b""
    with server.wire() as wire:
        wire.send(head, DATA[:early])
        dawdle(wire, *drops)
        assert is_left(wire)
    assert eventually(lambda: not server.received_files(place) and server.handed_over() == 0)
    verified = 4 * MIB if early >= 4 * MIB else 0
    assert server.missing(place) == [(verified, len(DATA) - verified)]
    server.http.put(place + query(offset=verified), content=DATA[verified:]).raise_for_status()
    assert server.commit(place) == DATA


@pytest.mark.parametrize("size", [100 * KIB, 4 * MIB])
@pytest.mark.parametrize("drops", [[], DROPS], ids=["stops", "drips in"])
def test_nothing_is_left_of_a_single_shot_that_is_too_slow(server, directory, size, drops):
    before = server.incoming()
    with server.wire() as wire:
        wire.send(server.ask("POST", "/v1/checkpoints" + query(directory=directory), DATA[:size]), b"x")
        dawdle(wire, *drops)
        assert is_left(wire)
    assert eventually(lambda: server.incoming() == before)
    assert server.http.get("/v1/checkpoints", params={"directory": directory}).status_code == 404


def test_json_that_is_too_slow_is_refused(server):
    with server.wire() as wire:
        wire.send(server.ask("POST", "/v1/prune", b"{" * 100, Content_Type="application/json"), b"{")
        assert is_left(wire)


def test_a_client_that_expects_100_and_then_stalls_is_disconnected(server, directory):
    place = server.begin(directory, DATA)
    with server.wire() as wire:
        wire.send(server.ask("PUT", place, DATA, Expect="100-continue"))
        assert wire.head().status == 100
        assert is_left(wire)


@pytest.mark.parametrize(
    ("sent", "drops", "code"),
    [
        pytest.param(b"", DROPS, "upload_not_found", id="drips in, refused unread"),
        pytest.param(b"!" * 6 * MIB, [], "digest_mismatch", id="stops, refused half read"),
    ],
)
def test_the_rest_of_a_body_that_was_refused_is_not_waited_for_either(server, directory, sent, drops, code):
    place = server.begin(directory, DATA) if sent else "/v1/uploads/0123/files/model.pt"
    with server.wire() as wire:
        wire.send(server.ask("PUT", place, DATA), sent)
        assert wire.answer().code == code
        dawdle(wire, *drops)
        assert wire.is_ended()


LARGE = "/v1/checkpoints/latest/content" + query(directory="runs/large")


def test_a_client_that_reads_nothing_of_a_file_is_disconnected(server):
    server.save("runs/large", NOISE)
    with server.wire(receive_buffer=16 * KIB) as wire:
        wire.send(server.ask("GET", LARGE))
        assert wire.head().status == 200
        assert eventually(lambda: server.opened("runs/large"))
        assert eventually(lambda: not server.opened("runs/large") and not server.handed_over())
        with suppress(ConnectionError):
            assert len(wire.read(len(NOISE))) < len(NOISE)


def test_a_client_that_reads_no_responses_is_disconnected(server):
    sockets = len(server.opened("socket:"))
    with server.wire(receive_buffer=4 * KIB) as wire:
        wire.send(server.ask("GET", "/openapi.json") * 200)
        assert wire.head().status == 200
        assert eventually(lambda: len(server.opened("socket:")) <= sockets)


def test_a_body_may_take_longer_if_it_is_fast_enough_on_the_whole(patient, directory):
    place = patient.begin(directory, DATA)
    pieces = [DATA[start : start + 600 * KIB] for start in range(0, len(DATA), 600 * KIB)]
    with patient.wire() as wire:
        wire.send(patient.ask("PUT", place, DATA))
        began = time.monotonic()
        wire.drip(*pieces, every_s=2 * OFTEN_S)
        assert time.monotonic() - began > LONGER_S, "this shows nothing"
        assert wire.answer().status == 200
    assert patient.commit(place) == DATA


def test_the_time_that_the_server_takes_does_not_count(patient, directory):
    place, half = patient.begin(directory, DATA), 4 * MIB
    small, whole = patient.wire(), patient.wire()
    with small, whole:
        small.send(patient.live[:-2])
        whole.send(patient.ask("PUT", place, DATA), DATA[:half])
        assert eventually(lambda: patient.received_files(place) and not whole.unsent_bytes()), "more would not fit"
        os.kill(patient.process_id, signal.SIGSTOP)
        whole.drip(DATA[half : half + 10 * KIB], every_s=LONGER_S)
        small.send(b"\r\n")
        os.kill(patient.process_id, signal.SIGCONT)
        whole.send(DATA[half + 10 * KIB :])
        assert (small.answer().status, whole.answer().status) == (200, 200)
    assert patient.commit(place) == DATA


def test_events_may_be_rare(patient, directory):
    last = patient.http.get("/v1/events?follow=false").text.removeprefix("id: ").strip()
    with patient.wire() as wire:
        wire.send(patient.ask("GET", "/v1/events", Last_Event_ID=last))
        assert wire.head().status == 200
        assert not wire.drip(b"", every_s=LONGER_S)
        patient.save(directory)
        assert b"checkpoint.saved" in wire.read(200)


def test_a_slow_reader_gets_the_file_and_the_pipelined_response(patient):
    patient.save("runs/large", NOISE)
    with patient.wire(receive_buffer=256 * KIB) as wire:
        wire.send(patient.ask("GET", LARGE), patient.live[:-2])
        assert wire.head().status == 200
        taken, began = [], time.monotonic()
        while time.monotonic() - began < LONGER_S:
            taken.append(wire.read(400 * KIB))
            time.sleep(OFTEN_S)
        taken.append(wire.read(len(NOISE) - sum(map(len, taken))))
        wire.send(b"\r\n")
        assert wire.answer().status == 200
    assert b"".join(taken) == NOISE
