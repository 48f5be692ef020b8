"""The picture of a network has its layers and its edges, and nothing lies on anything else."""

from __future__ import annotations

from itertools import combinations, pairwise

import pytest
import torch
from PIL import Image
from torch import Tensor, nn

from goodnet.core.classifier import Classifier
from goodnet.core.graph import trace
from goodnet.reports.architecture import (
    Block,
    Geometry,
    arrange,
    draw_architecture,
    kind_of,
    list_blocks,
    plot_architecture,
)


class Branches(nn.Module):
    """A fork that meets again, a residual connection, and a node that is no layer (`size`)."""

    def __init__(self, blocks: int = 1) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 4, 3, padding=1)
        self.left, self.right = nn.Conv2d(4, 4, 1), nn.Conv2d(4, 4, 3, padding=1)
        self.deeper = nn.Conv2d(4, 4, 3, padding=1)
        self.residuals = nn.ModuleList(
            nn.Sequential(nn.Conv2d(4, 4, 1), nn.BatchNorm2d(4), nn.ReLU()) for _ in range(blocks)
        )
        self.output = nn.Linear(4 * 8 * 8, 3)

    def forward(self, images: Tensor) -> Tensor:
        values = self.stem(images)
        values = self.left(values) + self.deeper(self.right(values))
        for residual in self.residuals:
            values = values + residual(values)
        return self.output(values.reshape(values.size(0), -1))


def make_classifier(blocks: int = 1) -> Classifier:
    torch.manual_seed(0)
    return Classifier(trace(Branches(blocks)), image_shape=(3, 8, 8), name="net $a$ and $b$")


def gids(figure, kind: str) -> list[str]:
    return [
        p.get_gid().removeprefix(f"{kind}:") for p in figure.axes[0].patches if (p.get_gid() or "").startswith(kind)
    ]


def test_one_box_per_layer_and_one_arrow_per_edge():
    classifier = make_classifier()
    figure = plot_architecture(classifier)
    boxes = gids(figure, "layer")
    assert len(boxes) == len(set(boxes)) == len(classifier.layers()) + 1  # the input
    assert sorted(gids(figure, "edge")) == sorted(
        [
            "images->stem",
            "stem->left",
            "stem->right",
            "right->deeper",
            "left->add",
            "deeper->add",
            "add->residuals_0_0",
            "residuals_0_0->residuals_0_1",
            "residuals_0_1->residuals_0_2",
            "add->add_1",
            "residuals_0_2->add_1",
            "add_1->reshape",  # once, though `size` takes from add_1 too
            "reshape->output",
        ]
    )


def test_boxes_say_what_the_layer_is():
    texts = [text.get_text() for text in plot_architecture(make_classifier()).axes[0].texts]
    for expected in ("stem", "Conv2d", "112 parameters", "4 × 8 × 8", "771 parameters", "256"):
        assert expected in texts
    assert r"net \$a\$ and \$b\$" in texts


def test_rings_mark_the_prunable_layers():
    classifier = make_classifier()
    rings = plot_architecture(classifier).axes[0].lines
    assert 0 < len(rings) == sum(layer.prunable for layer in classifier.layers())


def test_a_module_that_runs_twice_is_two_boxes():
    class Twice(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv, self.relu, self.output = nn.Conv2d(3, 3, 1), nn.ReLU(), nn.Linear(48, 2)

        def forward(self, images: Tensor) -> Tensor:
            return self.output(self.relu(self.conv(self.relu(self.conv(images)))).flatten(1))

    classifier = Classifier(trace(Twice()), image_shape=(3, 4, 4))
    assert gids(plot_architecture(classifier), "edge") == [
        "images->conv",
        "conv->relu",
        "relu->conv_1",
        "conv_1->relu_1",
        "relu_1->flatten",
        "flatten->output",
    ]
    assert (
        "110 parameters" in plot_architecture(classifier).axes[0].texts[1].get_text()
    )  # 12 + 98, the convolution once


def box_bounds(geometry: Geometry, block: Block) -> tuple[float, float, float, float]:
    x, y = geometry.centre(block.key)
    return x - geometry.width / 2, y - block.height / 2, x + geometry.width / 2, y + block.height / 2


@pytest.mark.parametrize("residual_blocks", [0, 1, 14])
def test_boxes_do_not_overlap_and_no_line_runs_through_one(residual_blocks):
    blocks = list_blocks(make_classifier(residual_blocks))
    geometry = Geometry(blocks, arrange(blocks), header=0.7)
    bounds = {block.key: box_bounds(geometry, block) for block in blocks}
    for (left, low, right, high), (left2, low2, right2, high2) in combinations(bounds.values(), 2):
        assert left >= right2 or left2 >= right or low >= high2 or low2 >= high
    for block in blocks:
        for source in block.inputs:
            route = geometry.route(source, block.key)
            assert route[0][1] == pytest.approx(bounds[source][1])
            assert route[-1][1] == pytest.approx(bounds[block.key][3])
            for (x0, y0), (x1, y1) in pairwise(route):
                assert abs(x0 - x1) < 1e-6 or abs(y0 - y1) < 1e-6
                for left, low, right, high in bounds.values():
                    outside = max(x0, x1) <= left or min(x0, x1) >= right or max(y0, y1) <= low + 1e-6
                    assert outside or min(y0, y1) >= high - 1e-6, (source, block.key)


def test_a_long_network_is_laid_out_in_strips(tmp_path):
    classifier = make_classifier(14)
    assert len(classifier.layers()) > 60
    places = arrange(list_blocks(classifier))
    assert len(places.starts) == 4
    with Image.open(draw_architecture(classifier, tmp_path / "long.png")) as picture:
        assert picture.format == "PNG"
        assert 0.5 < picture.width / picture.height < 3


@pytest.mark.parametrize(
    ("kind", "inputs", "group"),
    [
        ("Conv2d", 1, "convolution"),
        ("MaxPool2d", 1, "pooling"),
        ("BatchNorm2d", 1, "normalisation"),
        ("LeakyReLU", 1, "activation"),
        ("Linear", 1, "dense"),
        ("add", 2, "merge"),
        ("add", 1, "other"),
        ("Merge", 2, "merge"),
        ("permute", 1, "reshaping"),
        ("mean", 1, "other"),
    ],
)
def test_kinds(kind, inputs, group):
    assert kind_of(kind, inputs) == group
