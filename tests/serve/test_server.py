"""Starting and stopping: what is served, where, and what is said where it cannot be."""

import json
import re
import signal
import subprocess
import sys
import urllib.request

import pytest

from goodnet.core.errors import InvalidOption, UnreadableModel
from goodnet.formats import networks
from goodnet.serve.network import ServedNetwork
from goodnet.serve.options import ServeOptions
from goodnet.serve.server import listen, open_network
from tests.serve.conftest import serving
from tests.serve.telling_network import picture


def test_the_command_serves_until_it_is_told_to_stop(telling_file, tmp_path):
    audit = tmp_path / "audit.jsonl"
    command = [
        sys.executable,
        "-m",
        "goodnet",
        "serve",
        telling_file,
        "--port",
        "0",
        "--threads",
        "1",
        "--audit",
        audit,
    ]
    process = subprocess.Popen(list(map(str, command)), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    try:
        line = process.stdout.readline()
        found = re.search(r"at (http://127\.0\.0\.1:\d+) \(fails closed, refusals go to .*audit\.jsonl\)", line)
        assert found, line
        request = urllib.request.Request(f"{found[1]}/predict", picture(0, 42), {"content-type": "image/png"})
        with urllib.request.urlopen(request, timeout=20) as reply:
            assert json.load(reply)["images"][0]["opinions"] == {"original": 0, "repaired": 42}
    finally:
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=60)
    assert (process.returncode, out, err) == (0, "stopped; what was taken has been answered\n", "")
    assert len(audit.read_text().splitlines()) == 1


def test_the_folder_of_a_goodnet_is_exported_and_served(badnet, repaired_badnet, tmp_path):
    from goodnet import api
    from goodnet.pair.goodnet import GoodNet

    pair = GoodNet(badnet.model, repaired_badnet / "repaired_5_percent.h5", input_range="0..1")
    folder = pair.save(tmp_path / "goodnet")
    network = open_network(folder, ServeOptions(threads=1))
    with serving(network) as site:
        pictures = badnet.clean_picture, badnet.poisoned_picture
        classes = [site.predict(path.read_bytes()).image["class"] for path in pictures]
    assert classes == api.predict(folder, pictures)
    assert classes[1] == 4


def test_what_is_no_goodnet(goodnet, badnet, tmp_path):
    (tmp_path / "text.onnx").write_text("hello")
    for path in (tmp_path / "missing.onnx", tmp_path / "text.onnx", badnet.model):
        with pytest.raises(UnreadableModel):
            ServedNetwork(path)
    done = goodnet("serve", tmp_path / "text.onnx")
    assert (done.code, done.out) == (2, "")
    assert "expected an ONNX file" in done.err


def test_an_address_that_is_taken(goodnet, telling_file):
    with listen(ServeOptions(port=0)) as taken:
        done = goodnet("serve", telling_file, "--port", taken.getsockname()[1])
    assert done.code == 2
    assert "Address already in use); choose another --host or --port" in done.err
    with pytest.raises(InvalidOption, match=r"cannot listen on 192\.0\.2\.1"):
        listen(ServeOptions(host="192.0.2.1"))


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--port", "70000"], "'port': input should be less than or equal to 65535, got 70000"),
        (["--max-images", "0"], "'max_images'"),
        (["--audit-images"], "audit_images needs audit"),
        (["--fail", "ajar"], "'ajar' is not one of"),
        (["--body-seconds", "0"], "'body_seconds'"),
    ],
)
def test_options_outside_their_bounds(options, words, goodnet, telling_file):
    done = goodnet("serve", telling_file, *options)
    assert (done.code, done.out) == (2, "")
    assert words in done.err


def test_only_this_machine_is_served_unless_told_otherwise():
    with listen(ServeOptions(port=0)) as listener:
        assert listener.getsockname()[0] == "127.0.0.1"


def test_without_the_extra_it_says_what_to_install(goodnet, telling_file, monkeypatch):
    monkeypatch.setitem(sys.modules, "fastapi", None)
    for name in [name for name in sys.modules if name.startswith("goodnet.serve.")]:
        monkeypatch.delitem(sys.modules, name)
    done = goodnet("serve", telling_file)
    assert done.code == 2
    assert "pip install 'goodnet[serve]'" in done.err


@pytest.mark.parametrize("confine", [True, False])
def test_the_networks_of_a_folder_are_read_in_a_process_of_their_own(confine, repaired_badnet, monkeypatch):
    names, read = [], networks.read_confined
    monkeypatch.setattr(networks, "read_confined", lambda path: names.append(path.name) or read(path))
    open_network(repaired_badnet, ServeOptions(threads=1, confine=confine))
    assert names == ["original.h5", "repaired.h5"] * confine
