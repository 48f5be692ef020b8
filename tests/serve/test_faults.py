"""Clients that are slow, hostile or too many; answers never go to another request, and the server stays up."""

import http.client
import json
import random
import re
import socket
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress

import pytest

from goodnet.core.errors import MethodFailed
from goodnet.serve.network import ServedNetwork
from tests.serve.conftest import form, serving
from tests.serve.fuzzing import make_case
from tests.serve.telling_network import CLASSES, picture


class SlowNetwork(ServedNetwork):
    """Runs when it is let to."""

    gate = None
    fails = False

    def run(self, pixels):
        if self.gate is not None:
            self.gate.wait(20)
        if self.fails:
            raise MethodFailed("the network could not be run: out of memory")
        return super().run(pixels)


@pytest.fixture
def slow(telling_file):
    network = SlowNetwork(telling_file, threads=1)
    network.gate = threading.Event()
    yield network
    network.gate.set()


def talk(port, *parts, pause=0.0, half_close=False):
    """Send parts with pauses between them and return all that comes back before the server hangs up."""
    with socket.create_connection(("127.0.0.1", port), timeout=10) as connection:
        for part in parts:
            connection.sendall(part)
            time.sleep(pause)
        if half_close:
            connection.shutdown(socket.SHUT_WR)
        return receive(connection)


def receive(connection):
    """Return all that comes before the server hangs up."""
    found = b""
    with suppress(ConnectionError):
        while block := connection.recv(65536):
            found += block
    return found


def head(length, extra=b""):
    return b"POST /predict HTTP/1.1\r\nhost: x\r\ncontent-type: image/png\r\n%scontent-length: %d\r\n\r\n" % (
        extra,
        length,
    )


def status_and_reason(reply):
    top, _, body = reply.partition(b"\r\n\r\n")
    return int(top.split()[1]), json.loads(body)["reason"]


def test_a_body_that_comes_too_slowly_is_cut_off(site):
    start = time.perf_counter()
    status, reason = status_and_reason(talk(site.port, head(1000), b"x" * 10))
    assert (status, reason) == (408, "the request took more than 1 s to come in")
    assert 0.9 < time.perf_counter() - start < 8


@pytest.mark.parametrize("sent", [b"", b"POST /pre", b"POST /predict HTTP/1.1\r\nhost: x\r\nx-a: "])
def test_headers_that_come_too_slowly_are_cut_off(sent, site):
    status, reason = status_and_reason(talk(site.port, sent))
    assert (status, reason) == (408, "the headers took more than 1 s to come in")


def test_a_second_request_on_the_same_connection_has_a_clock_of_its_own(site):
    body = picture(4)
    reply = talk(site.port, head(len(body)) + body, b"POST /predict HTTP/1.1\r\n", pause=0.3)
    assert reply.count(b"HTTP/1.1 200") == 1
    assert reply.count(b"HTTP/1.1 408") == 1


def test_headers_without_end_are_cut_off(site):
    reply = talk(site.port, b"GET / HTTP/1.1\r\nx: ", b"y" * 70_000)
    status, reason = status_and_reason(reply)
    assert (status, reason) == (431, "expected at most 65536 bytes of headers")


def test_a_body_that_nobody_wants_cannot_hold_the_connection(site):
    reply = talk(site.port, b"POST /health HTTP/1.1\r\nhost: x\r\ncontent-length: 100000\r\n\r\n", b"x")
    assert reply.startswith(b"HTTP/1.1 405")


def test_a_connection_that_ends_early_harms_nobody(site):
    for sent in (b"", head(500), head(500) + b"x" * 100, head(300) + picture(8)):
        with socket.create_connection(("127.0.0.1", site.port)) as connection:
            connection.sendall(sent)
    assert site.predict(picture(8)).image["class"] == 8


@pytest.mark.parametrize("sent", [b"POST /pred", head(500), head(500) + b"x" * 100])
def test_a_request_that_ends_early_gets_a_reason(sent, site):
    status, reason = status_and_reason(talk(site.port, sent, half_close=True))
    assert (status, reason) == (400, "the connection ended before the request did")


def test_a_client_that_sends_no_more_gets_its_answers(site):
    assert talk(site.port, half_close=True) == b""
    reply = talk(site.port, b"GET /docs HTTP/1.1\r\nhost: x\r\n\r\n", pause=0.3, half_close=True)
    assert reply.count(b"HTTP/1.1 200 OK") == reply.count(b"HTTP/1.1 ") == 1
    bodies = [picture(label) for label in (1, 2)]
    reply = talk(site.port, b"".join(head(len(body)) + body for body in bodies), half_close=True)
    assert [int(label) for label in re.findall(rb'\{"class": (\d+), "class_name"', reply)] == [1, 2]


def test_what_is_not_http_gets_a_reason(site):
    status, reason = status_and_reason(talk(site.port, b"\x16\x03\x01 hello\r\n\r\n"))
    assert (status, reason) == (400, "Invalid HTTP request received.")


def test_a_client_that_asks_first_is_told_before_it_sends(site):
    reply = talk(site.port, head(10**9, b"expect: 100-continue\r\n"))
    assert reply.startswith(b"HTTP/1.1 413")


def test_a_chunked_body_is_counted_as_it_comes(site):
    chunk = b"8000\r\n" + b"x" * 0x8000 + b"\r\n"
    start = b"POST /predict HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\n"
    assert talk(site.port, start, *[chunk] * 10, b"0\r\n\r\n").startswith(b"HTTP/1.1 413")
    body = picture(6)
    reply = talk(
        site.port, start.replace(b"host", b"connection: close\r\nhost") + b"%x\r\n%s\r\n0\r\n\r\n" % (len(body), body)
    )
    assert json.loads(reply.partition(b"\r\n\r\n")[2])["images"][0]["class"] == 6


def test_pipelined_requests_are_answered_in_their_order(site):
    bodies = [picture(label) for label in (11, 12, 13)]
    last = head(len(bodies[2]), b"connection: close\r\n") + bodies[2]
    reply = talk(site.port, b"".join(head(len(body)) + body for body in bodies[:2]) + last)
    assert [int(label) for label in re.findall(rb'\{"class": (\d+), "class_name"', reply)] == [11, 12, 13]


def test_an_overload_is_refused_and_the_waiting_are_answered(slow):
    with serving(slow, max_requests=4) as site, ThreadPoolExecutor(4) as pool:
        waiting = [pool.submit(site.predict, picture(label)) for label in range(4)]
        until(lambda: site.metric("goodnet_in_flight") == 4)
        refused = site.predict(picture(9))
        health = site.request("GET", "/health")
        slow.gate.set()
        answers = [reply.result().image["class"] for reply in waiting]
        after = site.predict(picture(9))
    assert refused.status == 503
    assert "4 requests are waiting already" in refused.json["reason"]
    assert refused.headers["retry-after"] == "1"
    assert (health.status, health.json["ready"]) == (503, False)
    assert answers == [0, 1, 2, 3]
    assert after.image["class"] == 9


def test_requests_that_were_given_up_still_count_until_they_are_gone(slow):
    with serving(slow, max_requests=2, request_seconds=0.2) as site:
        statuses = [site.predict(picture(label)).status for label in range(4)]
        slow.gate.set()
        until(lambda: site.metric("goodnet_queue") == 0)
        after = site.predict(picture(9))
    assert statuses == [504, 504, 503, 503]
    assert after.image["class"] == 9


def test_a_run_that_fails_answers_nothing_whichever_way_it_fails(slow):
    slow.gate.set()
    for fail in ("closed", "open"):
        with serving(slow, fail=fail) as site:
            slow.fails = True
            reply = site.predict(picture(5))
            slow.fails = False
            after = site.predict(picture(5))
        assert reply.status == 503
        assert "could not be run" in reply.json["reason"]
        assert after.image["class"] == 5


def test_more_connections_than_are_allowed(telling):
    with serving(telling, max_requests=2) as site:
        idle = [socket.create_connection(("127.0.0.1", site.port)) for _ in range(8)]
        time.sleep(0.2)
        status, reason = status_and_reason(talk(site.port))
        for connection in idle:
            connection.close()
        until(lambda: site.request("GET", "/health").status == 200)
    assert (status, reason) == (503, "8 connections are open already; try again later")


def test_a_client_that_takes_no_answer_is_cut_off(telling):
    with serving(telling, body_seconds=0.5, send_buffer=4096) as site:
        with socket.socket() as connection:
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            connection.connect(("127.0.0.1", site.port))
            with pytest.raises(ConnectionError):
                send_for_ever(connection, b"GET /docs HTTP/1.1\r\nhost: x\r\n\r\n", pause=0.05)
        assert site.predict(picture(2)).image["class"] == 2


def test_requests_that_are_sent_before_their_turn_are_not_taken_without_end(telling):
    with serving(telling) as site, socket.create_connection(("127.0.0.1", site.port)) as connection:
        with pytest.raises(ConnectionError):
            send_for_ever(connection, b"GET /health HTTP/1.1\r\nhost: x\r\n\r\n" * 1000)
        assert site.predict(picture(2)).image["class"] == 2


def send_for_ever(connection, request, pause=0.0):
    """Send the same over and over, without reading, until the server hangs up or 20 s have gone."""
    end = time.perf_counter() + 20
    while time.perf_counter() < end:
        connection.sendall(request)
        time.sleep(pause)


def test_a_damaged_request_does_not_answer_the_one_before_it(slow):
    body = picture(7)
    with serving(slow) as site, socket.create_connection(("127.0.0.1", site.port), timeout=10) as connection:
        connection.sendall(head(len(body)) + body)
        until(lambda: site.metric("goodnet_in_flight") == 1)
        connection.sendall(b"\x00 not HTTP\r\n\r\n")
        time.sleep(0.2)
        slow.gate.set()
        reply = receive(connection)
    assert reply.count(b"HTTP/1.1 ") == 1
    assert json.loads(reply.partition(b"\r\n\r\n")[2])["images"][0]["class"] == 7


def test_a_server_that_stops_answers_what_it_took(slow):
    with ThreadPoolExecutor(1) as pool:
        with serving(slow) as site:
            waiting = pool.submit(site.predict, picture(7))
            until(lambda: site.metric("goodnet_in_flight") == 1)
            threading.Timer(0.5, slow.gate.set).start()
        assert waiting.result().image["class"] == 7
        with pytest.raises(OSError):
            site.predict(picture(7))


def test_answers_do_not_go_astray_under_load(telling):
    """Every picture says what its answer must be; sound requests, batches and damaged ones come at the same time."""

    def ask(seed):
        rng = random.Random(seed)
        wrong = 0
        # Longer than the server's own limit: a request that hangs there is told so, and its status says where.
        connection = http.client.HTTPConnection("127.0.0.1", site.port, timeout=60)
        for _ in range(12):
            pairs = [(rng.randrange(CLASSES), rng.randrange(CLASSES)) for _ in range(rng.choice((1, 1, 3, 8)))]
            files = [picture(b, b_prime, other=b_prime) for b, b_prime in pairs]
            spoilt = rng.random() < 0.2
            body = form([*files[:-1], files[-1][:-60]] if spoilt else files)
            connection.request("POST", "/predict", body, {"content-type": "multipart/form-data; boundary=BOUND"})
            response = connection.getresponse()
            said = json.loads(response.read())
            expected = [{"original": b, "repaired": b_prime} for b, b_prime in pairs]
            right = response.status == 422 if spoilt else [one["opinions"] for one in said["images"]] == expected
            wrong += not right
        connection.close()
        return wrong

    with serving(telling) as site, ThreadPoolExecutor(24) as pool:
        assert sum(pool.map(ask, range(24))) == 0
        assert site.metric("goodnet_batch_images_count") < site.metric("goodnet_batch_images_sum")


def test_fuzzed_requests(site):
    """500 requests that are damaged in some way: each gets an answer, a 4xx with a reason, or hung up on by HTTP's rules."""
    rng = random.Random(7)
    counts = {}
    with ThreadPoolExecutor(8) as pool:
        for status in pool.map(lambda case: case.send(site.port), [make_case(rng) for _ in range(500)]):
            counts[status] = counts.get(status, 0) + 1
    assert sum(counts.values()) == 500
    assert {status for status in counts if status >= 500} == set()
    assert {200, 400, 413, 415, 422} <= set(counts)
    assert site.predict(picture(3)).image["class"] == 3
    assert site.request("GET", "/health").json["ready"]


def until(condition):
    """Wait until a condition holds."""
    end = time.perf_counter() + 15
    while not condition():
        assert time.perf_counter() < end, "waited in vain"
        time.sleep(0.02)
