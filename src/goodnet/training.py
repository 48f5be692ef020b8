"""The only training loop: whatever trains a network in goodnet, attack, repair or demo, trains it here."""

from __future__ import annotations

import math
import pickle
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any, Literal, Protocol, Self

import torch
from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor, nn
from torch.nn import functional as F

from goodnet.core.classifier import Classifier
from goodnet.core.dataset import Dataset, as_unit_range
from goodnet.core.errors import InvalidOption, MethodFailed
from goodnet.core.method import Progress, no_progress
from goodnet.formats.checkpoints import write_torch
from goodnet.inference.predictions import require_fit

#: Seeds of single epochs are drawn from the run's seed; the factor keeps the epochs of neighbouring seeds apart.
_EPOCH_SEEDS = 1_000_003


class Loss(Protocol):
    """What training makes small."""

    def __call__(self, classifier: Classifier, images: Tensor, labels: Tensor, /) -> Tensor:
        """Return a scalar for images (B, C, H, W) in [0, 1] and labels (B,)."""


class Update(Protocol):
    """How one batch changes the weights; the default is `descend`."""

    def __call__(self, loss: Callable[[], Tensor], optimizer: torch.optim.Optimizer, /) -> Tensor:
        """Change the weights that `optimizer` holds and return the loss that they had before.

        `loss` computes the batch's loss at the weights as they are when it is called.
        """


def descend(loss: Callable[[], Tensor], optimizer: torch.optim.Optimizer) -> Tensor:
    """Take one step of the optimiser along the gradient, and return the loss before it."""
    value = loss()
    optimizer.zero_grad(set_to_none=True)
    value.backward()  # type: ignore[no-untyped-call]
    optimizer.step()
    return value.detach()


class Training(BaseModel):
    """How to train: every option of the loop."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    epochs: int = Field(10, ge=1, description="passes over the training data")
    optimizer: Literal["adam", "sgd"] = Field("adam", description="optimiser")
    learning_rate: float = Field(1e-3, gt=0, description="learning rate at the start")
    momentum: float = Field(0.9, ge=0, lt=1, description="momentum, for sgd")
    weight_decay: float = Field(0.0, ge=0, description="L2 penalty on the weights")
    schedule: Literal["cosine", "constant"] = Field("cosine", description="learning rate over the epochs")
    batch_size: int = Field(64, ge=1, description="images per step")
    label_smoothing: float = Field(0.0, ge=0, lt=1, description="share of each label spread over all classes")
    augmentation: Literal["none", "shift", "flip", "flip_shift"] = Field(
        "none", description="random changes of the images; none keeps triggers where they are"
    )

    @classmethod
    def of_steps(cls, steps: int, images: int, batch_size: int, **options: Any) -> Self:
        """Return training at a constant rate for at least so many steps, in whole passes over so many images."""
        epochs = math.ceil(steps / math.ceil(images / batch_size))
        return cls(epochs=epochs, schedule="constant", batch_size=batch_size, **options)


def train(
    classifier: Classifier,
    dataset: Dataset,
    training: Training,
    *,
    seed: int,
    loss: Loss | None = None,
    update: Update = descend,
    checkpoint: Path | None = None,
    progress: Progress = no_progress,
) -> None:
    """Train `classifier` in place, on the device where it is.

    Args:
        classifier: the network; its weights change.
        dataset: images with labels; its pixels are held in memory as they are stored (uint8 stays uint8).
        training: the options.
        seed: the same seed gives the same weights on the same machine, interrupted or not.
        loss: what to make small; default: cross-entropy with the options' label smoothing.
        update: what a batch does to the weights, for methods with a step of their own.
        checkpoint: file that is written after each epoch and from which a run that was stopped goes on; whoever gives it
            removes it when what was trained is written.
        progress: called with the number of steps that are done.

    Raises:
        MethodFailed: the loss is no longer finite; the weights are then those of the last good epoch's end or the
            start.
        InputError: data or checkpoint do not fit the network.

    Cost: `epochs` passes forward and backward.
    """
    require_fit(classifier, dataset)
    pixels, labels = _in_memory(dataset)
    optimizer = _make_optimizer(classifier, training)
    rates = [group["lr"] for group in optimizer.param_groups]
    mark = f"{classifier.parameters} weights, seed {seed}, {len(dataset)} images, {training.model_dump_json()}"
    first = _resume(checkpoint, classifier, optimizer, mark) if checkpoint else 0
    compute_loss = loss or _cross_entropy(training)
    with torch.random.fork_rng(devices=[]), _in_training_mode(classifier):
        for epoch in range(first, training.epochs):
            torch.manual_seed(seed * _EPOCH_SEEDS + epoch)
            good = {name: value.clone() for name, value in classifier.network.state_dict().items()}
            batches = _shuffled(len(dataset), training.batch_size)
            for step, index in enumerate(batches):
                _set_learning_rates(optimizer, rates, training, (epoch + step / len(batches)) / training.epochs)
                images = augment(as_unit_range(pixels[index.numpy()]), training.augmentation)
                targets = labels[index].to(classifier.device)
                value = update(partial(compute_loss, classifier, images, targets), optimizer)
                if not torch.isfinite(value):
                    raise _diverged(classifier, good, training, epoch, f"the loss is {value.item()}")
                progress(epoch * len(batches) + step + 1, training.epochs * len(batches))
            if not all(bool(torch.isfinite(value).all()) for value in classifier.network.state_dict().values()):
                raise _diverged(classifier, good, training, epoch, "weights are no longer finite")
            if checkpoint:
                _save(checkpoint, classifier, optimizer, epoch + 1, mark)


@contextmanager
def _in_training_mode(classifier: Classifier) -> Iterator[None]:
    """Let dropout and batch norm train inside the block, and evaluate after it, however it ends."""
    classifier.network.train()
    try:
        yield
    finally:
        classifier.network.eval()


def _diverged(
    classifier: Classifier, good: Mapping[str, Tensor], training: Training, epoch: int, what: str
) -> MethodFailed:
    """Put the weights from before the epoch back and return the error."""
    classifier.network.load_state_dict(good)
    return MethodFailed(
        f"training failed in epoch {epoch + 1}: {what}; lower the learning rate ({training.learning_rate:g})"
    )


def _in_memory(dataset: Dataset) -> tuple[Any, Tensor]:
    return dataset.source.read(dataset.positions), torch.from_numpy(dataset.targets)


def _cross_entropy(training: Training) -> Loss:
    def compute(classifier: Classifier, images: Tensor, labels: Tensor) -> Tensor:
        return F.cross_entropy(classifier(images), labels, label_smoothing=training.label_smoothing)

    return compute


def _make_optimizer(classifier: Classifier, training: Training) -> torch.optim.Optimizer:
    groups = _parameter_groups(classifier, training)
    if training.optimizer == "adam":
        return torch.optim.Adam(groups)
    return torch.optim.SGD(groups, momentum=training.momentum)


def _parameter_groups(classifier: Classifier, training: Training) -> list[dict[str, Any]]:
    """Return the weights to train, those that pixels are multiplied with by themselves.

    A network for pixels in 0..255 is trained as the same one for 0..1 would be: there these weights w are 255 w and
    their gradient g is g / 255, so w takes a step 255 times (Adam) or 255^2 times (SGD) smaller than the other weights.
    Without this, rates that are right for all others throw it off at once.
    """
    scale = classifier.scale if classifier.scale > _LARGE else 1.0
    first = _kernels_on_pixels(classifier) if scale != 1.0 else set()
    weights = [p for p in classifier.network.parameters() if p.requires_grad]
    others = [p for p in weights if p not in first]
    groups: list[dict[str, Any]] = [
        {"params": others, "lr": training.learning_rate, "weight_decay": training.weight_decay}
    ]
    if first:
        slower = scale if training.optimizer == "adam" else scale**2
        own = {"lr": training.learning_rate / slower, "weight_decay": training.weight_decay * scale**2}
        own |= {"eps": _ADAM_EPS * scale} if training.optimizer == "adam" else {}
        groups.append({"params": [p for p in weights if p in first], **own})
    return groups


#: Pixels that are multiplied by more than this are like those in 0..255; a normalisation multiplies by 2 to 5.
_LARGE = 100.0
#: Torch's default.
_ADAM_EPS = 1e-8


def _kernels_on_pixels(classifier: Classifier) -> set[nn.Parameter]:
    """Return the kernels and matrices of the layers that take the images as they are."""
    nodes = [node for node in classifier.network.graph.nodes if node.op == "call_module"]
    modules = [
        classifier.network.get_submodule(str(node.target))
        for node in nodes
        if any(item.op == "placeholder" for item in node.all_input_nodes)
    ]
    layers = [module for module in modules if isinstance(module, nn.Conv2d | nn.Linear)]
    return {weight for layer in layers for weight in layer.parameters() if weight.requires_grad and weight.ndim > 1}


def _set_learning_rates(optimizer: torch.optim.Optimizer, rates: list[float], training: Training, done: float) -> None:
    """Set the rates, at the start `rates`, for the share `done` of the training, in [0, 1)."""
    factor = 0.5 * (1 + math.cos(math.pi * done)) if training.schedule == "cosine" else 1.0
    for group, rate in zip(optimizer.param_groups, rates, strict=True):
        group["lr"] = rate * factor


def _shuffled(count: int, size: int) -> list[Tensor]:
    """Return the positions of an epoch, shuffled, `size` at a time; a last batch of one joins its neighbour.

    Batch normalisation cannot learn from a single image.
    """
    parts = list(torch.split(torch.randperm(count), size))
    if len(parts) > 1 and len(parts[-1]) == 1 < size:
        last = parts.pop()
        parts[-1] = torch.cat([parts[-1], last])
    return parts


def augment(images: Tensor, kind: str) -> Tensor:
    """Return images (B, C, H, W) flipped left to right at random, and/or shifted by up to a tenth of their size."""
    if "flip" in kind:
        flipped = torch.rand(len(images)) < 0.5
        images = torch.where(flipped[:, None, None, None], images.flip(3), images)
    return _shift(images) if "shift" in kind else images


def _shift(images: Tensor) -> Tensor:
    """Shift every image by a whole number of pixels of its own; the border is repeated."""
    count, _, height, width = images.shape
    rows = torch.arange(height) + _offsets(count, height)[:, None]
    columns = torch.arange(width) + _offsets(count, width)[:, None]
    batch = torch.arange(count)[:, None, None]
    picked = images.permute(0, 2, 3, 1)[
        batch, rows.clamp(0, height - 1)[:, :, None], columns.clamp(0, width - 1)[:, None, :]
    ]
    return picked.permute(0, 3, 1, 2)


def _offsets(count: int, size: int) -> Tensor:
    most = size // 10
    return torch.randint(-most, most + 1, (count,))


def _save(path: Path, classifier: Classifier, optimizer: torch.optim.Optimizer, epoch: int, mark: str) -> None:
    state = {"epoch": epoch, "network": classifier.network.state_dict(), "optimizer": optimizer.state_dict()}
    write_torch(state | {"training": mark}, path)


def _resume(path: Path, classifier: Classifier, optimizer: torch.optim.Optimizer, mark: str) -> int:
    """Load a checkpoint if there is one and return the number of epochs that are done.

    `mark` says what the training is: a checkpoint of another seed, data size or options would not give the same
    weights.
    """
    if not path.exists():
        return 0
    try:
        state = torch.load(path, map_location=classifier.device, weights_only=True)
        if not isinstance(state, dict) or state["training"] != mark:
            raise ValueError(f"expected a checkpoint of: {mark}")
        classifier.network.load_state_dict(state["network"])
        optimizer.load_state_dict(state["optimizer"])
        return int(state["epoch"])
    except (RuntimeError, KeyError, ValueError, TypeError, EOFError, pickle.UnpicklingError) as error:
        raise InvalidOption(
            f"{path}: the checkpoint does not belong to this training; remove it to start anew"
        ) from error
