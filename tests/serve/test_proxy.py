"""The proxy of docs/serving.md: what it keeps from the server, and what it lets through."""

import os
import re
import shutil
import socket
import subprocess
import time
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

from tests.serve.conftest import Site, serving
from tests.serve.telling_network import picture
from tests.serve.test_faults import AMBIGUOUS, head, smuggled, talk

PAGE = Path(__file__).resolve().parents[2] / "docs" / "serving.md"


@contextmanager
def proxied(site, folder, **seconds):
    """Run nginx in front of a site and give it as a `Site`."""
    if shutil.which("nginx") is None:
        pytest.skip("needs nginx; apt-get install nginx-light")
    with start_proxy(site.port, folder, **seconds) as port:
        yield Site(port, site.network, site.application)


@contextmanager
def start_proxy(behind, folder, **seconds):
    """Run nginx with the page's configuration in front of the port `behind`, with other times, and give its port."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    configuration = write_configuration(folder, port, behind, seconds)
    command = ["nginx", "-p", folder, "-e", "error.log", "-c", configuration]
    process = subprocess.Popen(command, stderr=subprocess.DEVNULL)
    try:
        wait_for(port)
        yield port
    finally:
        process.terminate()
        process.wait(20)


def write_configuration(folder, port, behind, seconds):
    """Write the page's configuration; only ports, times and what a test needs to run nginx are changed."""
    (text,) = re.findall(r"```nginx\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL)
    changes = {"listen 8080": f"listen 127.0.0.1:{port}", "127.0.0.1:8000": f"127.0.0.1:{behind}"}
    changes |= {f"{name} 10s": f"{name} {value}s" for name, value in seconds.items()}
    for old, new in changes.items():
        assert text.count(old) == 1
        text = text.replace(old, new)
    kinds = ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    paths = "".join(f"{kind}_temp_path {folder}/{kind};\n" for kind in kinds)
    text = text.replace("http {", f"http {{\naccess_log off;\n{paths}", 1)
    user = "user root;\n" if os.geteuid() == 0 else ""
    (folder / "nginx.conf").write_text(f"{user}daemon off;\npid {folder}/pid;\n{text}")
    return folder / "nginx.conf"


def wait_for(port):
    end = time.perf_counter() + 15
    while time.perf_counter() < end:
        with suppress(OSError), socket.create_connection(("127.0.0.1", port)):
            return
        time.sleep(0.02)
    pytest.fail("nginx did not start")


@pytest.fixture(scope="module")
def proxy(site, tmp_path_factory):
    times = {"client_header_timeout": 1, "client_body_timeout": 1, "send_timeout": 1, "keepalive_timeout": 1}
    with proxied(site, tmp_path_factory.mktemp("nginx"), **times) as running:
        yield running


def test_a_picture_and_a_form_are_answered_through_the_proxy(proxy):
    assert proxy.predict(picture(7)).image["class"] == 7
    said = proxy.predict_form([picture(label) for label in (1, 2, 3)]).json["images"]
    assert [one["class"] for one in said] == [1, 2, 3]


def test_the_servers_reasons_pass_through(proxy):
    reply = proxy.predict(b"no picture")
    assert (reply.status, reply.json["status"]) == (415, 415)
    assert proxy.predict(bytes(200_001)).json["reason"] == "expected a body of at most 200000 bytes"


def test_a_body_over_the_proxys_limit_never_reaches_the_server(proxy, site):
    before = site.metric('goodnet_requests_total{status="413"}')
    assert talk(proxy.port, head(9 << 20)).startswith(b"HTTP/1.1 413 ")
    assert site.metric('goodnet_requests_total{status="413"}') == before


@pytest.mark.parametrize("sent", [b"", b"POST /pre", b"GET / HTTP/1.1\r\nhost: x\r\nx-a: ", head(1000) + b"x" * 10])
def test_a_slow_client_is_cut_off_and_does_not_reach_the_server(sent, proxy, site):
    start = time.perf_counter()
    with socket.create_connection(("127.0.0.1", proxy.port), timeout=10) as connection:
        connection.sendall(sent)
        time.sleep(0.3)
        assert site.metric("goodnet_in_flight") == 0
        reply = b""
        while block := connection.recv(4096):
            reply += block
    assert reply == b"" or reply.startswith(b"HTTP/1.1 408 ")
    assert 0.5 < time.perf_counter() - start < 8


def test_headers_without_end_are_refused(proxy):
    assert talk(proxy.port, b"GET / HTTP/1.1\r\nhost: x\r\nx: ", b"y" * 70_000).startswith(b"HTTP/1.1 400 ")


def test_a_client_that_takes_no_answer_is_cut_off(proxy, site):
    with socket.socket() as connection:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        connection.connect(("127.0.0.1", proxy.port))
        with pytest.raises(ConnectionError):
            ask_for_ever(connection)
    assert site.predict(picture(2)).image["class"] == 2


def ask_for_ever(connection):
    """Ask without reading, until the proxy hangs up or 20 s have gone."""
    end = time.perf_counter() + 20
    while time.perf_counter() < end:
        connection.sendall(b"GET /docs HTTP/1.1\r\nhost: x\r\n\r\n")
        time.sleep(0.01)


def test_more_connections_of_one_address_than_are_allowed(telling, tmp_path):
    with serving(telling) as site, proxied(site, tmp_path) as proxy:
        slow = [socket.create_connection(("127.0.0.1", proxy.port)) for _ in range(32)]
        for connection in slow:
            connection.sendall(head(10))
        time.sleep(0.3)
        refused, direct = proxy.request("GET", "/health"), site.request("GET", "/health")
        for connection in slow:
            connection.close()
    assert (refused.status, direct.status) == (503, 200)


@pytest.mark.parametrize("rest", AMBIGUOUS.values(), ids=AMBIGUOUS)
def test_what_is_smuggled_through_the_proxy_is_not_answered_by_the_server(rest, proxy, site):
    """The server sees no request that nginx did not see and answer, and the next client gets his own answer."""
    before = requests_seen(site)
    reply = talk(proxy.port, smuggled(rest).replace(b"GET /health", b"POST /predict"))
    assert requests_seen(site) - before <= reply.count(b"HTTP/1.1 ")
    assert proxy.predict(picture(9)).image["class"] == 9


def requests_seen(site):
    """Return the requests to /predict that the server has answered."""
    lines = site.request("GET", "/metrics").body.decode().splitlines()
    return sum(float(line.rpartition(" ")[2]) for line in lines if line.startswith("goodnet_requests_total{"))
