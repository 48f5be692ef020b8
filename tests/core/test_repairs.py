"""Records of repairs: what methods add, what is written, what is read back."""

import pytest
from pydantic import ValidationError

from goodnet.core.backdoor import Backdoor
from goodnet.core.errors import InvalidOption, MethodFailed
from goodnet.core.repairs import (
    Change,
    NetworkRecord,
    PruningSweep,
    Repair,
    RepairedNetwork,
    RepairRecord,
    ScanSummary,
    Trace,
)
from goodnet.core.results import Detection, Rate

SWEEP = PruningSweep(
    layer="pool_2",
    order="ascending",
    channels=(2, 0, 1),
    mean_activations=(0.5, 0.75, 0.25),
    accuracy=(1.0, 1.0, 0.5, 0.25),
    pruned_at_threshold={0.02: 2, 0.1: 2, 0.9: None},
)


class Masked(Change):
    mask_threshold: float
    silenced: dict[str, list[int]]


MASKED = Masked(mask_threshold=0.25, silenced={"conv": [1, 3]}, images=10)


def test_what_is_not_known_of_a_change_is_not_written() -> None:
    assert MASKED.model_dump(mode="json") == {"images": 10, "mask_threshold": 0.25, "silenced": {"conv": [1, 3]}}
    assert Change().model_dump() == {}


def test_a_method_s_own_numbers_come_back_as_fields_of_the_shared_record() -> None:
    entry = NetworkRecord(file="repaired.pt", name="repaired", accuracy=Rate.of(1, 2), changes=MASKED)
    again = NetworkRecord.model_validate_json(entry.model_dump_json())
    assert again.changes.images == 10
    assert again.changes.model_dump() == MASKED.model_dump()
    assert NetworkRecord.model_validate_json(again.model_dump_json()) == again


def test_changes_in_words() -> None:
    assert str(MASKED) == "images: 10, mask threshold: 0.25, silenced: {'conv': [1, 3]}"
    pruned = Change(layer="pool_2", channels_pruned=(1, 4), channels=6, order="random", threshold=0.04)
    assert str(pruned) == "2/6 channels of pool_2 pruned, random"
    assert str(pruned.model_copy(update={"epochs": 3})) == "2/6 channels of pool_2 pruned, random, fine-tuned 3 epochs"


def test_a_repair_s_record_is_read_back_equal() -> None:
    found = Detection("backdoored", (9.0, 0.0), 5.0, (Backdoor(None, 0),), reason="told")
    trace = Trace(sweep=SWEEP, scans=(ScanSummary.of(found),), notes=())
    record = RepairRecord(
        input_range="0..1",
        input_range_reason="as given",
        accuracy_before=Rate.of(2, 2),
        networks=tuple(
            NetworkRecord(file=f"{name}.pt", name=name, accuracy=Rate.of(1, 2), changes=Change()) for name in "ab"
        ),
        recommended="b",
        goodnet="goodnet",
        targets=(0,),
        trace=trace,
    )
    assert RepairRecord.model_validate_json(record.model_dump_json()) == record
    assert record.chosen.file == "b.pt"
    assert set(record.model_dump()["trace"]) == {"sweep", "scans", "notes"}
    with pytest.raises(ValidationError, match="misspelt"):
        RepairRecord.model_validate(record.model_dump() | {"misspelt": 1})


def test_a_repair_prints_its_networks(tiny_classifier) -> None:
    networks = [
        RepairedNetwork("pruned", tiny_classifier, Rate.of(3, 4), Change(images=4)),
        RepairedNetwork("<i>", tiny_classifier, Rate.of(4, 4), Change(why="nothing is suspected")),
    ]
    repair = Repair(tuple(networks[1:]), Rate.of(4, 4), steps=tuple(networks[:1]))
    assert str(repair).splitlines() == [
        "repair: <i> is recommended",
        "network   accuracy  change",
        "original  1.0000",
        "pruned    0.7500    images: 4",
        "<i>       1.0000    why: nothing is suspected",
    ]
    assert "<td>&lt;i&gt;</td>" in repair._repr_html_()
    assert repair.unchanged_because == "nothing is suspected"
    with pytest.raises(InvalidOption, match="a method made by itself"):
        repair.require_run()


def test_a_sweep_that_is_not_there() -> None:
    assert Trace(sweep=SWEEP).require_sweep() is SWEEP
    with pytest.raises(MethodFailed, match="got a repair by another method"):
        Trace().require_sweep()
