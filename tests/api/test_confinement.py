"""Every verb reads model files in a confined child unless it is told otherwise, and says so in its result."""

import json
from hashlib import sha256

import pytest

import goodnet as package
from goodnet import api
from goodnet.core.reading import Reading
from goodnet.formats import networks

PRUNING = {"method": "pruning", "thresholds": (0.2,)}


@pytest.fixture
def readings(monkeypatch):
    """Count the model files that are read in a child, by name."""
    names = []
    read = networks.read_confined

    def count(path):
        names.append(path.name)
        return read(path)

    monkeypatch.setattr(networks, "read_confined", count)
    return names


def test_scan_repair_and_guard_record_how_they_read_and_the_hash_of_what_they_read(badnet, readings, tmp_path):
    runs = {
        "scan": lambda **how: api.scan(badnet.model, badnet.validation, method="last_layer", **how),
        "repair": lambda **how: api.repair(badnet.model, badnet.validation, **PRUNING, **how),
        "guard": lambda **how: api.guard(badnet.model, badnet.validation, method="strip", **how),
        "evaluate": lambda **how: api.evaluate(badnet.model, badnet.test, **how),
    }
    for verb, run in runs.items():
        for confine in (True, False):
            readings.clear()
            run(reading=Reading(confine=confine), out=tmp_path / verb)
            record = json.loads((tmp_path / verb / "run.json").read_text())
            assert record["options"]["confine"] is confine
            assert readings == [badnet.model.name] * confine
            assert record["inputs"][f"model: {badnet.model}"] == sha256(badnet.model.read_bytes()).hexdigest()


def test_goodnets_are_read_in_a_child_too(badnet, repaired_badnet, readings, tmp_path):
    for confine in (True, False):
        readings.clear()
        package.GoodNet.load(repaired_badnet, confine=confine)
        api.predict(repaired_badnet, badnet.test, reading=Reading(confine=confine))
        api.export(
            repaired_badnet, out=tmp_path / "g.pt2", format="pt2", reading=Reading(input_range="0..1", confine=confine)
        )
        assert len(readings) == 6 * confine


def test_a_scan_without_confinement_says_so_in_its_notes(badnet):
    notes = [
        api.scan(badnet.model, badnet.validation, method="last_layer", reading=Reading(confine=how)).notes
        for how in (True, False)
    ]
    assert "the model file was read without confinement" in notes[1]
    assert "the model file was read without confinement" not in notes[0]


def test_live_networks_need_no_child(badnet, readings):
    live = api.load_classifier(badnet.model, reading=Reading(confine=False)).to_model()
    assert api.load_classifier(live).sha256 is None
    assert readings == []
    assert api.load_classifier(badnet.model).sha256 == sha256(badnet.model.read_bytes()).hexdigest()
