"""That each fault is the one that it says it is, now and then, and that none is left when it should be over."""

import gc
import http.client
import json
import re
import socket
import socketserver
import struct
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing, suppress
from urllib.parse import urlsplit

import pytest

from tests.support.deadlines import DEADLINE_S
from tests.support.faults import KINDS, FaultProxy
from tests.support.live import eventually

ALWAYS = 100.0
BODY = bytes(range(256)) * 40
SHORT, LONG = 64, 300_000


class PlainServer:
    """Answers a request for ``/COUNT`` with so many bytes, and writes down all that comes."""

    def __init__(self):
        self.requests = []
        """The target and body of each whole request."""
        self.received = []
        """All bytes of each connection."""
        self.endings = []
        """The ends of connections: "fin" or "reset"."""
        plain = self

        class Handler(socketserver.BaseRequestHandler):
            def handle(self):
                received = bytearray()
                plain.received.append(received)
                try:
                    plain.serve(self.request, received)
                    plain.endings.append("fin")
                except OSError:
                    plain.endings.append("reset")

        class Listener(socketserver.ThreadingTCPServer):
            daemon_threads = True
            allow_reuse_address = True
            request_queue_size = 50

        self._listener = Listener(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._listener.server_address[1]}"

    def __enter__(self):
        threading.Thread(target=lambda: self._listener.serve_forever(0.01), daemon=True).start()
        return self

    def __exit__(self, *_):
        self._listener.shutdown()
        self._listener.server_close()

    def serve(self, connection, received):
        done = 0
        while data := connection.recv(1 << 16):
            received += data
            while (end := received.find(b"\r\n\r\n", done) + 4) >= 4:
                head = bytes(received[done:end])
                length = int((re.search(rb"(?i)content-length: (\d+)", head) or [0, 0])[1])
                if len(received) < end + length:
                    break
                target = head.split(b" ")[1].decode(errors="replace")
                self.requests.append((target, bytes(received[end : end + length])))
                done = end + length
                count = int("".join(re.findall(r"\d", target))[:6] or 0)
                connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % count + b"a" * count)


@pytest.fixture
def plain():
    with PlainServer() as server:
        yield server


@pytest.fixture
def through(plain):
    """Makes proxies before the plain server."""
    with ExitStack() as stack:
        yield lambda *kinds, **options: stack.enter_context(FaultProxy(plain.url, *kinds, **options))


def connected(proxy, timeout_s=DEADLINE_S):
    """A connection for HTTP that is closed with its block."""
    where = urlsplit(proxy.url)
    return closing(http.client.HTTPConnection(where.hostname, where.port, timeout=timeout_s))


def exchange(proxy, count=SHORT, body=BODY, timeout_s=DEADLINE_S):
    """Return the answer to a request on a connection of its own."""
    with connected(proxy, timeout_s) as connection:
        connection.request("PUT", f"/{count}", body)
        with closing(connection.getresponse()) as answer:
            return answer.status, answer.read()


def raw(proxy, count=SHORT, body=BODY):
    """All bytes that come for a request until the end of the connection."""
    where = urlsplit(proxy.url)
    with socket.create_connection((where.hostname, where.port), timeout=DEADLINE_S) as connection:
        connection.sendall(b"PUT /%d HTTP/1.1\r\nContent-Length: %d\r\n\r\n" % (count, len(body)) + body)
        return read_all(connection)


def read_all(connection):
    data = b""
    while piece := connection.recv(1 << 16):
        data += piece
    return data


def taken(action):
    """Measure the duration of a call, in seconds."""
    began = time.monotonic()
    action()
    return time.monotonic() - began


def good(count=SHORT):
    return 200, b"a" * count


# what all have in common


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_strikes_now_and_then_and_leaves_the_others_alone(through, kind):
    proxy = through(kind, seed=1)
    large = kind in ("bandwidth", "garble up", "garble down")
    count, body = (LONG, bytes(LONG)) if large else (8, BODY)
    together = 2 if kind == "reorder" else 1
    struck = untouched = 0
    while not (struck and untouched):
        before = proxy.struck
        with ThreadPoolExecutor(together) as pool:
            answers = list(pool.map(lambda _: attempt(proxy, count, body), range(together)))
        if answers == ["refused"]:
            time.sleep(0.02)  # the time was counted when it began
        elif answers == [good(count)] * together and proxy.struck == before:
            untouched += 1
        else:
            assert proxy.struck > before, answers
            struck += 1
        assert struck + untouched < 100


def attempt(proxy, count=SHORT, body=BODY, timeout_s=5.0):
    """Return the answer, or the error in place of it."""
    try:
        return exchange(proxy, count, body, timeout_s)
    except ConnectionRefusedError:
        return "refused"
    except (OSError, http.client.HTTPException) as error:
        return error


@pytest.mark.parametrize("kind", KINDS)
def test_without_severity_and_when_it_is_calm_everything_passes(plain, through, kind):
    gentle, calm = through(kind, severity=0.0), through(kind, severity=ALWAYS)
    calm.calm()
    for proxy in (gentle, calm):
        with connected(proxy) as connection:
            for count in (SHORT, LONG, 0):
                connection.request("PUT", f"/{count}", BODY)
                answer = connection.getresponse()
                assert (answer.status, answer.read()) == good(count)
        assert proxy.struck == 0
        assert (proxy.requests, proxy.connections) == (3, 3 if KINDS[kind].closing and proxy is gentle else 1)
    assert [body for _, body in plain.requests] == [BODY] * 6


@pytest.mark.parametrize("kind", ["reset", "truncate up", "garble head up", "storm", "drop"])
def test_a_seed_gives_the_same_faults_again(through, kind):
    def strikes(seed):
        proxy = through(kind, seed=seed, severity=2.0)
        for _ in range(30):
            attempt(proxy, LONG)
        return proxy.strikes

    assert strikes(5) == strikes(5) != strikes(6)


def test_several_kinds_take_turns(through):
    proxy = through("storm", "drop", severity=ALWAYS)
    for _ in range(20):
        attempt(proxy)
    assert {strike.split()[1] for strike in proxy.strikes} == {"storm", "drop"}


@pytest.mark.parametrize("kind", KINDS)
def test_whatever_is_under_way_ends_with_the_proxy(plain, kind):
    before = set(threading.enumerate())
    with FaultProxy(plain.url, kind, severity=ALWAYS) as proxy, ExitStack() as stack:
        for _ in range(3):
            with suppress(OSError):
                connection = stack.enter_context(connected(proxy))
                connection.request("PUT", f"/{LONG}", BODY)
        time.sleep(0.1)
    others = ("process_request", "holdfast-")  # the plain server's, and those of jobs of other tests
    new = {thread for thread in set(threading.enumerate()) - before if not isinstance(thread, threading.Timer)}
    assert not {thread for thread in new if not any(other in thread.name for other in others)}
    with pytest.raises(ConnectionRefusedError):
        exchange(proxy)


def test_the_proxy_may_end_at_any_moment(plain):
    for number in range(30):
        with ThreadPoolExecutor(4) as pool, FaultProxy(plain.url, *KINDS, seed=number, severity=3.0) as proxy:
            for _ in range(8):
                pool.submit(attempt, proxy, LONG)
            time.sleep(number / 200)
        gc.collect()


def test_a_server_that_is_not_there_is_no_fault_and_may_be_elsewhere_later(through, plain, free_port):
    proxy = through()
    proxy.set_target(f"http://127.0.0.1:{free_port}")
    with pytest.raises((OSError, http.client.HTTPException)):
        exchange(proxy)
    proxy.set_target(plain.url)
    assert exchange(proxy) == good()
    assert proxy.struck == 0


@pytest.mark.parametrize("kind", ["black hole", "unanswered", "half-close"])
def test_calm_cuts_what_waits_for_nothing(through, kind):
    proxy = through(kind, severity=ALWAYS)
    with ThreadPoolExecutor(5) as pool:
        waiting = [pool.submit(attempt, proxy, LONG, timeout_s=DEADLINE_S) for _ in range(5)]
        assert eventually(lambda: proxy.struck == 5)
        began = time.monotonic()
        proxy.calm()
        assert not [answer for answer in waiting if answer.result() == good(LONG)]
        assert time.monotonic() - began < DEADLINE_S
    assert exchange(proxy) == good()


def test_calm_lets_a_slow_answer_come_at_once(through):
    proxy = through("drip forever", severity=ALWAYS)
    with connected(proxy) as connection:
        connection.request("PUT", f"/{LONG}", BODY)
        assert eventually(lambda: proxy.struck)
        proxy.calm()
        assert taken(lambda: connection.getresponse().read()) < DEADLINE_S  # dripping, it would take hours


# time


def test_a_delay_changes_nothing_but_the_time(through):
    proxy = through("delay", severity=ALWAYS)
    answers = []
    assert taken(lambda: answers.extend(exchange(proxy) for _ in range(5))) > 0.3
    assert answers == [good()] * 5
    assert proxy.struck == 5


def test_bandwidth_is_so_many_bytes_per_second_each_way(through):
    proxy = through("bandwidth", severity=ALWAYS)
    assert taken(lambda: exchange(proxy, SHORT, bytes(LONG))) >= 0.3
    assert taken(lambda: exchange(proxy, LONG)) >= 0.3
    assert proxy.struck == 2


def test_an_answer_drips_for_200_bytes_or_forever(through):
    once, forever = through("drip", severity=ALWAYS), through("drip forever", severity=ALWAYS)
    assert 4 <= taken(lambda: exchange(once, LONG)) < DEADLINE_S  # at that rate, all of it would take hours
    with connected(forever) as connection:
        connection.request("GET", "/900")
        with closing(connection.getresponse()) as answer:
            assert 4 <= taken(lambda: answer.read(200)) < DEADLINE_S  # at that rate, all of it would take hours
    assert (once.struck, forever.struck) == (1, 1)


def test_a_request_is_overtaken_by_a_later_one(through, plain):
    proxy = through("reorder", severity=ALWAYS)
    rounds = 5
    for _ in range(rounds):
        with connected(proxy) as first, connected(proxy) as second:
            first.request("PUT", "/1", BODY)
            time.sleep(0.1)
            second.request("PUT", "/2", BODY)
            assert (second.getresponse().read(), first.getresponse().read()) == (b"aa", b"a")
    arrived = [target for target, _ in plain.requests]
    assert sorted(arrived) == ["/1"] * rounds + ["/2"] * rounds
    assert arrived[::2].count("/2") > rounds / 2  # the server's own threads may change places once they have arrived
    assert proxy.struck == rounds
    assert taken(lambda: exchange(proxy)) >= 0.3
    assert proxy.struck == rounds  # nobody overtook it


# connections


def test_a_dropped_connection_ends_before_anything_is_answered(through, plain):
    proxy = through("drop", severity=ALWAYS)
    where = urlsplit(proxy.url)
    with socket.create_connection((where.hostname, where.port), timeout=DEADLINE_S) as connection:
        assert connection.recv(1) == b""
    assert (proxy.struck, plain.received) == (1, [])


def test_an_unanswered_connection_stays_open(through, plain):
    proxy = through("unanswered", severity=ALWAYS)
    with pytest.raises(TimeoutError):
        exchange(proxy, timeout_s=0.5)
    assert (proxy.struck, plain.received) == (1, [])


def test_nobody_listens_for_a_while(through):
    proxy = through("refused", severity=ALWAYS)
    assert exchange(proxy) == good()
    with pytest.raises(ConnectionRefusedError):
        exchange(proxy)
    while attempt(proxy) == "refused":
        time.sleep(0.02)
    assert proxy.struck == 2
    proxy.calm()
    assert exchange(proxy) == good()


# places in the bytes


def test_a_reset_reaches_both_sides(through, plain):
    proxy = through("reset", severity=ALWAYS)
    for _ in range(10):
        with pytest.raises(ConnectionResetError):
            raw(proxy, LONG)
    assert proxy.struck == 10
    assert eventually(lambda: len(plain.endings) == 10)
    assert set(plain.endings) == {"reset"}


def test_one_direction_is_shut_and_the_other_stays_open(through, plain):
    proxy = through("half-close", severity=ALWAYS)
    where = urlsplit(proxy.url)
    ways = set()
    for number in range(10):
        with socket.create_connection((where.hostname, where.port), timeout=DEADLINE_S) as connection:
            connection.sendall(b"PUT /%d HTTP/1.1\r\nContent-Length: %d\r\n\r\n" % (LONG, len(BODY)) + BODY)
            assert len(read_all(connection)) < LONG
            ways.add(proxy.strikes[number].split()[2])
            if " down " in proxy.strikes[number]:  # what the client sends still passes
                connection.sendall(b"GET /0 HTTP/1.1\r\nA: still here\r\n\r\n")
                assert eventually(lambda: b"still here" in plain.received[-1])
    assert ways == {"up", "down"}
    assert proxy.struck == 10


def test_a_request_is_truncated(through, plain):
    proxy = through("truncate up", severity=ALWAYS)
    answers = [raw(proxy) for _ in range(10)]
    assert answers == [b""] * 10
    assert eventually(lambda: len(plain.endings) == 10)
    assert plain.requests == []
    assert len({len(received) for received in plain.received}) > 5
    assert (proxy.struck, plain.endings) == (10, ["fin"] * 10)


def test_an_answer_is_truncated(through, plain):
    proxy = through("truncate down", severity=ALWAYS)
    answers = [raw(proxy, LONG) for _ in range(10)]
    whole = b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % LONG + b"a" * LONG
    assert all(whole.startswith(answer) and answer != whole for answer in answers)
    assert len(set(answers)) > 5
    assert (proxy.struck, len(plain.requests)) == (10, 10)


def test_nothing_leaves_a_black_hole(through, plain):
    proxy = through("black hole", severity=ALWAYS)
    for _ in range(5):
        with pytest.raises(TimeoutError):
            raw_until_silent(proxy)
    assert proxy.struck == 5
    assert plain.endings == []


def raw_until_silent(proxy):
    with connected(proxy, 0.3) as connection:
        connection.request("PUT", f"/{LONG}", BODY)
        with closing(connection.getresponse()) as answer:
            answer.read()


@pytest.mark.parametrize(("kind", "up"), [("garble up", True), ("garble down", False)])
def test_bytes_become_others_at_the_distance_that_the_severity_says(through, plain, kind, up):
    proxy = through(kind, severity=30.0)  # one in 100 kB
    body, count = (bytes(LONG), SHORT) if up else (b"", LONG)
    wrong = 0
    for _ in range(10):
        with suppress(OSError, http.client.HTTPException):
            _, answer = exchange(proxy, count, body)
            wrong += sum(map(bool, plain.requests[-1][1])) if up else len(answer) - answer.count(b"a")
    assert 10 < wrong <= proxy.struck < 60


@pytest.mark.parametrize("way", ["up", "down"])
def test_one_byte_is_another_near_the_start(through, plain, way):
    proxy = through(f"garble head {way}", severity=ALWAYS)
    where = urlsplit(proxy.url)
    request = b"PUT /500 HTTP/1.1\r\nContent-Length: %d\r\n\r\n" % 5000 + bytes(5000)
    answer = b"HTTP/1.1 200 OK\r\nContent-Length: 500\r\n\r\n" + b"a" * 500
    places = set()
    for _ in range(20):
        with socket.create_connection((where.hostname, where.port), timeout=0.3) as connection:
            connection.sendall(request)
            found = b""
            with suppress(TimeoutError):
                while len(found) < len(answer) and (piece := connection.recv(1000)):
                    found += piece
        arrived, meant = (bytes(plain.received[-1]), request) if way == "up" else (found, answer)
        assert len(arrived) == len(meant)
        differing = [place for place, pair in enumerate(zip(arrived, meant, strict=True)) if pair[0] != pair[1]]
        assert len(differing) == 1
        places.add(differing[0])
    assert len(places) > 10
    assert min(places) < 100 < max(places) < 1000
    assert proxy.struck == 20


# what stands between


def test_a_request_is_delivered_twice_at_once_or_late(through, plain):
    proxy = through("duplicate", severity=ALWAYS)
    times = []
    for number in range(8):
        assert exchange(proxy, number) == good(number)
    for _ in range(40):
        times.append(len(plain.requests))
        time.sleep(0.05)
    assert proxy.struck == 8
    assert sorted(plain.requests) == sorted([(f"/{number}", BODY) for number in range(8)] * 2)
    assert times[3] > 8  # some come soon
    assert times[5] < 16  # and some late


def test_a_storm_answers_itself_and_the_next_request_passes_on_the_same_connection(through, plain):
    proxy = through("storm", severity=ALWAYS)
    found = []
    for _ in range(40):
        with connected(proxy) as connection, suppress(ConnectionError):
            connection.request("PUT", "/8", bytes(LONG))
            answer = connection.getresponse()
            found.append((answer.status, answer.getheader("Retry-After"), answer.getheader("Content-Type")))
            body = answer.read()
            with suppress(ValueError):
                assert "code" not in json.loads(body)
            if not answer.will_close:
                connection.request("GET", "/8")
                assert connection.getresponse().status >= 500
    assert len(found) == 40
    assert {status for status, _, _ in found} == {500, 502, 503, 504}
    assert {after for _, after, _ in found} == {None, "0", "1"}
    assert {kind for _, _, kind in found} == {"text/html", "application/json", "text/plain"}
    assert plain.requests == []
    assert proxy.struck > 40


def test_a_proxy_that_fails_itself_says_so(plain):
    proxy = FaultProxy(plain.url)
    with pytest.raises(struct.error), proxy:
        proxy._failures.append(struct.error("not a fault of the network"))
