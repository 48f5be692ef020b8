"""Signed runs: the right key, another key, a changed, added and missing file, a missing signature; and what OpenSSL says."""

import shutil
import stat
import subprocess
import sys

import pytest

from goodnet.core.errors import InvalidOption, UnreadableData, UnwritableOutput
from goodnet.reports.signatures import check_signature, make_keys, sign_run

pytest.importorskip("cryptography", reason="cryptography is not installed")


@pytest.fixture
def keys(tmp_path):
    return make_keys(tmp_path / "mine")


@pytest.fixture
def run(tmp_path):
    """The folder of a run, with a folder in it."""
    folder = tmp_path / "run"
    (folder / "goodnet").mkdir(parents=True)
    for name in ("run.json", "scan.json", "goodnet/original.pt"):
        (folder / name).write_text(f"content of {name}")
    return folder


@pytest.fixture
def signed(run, keys):
    assert sign_run(run, keys[0]) == ("goodnet/original.pt", "run.json", "scan.json")
    return run


def test_a_run_is_as_it_was_signed(signed, keys):
    assert check_signature(signed, keys[1]) == ("goodnet/original.pt", "run.json", "scan.json")
    sign_run(signed, keys[0])  # What was signed before is no part of the run.
    assert len(check_signature(signed, keys[1])) == 3


def test_only_the_owner_may_read_the_private_key_and_none_is_overwritten(keys):
    assert stat.S_IMODE(keys[0].stat().st_mode) == 0o600
    assert keys[1].name == "mine.pub"
    with pytest.raises(UnwritableOutput, match="never overwritten"):
        make_keys(keys[0])
    keys[0].unlink()
    with pytest.raises(UnwritableOutput, match=r"mine\.pub: it is there already"):
        make_keys(keys[0])


def test_the_key_of_somebody_else(signed, tmp_path):
    with pytest.raises(UnreadableData, match=r"the signature is not of .*theirs\.pub"):
        check_signature(signed, make_keys(tmp_path / "theirs")[1])


@pytest.mark.parametrize("name", ["run.json", "scan.json", "goodnet/original.pt"])
def test_a_changed_file(name, signed, keys):
    (signed / name).write_text("clean")
    with pytest.raises(UnreadableData, match=f"{name}: was changed; do not trust this run"):
        check_signature(signed, keys[1])


def test_a_changed_list_of_files(signed, keys):
    text = (signed / "SHA256SUMS").read_text()
    (signed / "SHA256SUMS").write_text(text.replace("a", "b", 1))
    with pytest.raises(UnreadableData, match="SHA256SUMS was changed"):
        check_signature(signed, keys[1])


@pytest.mark.parametrize("name", ["added.json", "goodnet/SHA256SUMS", ".hidden"])
def test_a_file_that_was_added(name, signed, keys):
    (signed / name).write_text("x")
    with pytest.raises(UnreadableData, match=f"{name}: is not signed"):
        check_signature(signed, keys[1])


def test_a_file_that_is_gone(signed, keys):
    shutil.rmtree(signed / "goodnet")
    with pytest.raises(UnreadableData, match=r"original\.pt: is missing"):
        check_signature(signed, keys[1])


def test_no_signature_no_run_and_links_out_of_it(run, keys, tmp_path):
    with pytest.raises(UnreadableData, match=r"expected a signed run, found no SHA256SUMS\.sig; sign it: goodnet sign"):
        check_signature(run, keys[1])
    sign_run(run, keys[0])
    shutil.move(run / "scan.json", tmp_path / "scan.json")
    (run / "scan.json").symlink_to(tmp_path / "scan.json")
    with pytest.raises(UnreadableData, match="a link that leads out of its folder"):
        check_signature(run, keys[1])
    (run / "run.json").unlink()
    with pytest.raises(UnreadableData, match=r"run\.json: no such file"):
        sign_run(run, keys[0])


def test_what_is_no_key_or_the_other_one(signed, keys, tmp_path):
    (tmp_path / "text").write_text("-----BEGIN PRIVATE KEY-----")
    for key in (tmp_path / "text", keys[1]):
        with pytest.raises(UnreadableData, match="expected a private Ed25519 key"):
            sign_run(signed, key)
    for key in (tmp_path / "text", keys[0]):
        with pytest.raises(UnreadableData, match="expected a public Ed25519 key"):
            check_signature(signed, key)


def test_without_the_package_the_error_says_what_to_install(monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, "cryptography.exceptions", None)
    with pytest.raises(InvalidOption, match=r"goodnet\[sign\]"):
        make_keys(tmp_path / "mine")


def test_openssl_and_sha256sum_say_the_same(signed, keys):
    """An independent implementation of both."""
    if shutil.which("openssl") is None or shutil.which("sha256sum") is None:
        pytest.skip("openssl or sha256sum is missing")
    command = ["openssl", "pkeyutl", "-verify", "-pubin", "-inkey", str(keys[1]), "-rawin", "-in", "SHA256SUMS"]
    done = subprocess.run(
        [*command, "-sigfile", "SHA256SUMS.sig"], cwd=signed, capture_output=True, text=True, check=False
    )
    assert (done.returncode, "Signature Verified Successfully" in done.stdout) == (0, True)
    assert subprocess.run(["sha256sum", "--check", "--quiet", "SHA256SUMS"], cwd=signed, check=False).returncode == 0


def test_the_commands(goodnet, tmp_path, run):
    key = tmp_path / "key"
    assert goodnet("keys", key).code == 0
    assert goodnet("sign", run, "--key", key).out == f"signed: 3 files in {run}\n"
    checking = ("verify", run, "--signed-by", f"{key}.pub", "--signature-only")
    done = goodnet(*checking)
    assert (done.code, done.out, done.err) == (0, "", f"goodnet: note: signed by {key}.pub: 3 files\n")
    (run / "scan.json").write_text("clean")
    done = goodnet(*checking)
    assert (done.code, done.err) == (2, f"goodnet: {run}/scan.json: was changed; do not trust this run\n")
    # Nothing is run again where the signature is wrong.
    assert goodnet(*checking[:-1]).err == done.err
    assert goodnet("verify", run, "--signature-only").code == 2
