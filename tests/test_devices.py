"""Devices, and networks that go there and back."""

import pytest
import torch

from goodnet.core.classifier import Classifier
from goodnet.core.errors import InputError
from goodnet.devices import CPU, choose_device, on_device


def test_the_device_that_is_asked_for():
    assert choose_device("cpu").type == "cpu"
    assert choose_device("auto").type == ("cuda" if torch.cuda.is_available() else "cpu")


# "meta" is a device of torch's that holds no numbers.
@pytest.mark.parametrize("name", ["cuda:99", "abacus", "meta", ""])
def test_no_such_device(name):
    with pytest.raises(InputError, match=f"device '{name}' is not to be had here; expected auto, cpu or cuda"):
        choose_device(name)


def test_auto_takes_a_gpu_where_there_is_one(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    assert choose_device("auto") == torch.device("cuda")


class _Noting(Classifier):
    """Notes where it is sent instead of going there."""

    def __init__(self, home: str) -> None:
        self._place = torch.device(home)
        self.moves: list[str] = []

    @property
    def device(self) -> torch.device:
        return self._place

    def to(self, device):
        if torch.device(device).index == 9:
            raise RuntimeError("out of memory")
        self._place = torch.device(device)
        self.moves.append(str(device))
        return self


def test_networks_are_on_the_device_for_the_block_alone():
    first, second = _Noting("cpu"), _Noting("cuda:1")
    with on_device(torch.device("cuda:0"), first, second):
        assert (str(first.device), str(second.device)) == ("cuda:0", "cuda:0")
    assert (first.moves, second.moves) == (["cuda:0", "cpu"], ["cuda:0", "cuda:1"])


def test_networks_go_back_from_a_block_that_fails():
    network = _Noting("cuda:1")
    with pytest.raises(KeyError), on_device(CPU, network):
        raise KeyError
    assert network.moves == ["cpu", "cuda:1"]


def test_a_network_that_has_no_room_there_leaves_the_others_where_they_were():
    first, second = _Noting("cuda:0"), _Noting("cuda:1")
    second.to = lambda device: None if device == second.device else _Noting("cpu").to("cuda:9")
    with pytest.raises(RuntimeError, match="out of memory"), on_device(CPU, first, second):
        raise NotImplementedError
    assert first.moves == ["cpu", "cuda:0"]
