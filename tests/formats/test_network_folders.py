"""Folders of Hugging Face and timm: read as data, written back so that their own library opens them."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from goodnet.core.errors import CodeInFile, InvalidOption, UnreadableModel
from goodnet.formats.networks import read_network
from goodnet.formats.transformers_networks import _import

NAMES = {0: "cat", 1: "dog", 2: "ship"}
TINY = {
    "hidden_size": 16,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
    "intermediate_size": 24,
    "image_size": 16,
    "patch_size": 8,
}


@pytest.fixture(scope="module")
def transformers() -> Any:
    try:
        return _import()
    except InvalidOption as error:
        pytest.skip(str(error))


@pytest.fixture
def folder(transformers: Any, tmp_path: Path) -> Path:
    """A small ViT for 3 classes, normalised as its processor says."""
    torch.manual_seed(0)
    config = transformers.ViTConfig(**TINY, id2label=NAMES, label2id={name: number for number, name in NAMES.items()})
    path = tmp_path / "vit"
    transformers.ViTForImageClassification(config).save_pretrained(path)
    rules = {"image_mean": [0.5] * 3, "image_std": [0.5] * 3, "size": {"height": 16, "width": 16}, "resample": 3}
    (path / "preprocessor_config.json").write_text(json.dumps(rules))
    return path


def change(folder: Path, **entries: Any) -> Path:
    path = folder / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | entries))
    return folder


def logits_of(transformers: Any, folder: Path, images: torch.Tensor) -> np.ndarray:
    model = transformers.AutoModelForImageClassification.from_pretrained(folder).eval()
    with torch.no_grad():
        return model(pixel_values=2 * images - 1).logits.numpy()


def test_all_that_a_folder_says(folder: Path, transformers: Any) -> None:
    classifier, images = read_network(folder), torch.rand(3, 3, 16, 16)
    assert (classifier.classes, classifier.image_shape) == (3, (3, 16, 16))
    assert (classifier.input_range, classifier.resizing) == ("-1..1", "stretch+bicubic")
    assert classifier.class_names == ("cat", "dog", "ship")
    np.testing.assert_allclose(classifier(images).detach().numpy(), logits_of(transformers, folder, images), atol=1e-5)


def test_a_repaired_folder_opens_in_its_library(folder: Path, transformers: Any, tmp_path: Path) -> None:
    classifier, images = read_network(folder), torch.rand(3, 3, 16, 16)
    with torch.no_grad():
        for parameter in classifier.network.parameters():
            parameter.mul_(1.2)
    written = classifier.save(tmp_path / "repaired")
    np.testing.assert_allclose(classifier(images).detach().numpy(), logits_of(transformers, written, images), atol=1e-5)
    for name in ("config.json", "preprocessor_config.json"):
        assert (written / name).read_bytes() == (folder / name).read_bytes()


def test_code_that_a_folder_names_is_not_run(folder: Path) -> None:
    (folder / "modeling.py").write_text("raise SystemExit(1)")
    change(folder, auto_map={"AutoConfig": "modeling.Config"}, _name_or_path="somebody/else")
    classifier = read_network(folder)
    assert classifier.classes == 3
    assert "modeling.py" not in classifier.source.files  # type: ignore[union-attr]


@pytest.mark.parametrize(
    ("entries", "words"),
    [
        ({"model_type": "mine", "auto_map": {"AutoModel": "m.M"}}, "found 'mine' with code of its own"),
        ({"model_type": "bert"}, "found 'bert'"),
        ({"problem_type": "multi_label_classification"}, "gives an image several labels"),
        ({"quantization_config": {"bits": 4}}, "quantised"),
        ({"hidden_size": 40000}, "its configuration asks for|cannot build"),
        ({"num_hidden_layers": "x"}, "cannot build"),
        ({"id2label": {str(number): f"c{number}" for number in range(9)}}, "weights do not fit"),
    ],
)
def test_folders_that_are_refused(entries: dict[str, Any], words: str, folder: Path) -> None:
    with pytest.raises(UnreadableModel, match=words) as caught:
        read_network(change(folder, **entries))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", ["model.safetensors", "pytorch_model.bin"])
def test_weights_that_a_child_has_read_are_the_same(name: str, folder: Path) -> None:
    weights = load_file(folder / "model.safetensors")
    (folder / "model.safetensors").unlink()
    (save_file if name.endswith("safetensors") else torch.save)(weights, folder / name)
    confined, plain = (read_network(folder, confine=confine).network.state_dict() for confine in (True, False))
    assert list(confined) == list(plain)
    assert all(torch.equal(confined[key], plain[key]) for key in plain)


def test_where_weights_are_read_is_said(folder: Path) -> None:
    shards(folder, {})
    assert read_network(folder).notes == ()
    assert read_network(folder, confine=False).notes == ("the model file was read without confinement",)


@pytest.mark.parametrize("confine", [True, False])
def test_weights_that_are_a_program_are_refused(confine: bool, folder: Path) -> None:
    (folder / "model.safetensors").unlink()
    (folder / "pytorch_model.bin").write_bytes(b"\x80\x04\x8c\x02os\x8c\x06system\x93\x8c\x02id\x85R.")
    with pytest.raises(CodeInFile, match=r"it names os\.system$"):
        read_network(folder, confine=confine)


@pytest.mark.parametrize("confine", [True, False])
def test_weights_of_another_kind_are_refused(confine: bool, folder: Path) -> None:
    (folder / "model.safetensors").write_bytes(b"GIF89a and so on")
    with pytest.raises(UnreadableModel, match=r"model\.safetensors: expected a file of torch\.save"):
        read_network(folder, confine=confine)


def shards(folder: Path, names: dict[str, str]) -> None:
    weights = load_file(folder / "model.safetensors")
    (folder / "model.safetensors").unlink()
    save_file(weights, folder / "part.safetensors")
    index = {"weight_map": dict.fromkeys(weights, "part.safetensors") | names}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))


def test_weights_in_several_files(folder: Path, tmp_path: Path) -> None:
    before = read_network(folder)
    shards(folder, {})
    images = torch.rand(2, 3, 16, 16)
    torch.testing.assert_close(read_network(folder)(images), before(images))


@pytest.mark.parametrize("place", ["../x.safetensors", "/etc/passwd", ".hidden", "a\\b"])
def test_weights_outside_the_folder_are_refused(place: str, folder: Path) -> None:
    shards(folder, {"classifier.bias": place})
    with pytest.raises(UnreadableModel, match="is no plain name of a file in the folder"):
        read_network(folder)


def test_an_architecture_for_a_folder_is_refused(folder: Path) -> None:
    with pytest.raises(InvalidOption, match="leave out --architecture"):
        read_network(folder, "small_cnn")
