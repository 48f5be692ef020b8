"""A scan that is killed and started again gives what an undisturbed one gives."""

import pytest

from goodnet.formats.arrays import write_hdf5
from tests.killing import run_with_kills

WEIGHTS = ("--architecture", "tests.data.twin_network:build")


@pytest.mark.slow
def test_a_scan_that_is_killed_goes_on_where_it_was(clean_twin, goodnet, tmp_path):
    model, clean = tmp_path / "net.safetensors", tmp_path / "clean.h5"
    clean_twin.classifier.save(model)
    write_hdf5(clean, clean_twin.clean)
    arguments = ["scan", str(model), *WEIGHTS, "--clean", str(clean), "--steps", "300"]
    assert goodnet(*arguments, "--out", str(tmp_path / "whole")).code == 0
    out = tmp_path / "killed"
    resumable = [*arguments, "--out", str(out), "--resume"]
    assert run_with_kills(resumable, out / "unfinished" / "mark.txt", seconds=1.5) > 0
    # Nothing in it depends on time: the same to the byte.
    assert (out / "scan.json").read_bytes() == (tmp_path / "whole" / "scan.json").read_bytes()
    assert not (out / "unfinished").exists()
