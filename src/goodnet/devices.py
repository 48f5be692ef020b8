"""Where networks compute: the device that is asked for, and the way there and back."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch

from goodnet.core.classifier import Classifier
from goodnet.core.errors import InvalidOption

#: Where networks are put together and written to files, whatever they compute on.
CPU = torch.device("cpu")


def choose_device(name: str) -> torch.device:
    """Return the device `name`; "auto" takes a GPU where there is one.

    Raises:
        InvalidOption: there is no such device here.
    """
    if name == "auto":
        return torch.device("cuda") if torch.cuda.is_available() else CPU
    refusal = InvalidOption(f"device '{name}' is not to be had here; expected auto, cpu or cuda")
    try:
        device = torch.device(name)
        torch.empty(1, device=device)
    except (RuntimeError, AssertionError) as error:
        raise refusal from error
    if device.type not in ("cpu", "cuda"):
        raise refusal
    return device


@contextmanager
def on_device(device: torch.device, *networks: Classifier) -> Iterator[None]:
    """Keep networks on `device` for a block; each goes back to where it came from, also when the block fails."""
    homes = [network.device for network in networks]
    try:
        for network in networks:
            network.to(device)
        yield
    finally:
        for network, home in zip(networks, homes, strict=True):
            network.to(home)
