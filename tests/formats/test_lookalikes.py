"""A checkpoint says of what looks like a second network, under no name that would say so, that it holds it."""

from collections import OrderedDict

import numpy as np
import pytest
import torch

from goodnet import architectures
from goodnet.formats.pytorch import read_state_dict
from tests.data.twin_network import build

SHAPE = (1, 16, 16)
TENSORS = list(build().state_dict().values())

#: What may lie beside the network, and the place that is named.
COPIES = {
    "torch_ema": ({"ema": {"decay": 0.99, "shadow_params": TENSORS}}, "ema/shadow_params"),
    "names without dots": ({"ema": {name.replace(".", ""): v for name, v in build().state_dict().items()}}, "ema"),
    "arrays": ({"best": {name: value.numpy() for name, value in build().state_dict().items()}}, "best"),
    "a layer missing": (
        {"average": OrderedDict((k, v) for k, v in build().state_dict().items() if "output" not in k)},
        "average",
    ),
}
OTHERS = {
    "an optimizer": {"optimizer": {"state": {i: {"exp_avg": v} for i, v in enumerate(TENSORS)}, "param_groups": [{}]}},
    "Adam's memory as one mapping": {"opt": {"param_groups": [], "state": {"m": dict(enumerate(TENSORS))}}},
    "numbers": {"epoch": 3, "history": [0.1, 0.2], "confusion": torch.zeros(10, 10)},
}


def read(tmp_path, beside):
    torch.save({"model": build().state_dict(), **beside}, tmp_path / "net.pt")
    return read_state_dict(tmp_path / "net.pt", architectures.find("tests.data.twin_network:build"), SHAPE)


@pytest.mark.parametrize("copy", COPIES)
def test_a_copy_without_a_name_is_said(copy, tmp_path):
    beside, place = COPIES[copy]
    (note,) = read(tmp_path, beside).notes
    assert f"under {place};" in note
    assert "holds them as they are" in note


@pytest.mark.parametrize("other", OTHERS)
def test_what_is_no_copy_is_not_named(other, tmp_path):
    assert read(tmp_path, OTHERS[other]).notes == ()


def test_the_file_that_is_written_holds_what_was_said(tmp_path):
    classifier = read(tmp_path, COPIES["torch_ema"][0])
    again = torch.load(classifier.save(tmp_path / "again.pt"), weights_only=True)
    assert all(torch.equal(a, b) for a, b in zip(again["ema"]["shadow_params"], TENSORS, strict=True))
    assert np.isclose(again["ema"]["decay"], 0.99)
