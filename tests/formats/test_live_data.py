"""Arrays, tensors, torch data sets and loaders -> the same images and labels."""

import numpy as np
import pytest
import torch
from PIL import Image
from torch.utils import data as torch_data

from goodnet.core.errors import UnreadableData, WrongShape
from goodnet.formats.live_data import as_dataset

RNG = np.random.default_rng(0)
PIXELS = RNG.integers(0, 256, (20, 3, 5, 7), dtype=np.uint8)
PIXELS[0, 0, 0, :2] = 0, 255
LABELS = RNG.integers(0, 4, 20)


class Items(torch_data.Dataset):
    """Gives what it was made of, one at a time, and counts how often it was asked."""

    def __init__(self, items: list) -> None:
        self.items, self.asked = items, 0

    def __len__(self) -> int:
        return len(self.items)

    def __getitem__(self, index: int) -> object:
        self.asked += 1
        return self.items[index]


class Stream(torch_data.IterableDataset):
    def __iter__(self):
        return iter(zip(torch.from_numpy(PIXELS), LABELS.tolist(), strict=True))


def same(data, pixels=PIXELS, labels=LABELS) -> bool:
    close = np.allclose(data.images().numpy(), pixels / 255, atol=1e-6)
    return close and (data.labels is None if labels is None else data.targets.tolist() == list(labels))


@pytest.mark.parametrize("kind", ["uint8", "float 0..1", "float 0..255", "float16 0..255", "int64 0..255"])
@pytest.mark.parametrize("layout", ["NCHW", "NHWC"])
@pytest.mark.parametrize("framework", ["numpy", "torch"])
def test_arrays_and_tensors_of_every_layout_and_range(kind: str, layout: str, framework: str) -> None:
    pixels = PIXELS if layout == "NCHW" else PIXELS.transpose(0, 2, 3, 1)
    values = pixels if kind == "uint8" else (pixels / (255 if kind.endswith("..1") else 1)).astype(kind_of(kind))
    images, labels = (values, LABELS) if framework == "numpy" else (torch.tensor(values), torch.tensor(LABELS))
    assert same(as_dataset((images, labels)))
    assert same(as_dataset(images), labels=None)


def kind_of(words: str) -> type:
    return {"float16": np.float16, "int64": np.int64}.get(words.split(maxsplit=1)[0], np.float32)


@pytest.mark.parametrize(
    "labels", [LABELS.tolist(), LABELS[:, None], LABELS.astype(np.float32), torch.tensor(LABELS, dtype=torch.uint8)]
)
def test_labels_of_every_kind(labels: object) -> None:
    assert same(as_dataset((PIXELS, labels)))


def test_the_name_is_that_given() -> None:
    assert as_dataset(PIXELS, "clean").name == "clean"


def test_bfloat16_and_tensors_that_carry_gradients() -> None:
    images = torch.tensor(PIXELS / 255, dtype=torch.bfloat16, requires_grad=True)
    assert np.abs(as_dataset(images).images().numpy() - PIXELS / 255).max() < 0.003


def test_a_loader_that_shuffles_is_read_once_and_keeps_labels_with_their_images() -> None:
    items = Items(list(zip(torch.from_numpy(PIXELS), LABELS.tolist(), strict=True)))
    torch.manual_seed(1)
    data = as_dataset(torch_data.DataLoader(items, batch_size=6, shuffle=True), "loaded")
    assert items.asked == len(data) == 20
    order = [int((image == PIXELS).all(axis=(1, 2, 3)).argmax()) for image in data.source.read(np.arange(20))]
    assert sorted(order) == list(range(20))
    assert order != list(range(20))
    assert data.targets.tolist() == LABELS[order].tolist()
    list(data.batches())
    assert items.asked == 20


def test_loaders_without_labels() -> None:
    tensors = torch.from_numpy(PIXELS).float() / 255
    for set_of in (torch_data.TensorDataset(tensors), Items(list(tensors))):
        assert same(as_dataset(torch_data.DataLoader(set_of, batch_size=8)), labels=None)
        assert same(as_dataset(set_of), labels=None)


def test_data_sets_of_torch() -> None:
    pairs = [(torch.from_numpy(image), torch.tensor(label)) for image, label in zip(PIXELS, LABELS, strict=True)]
    pictures = [
        (Image.fromarray(image.transpose(1, 2, 0)), int(label)) for image, label in zip(PIXELS, LABELS, strict=True)
    ]
    for data in (Items(pairs), Items(pictures), Stream(), torch_data.Subset(Items(pairs), range(20))):
        assert same(as_dataset(data))


def test_grey_pictures_without_an_axis_for_the_channel() -> None:
    grey = PIXELS[:, 0]
    for items in ([Image.fromarray(image) for image in grey], list(torch.from_numpy(grey))):
        data = as_dataset(Items(items))
        assert data.image_shape == (1, 5, 7)
        assert same(data, grey[:, None], labels=None)


@pytest.mark.parametrize(
    ("data", "error", "words"),
    [
        (PIXELS / 100.0 - 1, UnreadableData, r"got -1 to 1\.\d+; .* make the normalisation the network's first layer"),
        (torch.full((2, 3, 4, 4), torch.nan), UnreadableData, "finite pixels"),
        ((PIXELS, LABELS[:5]), WrongShape, "20 images but 5 labels"),
        ((PIXELS, np.ones((20, 20))), UnreadableData, "give one class for each image"),
        ((PIXELS, LABELS - 4), UnreadableData, "labels of 0 or more"),
        (PIXELS[:, 0], WrongShape, r"got shape \(20, 5, 7\); give grey images an axis"),
        (PIXELS[:0], UnreadableData, "empty set"),
        ((PIXELS, LABELS, LABELS), UnreadableData, "a tuple of 3; leave out all else"),
        ({"image": PIXELS}, UnreadableData, r"or a torch Dataset or DataLoader, got builtins\.dict"),
        (["a.png", "b.png"], UnreadableData, r"got builtins\.list"),
        (Items([{"image": PIXELS[0], "label": 1}]), UnreadableData, "a dict of 2"),
        (Items([]), UnreadableData, "empty set"),
        (Items([PIXELS[0], PIXELS[0, :, :4]]), WrongShape, r"one size, got \(3, 4, 7\) and \(3, 5, 7\)"),
        (Items([(PIXELS[0], [0.5, 0.5])]), UnreadableData, "give one class for each image"),
    ],
)
def test_data_that_cannot_be_used_says_why(data: object, error: type[Exception], words: str) -> None:
    with pytest.raises(error, match=words) as caught:
        as_dataset(data, "clean")
    assert str(caught.value).startswith("clean")
    assert "\n" not in str(caught.value)
