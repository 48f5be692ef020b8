"""Networks in checkpoints: wherever they lie, under whatever prefix, one or several."""

from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from goodnet.core.errors import InputError, InvalidOption, UnreadableModel
from goodnet.formats.pytorch import read_state_dict
from tests.formats.checkpoint_files import RESIDUAL, SHAPE, is_network, opened, state

PREFIXES = ["module.", "module._orig_mod.", "model.", "_forward_module.model.", "net.0.", "a.b.c.d.e."]


@pytest.mark.parametrize("prefix", PREFIXES)
@pytest.mark.parametrize("path", [(), ("state_dict",), ("ema", "shadow"), ("models", 1), ("a", "b", 0, "c", 3)])
def test_weights_are_found_under_any_prefix_at_any_depth(prefix: str, path: tuple[Any, ...], tmp_path: Path) -> None:
    content: Any = state(1, prefix)
    for key in reversed(path):
        content = [7, content, 8][1 - key :] if key in (0, 1) else {"epoch": 3, key: content, "note": "x"}
    classifier = opened(tmp_path / "net.pt", content)
    assert is_network(classifier, 1)
    classifier.layer("stem").silence([2])
    saved: Any = torch.load(classifier.save(tmp_path / "new.pt"), weights_only=True)
    for key in path:
        assert len(saved) == 3 - (key == 0)
        saved = saved[key]
    assert list(saved) == list(state(1, prefix))
    assert (saved[f"{prefix}stem.weight"][2] == 0).all()


@pytest.mark.parametrize(
    "more",
    [
        {"n_averaged": torch.tensor(7)},
        {"module.num_updates": torch.tensor([3]), "module.decay": torch.tensor(0.99), "epoch": 3},
        {"module.initted": torch.tensor([1.0]), "module.first.total_ops": torch.zeros(1, dtype=torch.float64)},
        {"criterion.weight": torch.ones(5), "metrics.confusion": torch.ones(5, 5)},
        {"module.seen": torch.tensor(True), "module.empty": torch.zeros(0)},
    ],
)
def test_counters_and_what_lies_elsewhere_do_not_disturb_and_stay(more: dict[str, Any], tmp_path: Path) -> None:
    classifier = opened(tmp_path / "net.pt", {**more, **state(2, "module.")})
    assert is_network(classifier, 2)
    saved = torch.load(classifier.save(tmp_path / "new.pt"), weights_only=True)
    assert list(saved) == [*more, *state(2, "module.")]
    assert all(
        saved[name] == value if isinstance(value, int) else torch.equal(saved[name], value)
        for name, value in more.items()
    )


@pytest.mark.parametrize("more", [{"module.act.weight": torch.ones(1)}, {"module.scale": torch.tensor(2.0)}])
def test_one_number_that_can_be_a_weight_is_not_passed_over(more: dict[str, Any], tmp_path: Path) -> None:
    with pytest.raises(UnreadableModel, match=r"under 'module\.' do not fit .* 1 left over"):
        opened(tmp_path / "net.pt", {**state(2, "module."), **more})


SEVERAL: list[tuple[Any, dict[str, int]]] = [
    ({"model": state(1), "model_ema": state(2)}, {"model": 1, "model_ema": 2}),
    ({"ema": {**state(2), "n_averaged": torch.tensor(4)}, "epoch": 1, "net": state(1)}, {"ema": 2, "net": 1}),
    (
        {"state_dict": {**state(1, "student."), **state(2, "teacher.")}},
        {"state_dict/student.": 1, "state_dict/teacher.": 2},
    ),
    ({**state(1), **state(2, "ema.")}, {"/": 1, "ema.": 2}),
    ({"weights": state(1), "best": {"module": state(2, "module.")}}, {"weights": 1, "best/module/module.": 2}),
    ({"fold": [state(1), state(2), state(3)]}, {"fold/0": 1, "fold/1": 2, "fold/2": 3}),
    ({"model": state(1), "half": {n: v.half() for n, v in state(1).items()}}, {"model": 1}),
]


@pytest.mark.parametrize(("content", "keys"), SEVERAL)
def test_of_several_networks_none_is_taken_unasked(content: Any, keys: dict[str, int], tmp_path: Path) -> None:
    with pytest.raises(
        UnreadableModel, match="expected one network that fits the architecture 'residual', found"
    ) as caught:
        opened(tmp_path / "net.pt", content)
    assert all(key in str(caught.value) for key in keys)
    assert "--key NAME" in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(("content", "keys"), SEVERAL[:-1])
def test_the_key_chooses_and_the_others_are_not_written(content: Any, keys: dict[str, int], tmp_path: Path) -> None:
    for key, seed in keys.items():
        classifier = opened(tmp_path / "net.pt", content, key)
        assert is_network(classifier, seed)
        assert (classifier.source.key, set(classifier.source.left_out)) == (key, set(keys) - {key})  # type: ignore[union-attr]
        again = opened(classifier.save(tmp_path / "new.pt"))
        assert is_network(again, seed)
        assert again.source.left_out == ()  # type: ignore[union-attr]
        written = (tmp_path / "new.pt").read_bytes()
        for other in set(keys.values()) - {seed}:
            assert state(other)["head.weight"].numpy().tobytes() not in written
            assert state(other)["head.weight"].numpy().tobytes() in (tmp_path / "net.pt").read_bytes()


def test_what_else_lay_in_the_file_stays_when_a_network_goes(tmp_path: Path) -> None:
    ema = {**state(2), "decay": 0.99}
    content = {
        "model": state(1),
        "ema": ema,
        "gone": state(3),
        "optimizer": {"state": {0: {"step": torch.tensor(3.0)}}},
        "epoch": 9,
    }
    classifier = opened(tmp_path / "net.pt", content, "model")
    saved = torch.load(classifier.save(tmp_path / "new.pt"), weights_only=True)
    assert list(saved) == ["model", "ema", "optimizer", "epoch"]
    assert (saved["ema"], saved["optimizer"], saved["epoch"]) == ({"decay": 0.99}, content["optimizer"], 9)


@pytest.mark.parametrize("shared", [False, True])
def test_the_same_network_twice_is_one_and_is_changed_in_both_places(shared: bool, tmp_path: Path) -> None:
    first = state(1)
    second = first if shared else {f"module.{name}": value.clone() for name, value in first.items()}
    classifier = opened(tmp_path / "net.pt", {"last": first, "best": second})
    assert classifier.source.key == ("last = best" if shared else "last = best/module.")  # type: ignore[union-attr]
    classifier.layer("stem").silence([0])
    saved = torch.load(classifier.save(tmp_path / "new.pt"), weights_only=True)
    assert all((saved["best"][name][0] == 0).all() for name in saved["best"] if "stem.weight" in name)
    assert (saved["last"]["stem.weight"][0] == 0).all()
    assert len(opened(tmp_path / "new.pt").source.places) == 2  # type: ignore[union-attr]


def test_networks_of_different_classes_are_two(tmp_path: Path) -> None:
    content = {"student": state(1, classes=5), "teacher": state(2, classes=9)}
    with pytest.raises(UnreadableModel, match="found 2: student, teacher"):
        opened(tmp_path / "net.pt", content)
    assert opened(tmp_path / "net.pt", key="teacher").classes == 9


def test_several_networks_in_safetensors(tmp_path: Path) -> None:
    path = tmp_path / "net.safetensors"
    save_file({**state(1, "student."), **state(2, "teacher.")}, path)
    with pytest.raises(UnreadableModel, match=r"found 2: student\., teacher\."):
        opened(path)
    classifier = read_state_dict(path, RESIDUAL, SHAPE, "teacher.")
    assert is_network(classifier, 2)
    assert set(load_file(classifier.save(tmp_path / "new.safetensors"))) == set(state(2, "teacher."))


@pytest.mark.parametrize(("key", "there"), [("ema", "model, other"), ("", "model, other"), ("model/", "model, other")])
def test_a_key_that_is_not_there_lists_those_that_are(key: str, there: str, tmp_path: Path) -> None:
    with pytest.raises(InvalidOption, match=f"got '{key}'; there are: {there}"):
        opened(tmp_path / "net.pt", {"model": state(1), "other": state(2), "ema": {"decay": 0.9}}, key)


def test_a_key_is_held_to_where_there_is_one_network_too(tmp_path: Path) -> None:
    assert is_network(opened(tmp_path / "net.pt", {"model": state(1)}, "model"), 1)
    with pytest.raises(InvalidOption, match="got 'ema'; there are: model"):
        opened(tmp_path / "net.pt", key="ema")


def test_keys_that_read_alike_are_not_confused(tmp_path: Path) -> None:
    with pytest.raises(InputError):
        opened(tmp_path / "net.pt", {"1": state(1), 1: state(2)}, "1")


def test_a_key_of_a_stranger_does_not_break_the_line(tmp_path: Path) -> None:
    with pytest.raises(UnreadableModel) as caught:
        opened(tmp_path / "net.pt", {"a\nb\x1b[31m": state(1), "x" * 5000: state(2)})
    assert r"a\nb\x1b[31m" in str(caught.value)
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 500
    assert is_network(opened(tmp_path / "net.pt", key=r"a\nb\x1b[31m"), 1)


def test_a_misfit_speaks_of_the_network_that_is_nearest(tmp_path: Path) -> None:
    almost = state(1, "encoder.module.")
    almost["encoder.module.fc.weight"] = almost.pop("encoder.module.head.weight")
    words = (
        r"under 'net/encoder\.module\.' do not fit .*: 1 missing, 1 left over, .* has 'fc\.weight', .* 'head\.weight'"
    )
    with pytest.raises(UnreadableModel, match=words):
        opened(tmp_path / "net.pt", {"optimizer": {"head.weight": torch.ones(3)}, "net": almost})


def test_more_networks_than_can_be_looked_at_are_refused(tmp_path: Path) -> None:
    with pytest.raises(UnreadableModel, match="at most 100 networks"):
        opened(tmp_path / "net.pt", {str(number): state(0) for number in range(101)})
