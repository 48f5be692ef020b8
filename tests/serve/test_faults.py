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


def talk(port, *parts):
    """Send parts and return all that comes back before the server hangs up."""
    with socket.create_connection(("127.0.0.1", port), timeout=10) as connection:
        for part in parts:
            connection.sendall(part)
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


def test_a_connection_that_ends_early_harms_nobody(site):
    for sent in (b"", head(500), head(500) + b"x" * 100, head(300) + picture(8)):
        with socket.create_connection(("127.0.0.1", site.port)) as connection:
            connection.sendall(sent)
    assert site.predict(picture(8)).image["class"] == 8


#: Requests that two parsers could read in two ways, with another one behind them.
AMBIGUOUS = {
    "length and chunks": b"content-length: 4\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n",
    "chunks and length": b"transfer-encoding: chunked\r\ncontent-length: 5\r\n\r\n0\r\n\r\n",
    "two lengths": b"content-length: 0\r\ncontent-length: 32\r\n\r\n",
    "the same length twice": b"content-length: 0\r\ncontent-length: 0\r\n\r\n",
    "a list of lengths": b"content-length: 0, 0\r\n\r\n",
    "a length with a sign": b"content-length: +0\r\n\r\n",
    "an encoding of its own": b"transfer-encoding: xchunked\r\n\r\n0\r\n\r\n",
    "two encodings": b"transfer-encoding: chunked\r\ntransfer-encoding: identity\r\n\r\n0\r\n\r\n",
    "a space before the colon": b"transfer-encoding : chunked\r\n\r\n0\r\n\r\n",
    "a folded header": b"transfer-encoding:\r\n chunked\r\n\r\n0\r\n\r\n",
    "a vertical tab": b"transfer-encoding: \x0bchunked\r\n\r\n0\r\n\r\n",
    "lines that end in LF": b"content-length: 0\n\n",
    "a CR in a header": b"x: y\rcontent-length: 32\r\n\r\n",
    "a zero byte in a header": b"x: \0\r\n\r\n",
    "chunks that end in LF": b"transfer-encoding: chunked\r\n\r\n1\nx\n0\n\n",
    "an LF in a chunk's extension": b"transfer-encoding: chunked\r\n\r\n1;a=\nb\r\nx\r\n0\r\n\r\n",
    "a chunk of 2^64 and one": b"transfer-encoding: chunked\r\n\r\n10000000000000001\r\nx\r\n0\r\n\r\n",
    "a chunk that ends in letters": b"transfer-encoding: chunked\r\n\r\n1\r\nxXX0\r\n\r\n",
    "a chunk's size in C": b"transfer-encoding: chunked\r\n\r\n0x1\r\nx\r\n0\r\n\r\n",
}


def smuggled(rest):
    """Return a request with `rest` as the end of its headers and its body, and one that must not be answered."""
    return b"POST /predict HTTP/1.1\r\nhost: x\r\n" + rest + b"GET /health HTTP/1.1\r\nhost: x\r\n\r\n"


@pytest.mark.parametrize("rest", AMBIGUOUS.values(), ids=AMBIGUOUS)
def test_a_request_that_could_be_read_in_two_ways_is_refused_and_ends_the_connection(rest, site):
    reply = talk(site.port, smuggled(rest))
    assert reply.count(b"HTTP/1.1 400 ") == reply.count(b"HTTP/1.1 ") == 1
    assert reply.endswith(b"Invalid HTTP request received.")


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
    """500 requests that are damaged in some way: each gets an answer or a 4xx, or was never whole."""
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
