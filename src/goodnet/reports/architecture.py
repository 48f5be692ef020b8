"""The network as a picture: one box per layer, one arrow per edge of its graph, top to bottom.

Layers that follow one another on the longest path make the main column; branches stand beside it; a value that skips
layers runs down a track between them. A long network goes on in a further strip to the right.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any

from torch import fx

from goodnet.core.classifier import Classifier, Layer
from goodnet.core.graph import compute_nodes, name_of
from goodnet.reports import figures as look
from goodnet.reports.figures import GREY, INK, plain, text_width

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

#: Colour of each kind of layer, in the order of the legend.
KIND_COLOURS = {"input": INK, "convolution": look.BLUE, "normalisation": look.SKY, "activation": look.ORANGE}
KIND_COLOURS |= {"pooling": look.GREEN, "dense": look.VERMILLION, "merge": look.PURPLE}
KIND_COLOURS |= {"other": look.YELLOW, "reshaping": GREY}

_KIND_WORDS = {
    "reshaping": "flatten permute reshape view transpose getitem contiguous dropout identity squeeze chunk split",
    "convolution": "conv",
    "pooling": "pool",
    "normalisation": "norm",
    "dense": "linear dense",
    "activation": "relu sigmoid tanh softmax elu gelu silu mish swish softplus softsign exponential",
}

#: Inches: distance of rows, height of a box and of a small one, of tracks, of columns, and around everything.
_ROW, _BOX, _SMALL, _TRACK, _SPACE, _MARGIN = 0.68, 0.44, 0.24, 0.17, 0.3, 0.25

Point = tuple[float, float]


@dataclass(frozen=True)
class Block:
    """A box: its key in the graph, the layer (None for the input), the keys of its inputs, its output shape."""

    key: str
    layer: Layer | None
    inputs: tuple[str, ...]
    shape: tuple[int, ...]

    @property
    def kind(self) -> str:
        """One of `KIND_COLOURS`."""
        return "input" if self.layer is None else kind_of(self.layer.kind, len(self.inputs))

    @property
    def height(self) -> float:
        """Height in inches."""
        return _SMALL if self.kind in ("reshaping", "input") else _BOX


def kind_of(kind: str, inputs: int) -> str:
    """Return the group of `KIND_COLOURS` to which a layer of `kind` with so many inputs belongs."""
    for group, words in _KIND_WORDS.items():
        if any(word in kind.lower() for word in words.split()):
            return group
    return "merge" if inputs > 1 or kind == "Merge" else "other"


def list_blocks(classifier: Classifier) -> list[Block]:
    """Return the input and one block per layer of `classifier.layers()`, in the order in which they run.

    Nodes that are no layers (they give no tensor) are left out: what they take from is joined to what takes from them.
    """
    matched: dict[fx.Node, Layer] = {}
    remaining = iter(classifier.layers())
    layer = next(remaining, None)
    for node in compute_nodes(classifier.network):
        if layer is not None and name_of(node) == layer.name:
            matched[node] = layer
            layer = next(remaining, None)
    inputs = [node for node in classifier.network.graph.nodes if node.op == "placeholder"]
    shown = {*inputs, *matched}
    blocks = [Block(node.name, None, (), classifier.image_shape) for node in inputs]
    return blocks + [
        Block(n.name, layer, tuple(_sources(n, shown)), layer.output_shape) for n, layer in matched.items()
    ]


def _sources(node: fx.Node, shown: set[fx.Node]) -> dict[str, None]:
    """Return the names of the nearest nodes before `node` that are shown, each once, in order."""
    found: dict[str, None] = {}
    for item in node.all_input_nodes:
        found.update({item.name: None} if item in shown else _sources(item, shown))
    return found


@dataclass(frozen=True)
class Arrangement:
    """Of each block: `rank` (its row in one endless strip), `lane` (0 is the main column), the `chain` it is a link of.

    `tracks` are the edges that run down a narrow track, and its number; `starts` the ranks at which strips begin.
    """

    rank: Mapping[str, int]
    lane: Mapping[str, int]
    chain: Mapping[str, tuple[str, ...]]
    tracks: Mapping[tuple[str, str], int]
    starts: tuple[int, ...]

    def strip(self, key: str) -> int:
        """Return the number of the strip in which a block stands."""
        return sum(self.rank[key] >= start for start in self.starts) - 1


def arrange(blocks: Sequence[Block]) -> Arrangement:
    """Give every block a place such that no two share one and no vertical line runs through a box."""
    users: dict[str, list[str]] = {block.key: [] for block in blocks}
    for block in blocks:
        for source in block.inputs:
            users[source].append(block.key)
    below: dict[str, int] = {}
    for block in reversed(blocks):
        below[block.key] = 1 + max((below[user] for user in users[block.key]), default=-1)
    deepest = max(below.values())
    rank = {key: deepest - steps for key, steps in below.items()}
    lane, chain = _lanes(blocks, users, below, rank)
    tracks = _tracks(blocks, rank, lane, chain)
    return Arrangement(rank, lane, chain, tracks, _strip_starts(blocks, rank))


def _lanes(
    blocks: Sequence[Block], users: Mapping[str, Sequence[str]], below: Mapping[str, int], rank: Mapping[str, int]
) -> tuple[dict[str, int], dict[str, tuple[str, ...]]]:
    inputs = {block.key: block.inputs for block in blocks}
    lane: dict[str, int] = {}
    chains: dict[str, tuple[str, ...]] = {}
    taken: list[list[tuple[int, int]]] = []
    for start in sorted(below, key=lambda key: -below[key]):
        if start in lane:
            continue
        chain = [start]
        while free := [user for user in users[chain[-1]] if user not in lane and user not in chain]:
            chain.append(max(free, key=lambda key: below[key]))
        first = min((rank[key] + 1 for key in inputs[start]), default=rank[start])
        last = max((rank[key] - 1 for key in users[chain[-1]]), default=rank[chain[-1]])
        number = _first_free(taken, (first, last))
        lane.update(dict.fromkeys(chain, number))
        chains.update(dict.fromkeys(chain, tuple(chain)))
    return lane, chains


def _first_free(taken: list[list[tuple[int, int]]], wanted: tuple[int, int]) -> int:
    """Book the ranks `wanted` (first, last) in the first line of `taken` that has them free, and return its number."""
    for number, booked in enumerate(taken):
        if all(wanted[1] < first or last < wanted[0] for first, last in booked):
            booked.append(wanted)
            return number
    taken.append([wanted])
    return len(taken) - 1


def _edges(blocks: Sequence[Block]) -> Iterator[tuple[str, str]]:
    return ((source, block.key) for block in blocks for source in block.inputs)


def _tracks(
    blocks: Sequence[Block], rank: Mapping[str, int], lane: Mapping[str, int], chain: Mapping[str, tuple[str, ...]]
) -> dict[tuple[str, str], int]:
    taken: list[list[tuple[int, int]]] = []
    found = {}
    for source, target in sorted(_edges(blocks), key=lambda edge: rank[edge[1]] - rank[edge[0]]):
        if rank[target] - rank[source] > 1 and not _keeps_to_lane(source, target, lane, chain):
            found[source, target] = _first_free(taken, (rank[source], rank[target]))
    return found


def _keeps_to_lane(source: str, target: str, lane: Mapping[str, int], chain: Mapping[str, tuple[str, ...]]) -> bool:
    """Say whether an edge can run down the part of a lane that was booked for one of its chains."""
    if chain[source] == chain[target]:
        return chain[source].index(target) == chain[source].index(source) + 1
    if lane[source] == lane[target]:
        return False
    return (lane[target] > 0 and chain[target][0] == target) or (lane[source] > 0 and chain[source][-1] == source)


def _strip_starts(blocks: Sequence[Block], rank: Mapping[str, int]) -> tuple[int, ...]:
    """Cut the rows into strips of about the same length, where few values cross the cut."""
    rows = max(rank.values()) + 1
    longest = max(18, math.ceil(math.sqrt(4 * rows)))
    strips = math.ceil(rows / longest)
    starts = [0]
    for number in range(1, strips):
        ideal = round(number * rows / strips)
        window = range(max(starts[-1] + 2, ideal - 3), min(rows - 1, ideal + 4))
        crossing = {
            cut: len({source for source, target in _edges(blocks) if rank[source] < cut <= rank[target]})
            for cut in window
        }
        starts.append(min(window, key=lambda cut: (crossing[cut], abs(cut - ideal))))
    return tuple(starts)


class Geometry:
    """Turns an arrangement into inches, (0, 0) at the lower left."""

    def __init__(self, blocks: Sequence[Block], places: Arrangement, header: float) -> None:
        self.blocks, self.places = {block.key: block for block in blocks}, places
        self.width = min(max(2.0, *(_wanted_width(block) for block in blocks)), 3.2)
        self._side = _TRACK * (1 + max(places.tracks.values(), default=-1))
        self._crossing = list(dict.fromkeys(s for s, t in _edges(blocks) if places.strip(s) != places.strip(t)))
        lanes = [0] * len(places.starts)
        for key, lane in places.lane.items():
            lanes[places.strip(key)] = max(lanes[places.strip(key)], lane)
        self._lefts = [_MARGIN]
        for last_lane in lanes:
            gutter = _SPACE + _TRACK * (1 + len(self._crossing))
            self._lefts.append(self._lefts[-1] + self._lane_offset(last_lane) + self.width / 2 + self._side + gutter)
        ends = [*places.starts[1:], max(places.rank.values()) + 1]
        self.rows = max(end - start for start, end in zip(places.starts, ends, strict=True))
        self.right = self._lefts[-1] - _SPACE - _TRACK * (1 + len(self._crossing))
        self.top = _MARGIN + self.rows * _ROW + 0.1
        self.total_height = self.top + header

    def _lane_offset(self, lane: int) -> float:
        return self.width / 2 + (lane * (self.width + _SPACE) + self._side if lane else 0)

    def centre(self, key: str) -> Point:
        """Return the middle of a block."""
        strip = self.places.strip(key)
        row = self.places.rank[key] - self.places.starts[strip]
        return self._lefts[strip] + self._lane_offset(self.places.lane[key]), self.top - (row + 0.5) * _ROW

    def route(self, source: str, target: str) -> list[Point]:
        """Return the corners of the line from the lower side of `source` to the upper side of `target`."""
        (x0, y0), (x1, y1), places = self.centre(source), self.centre(target), self.places
        start, end = (x0, y0 - self.blocks[source].height / 2), y1 + self.blocks[target].height / 2
        leave, enter = y0 - _ROW / 2 + 0.05, y1 + _ROW / 2 - 0.03
        strip = places.strip(target)
        points = [start]
        if places.strip(source) != strip:
            number = self._crossing.index(source)
            gutter = self._lefts[places.strip(source) + 1] - _SPACE / 2 - _TRACK * (number + 1)
            leave_at = self.top - 0.01 + 0.05 * (number % 3)
            points += [(x0, leave), (gutter, leave), (gutter, leave_at)]
            x0, leave = gutter, leave_at
            first_row = places.rank[target] == places.starts[strip]
        else:
            first_row = places.rank[target] == places.rank[source] + 1
        if (source, target) in places.tracks and not first_row:
            via = self._lefts[strip] + self.width + _TRACK * (places.tracks[source, target] + 0.6)
        elif first_row or (places.lane[target] and places.chain[target][0] == target):
            via = x1
        else:
            via = self._lefts[strip] + self._lane_offset(places.lane[source])
        side = 0.0 if via == x1 else math.copysign(min(0.22 * self.width, 0.5), via - x1)
        if first_row and places.strip(source) == strip and places.lane[target] < places.lane[source]:
            leave, side = enter, 0.22 * self.width
            via = x1 + side
        points += [(x0, leave), (via, leave), (via, enter), (x1 + side, enter), (x1 + side, end)]
        return [start, *(after for before, after in pairwise(points) if math.dist(before, after) > 1e-6)]


def _lines(block: Block) -> tuple[str, str, str, str]:
    """Return what a box says: upper left (name), upper right (parameters), lower left (kind), lower right (shape)."""
    parameters = f"{block.layer.parameters:,} parameters" if block.layer and block.layer.parameters else ""
    name, kind = (block.layer.name, block.layer.kind) if block.layer else (block.key, "input")
    return name, parameters, kind, " × ".join(f"{size:,}" for size in block.shape)


def _wanted_width(block: Block) -> float:
    name, parameters, kind, shape = _lines(block)
    upper, lower = text_width(name, 8, True) + text_width(parameters, 7), text_width(kind, 7) + text_width(shape, 7)
    return (upper + lower if block.height == _SMALL else max(upper, lower)) + 0.4


def plot_architecture(classifier: Classifier) -> Figure:
    """Draw the network: a box per layer with name, number of parameters, kind and output shape (C × H × W).

    Boxes carry the gid "layer:NODE", arrows "edge:NODE->NODE", with the names of the graph's nodes. A ring at the right
    end marks layers of which single channels can be pruned.
    """
    blocks = list_blocks(classifier)
    places = arrange(blocks)
    geometry = Geometry(blocks, places, header=0.75)
    title, facts = plain(classifier.name, 70), _describe(classifier, blocks)
    legend_left = geometry.right + 0.35
    width = max(legend_left + 2.0, 2 * _MARGIN + max(text_width(title, 12, True), text_width(facts, 8.5)))
    height = max(geometry.total_height, 1.3 + 0.18 * (1 + len({block.kind for block in blocks})))
    figure = look.new_figure(width, height, layout=None)
    ax = figure.add_axes((0, 0, 1, 1), xlim=(0, width), ylim=(geometry.total_height - height, geometry.total_height))
    ax.set_axis_off()
    top = geometry.total_height - _MARGIN
    ax.text(_MARGIN, top, title, fontsize=12, fontweight="bold", color=INK, va="top", family="DejaVu Sans")
    ax.text(_MARGIN, top - 0.28, facts, fontsize=8.5, color=GREY, va="top", family="DejaVu Sans")
    for source, target in _edges(blocks):
        _draw_edge(ax, f"edge:{source}->{target}", geometry.route(source, target))
    for block in blocks:
        _draw_block(ax, block, geometry.centre(block.key), geometry.width)
    _draw_legend(ax, blocks, (legend_left, geometry.top - 0.2))
    return figure


def draw_architecture(classifier: Classifier, path: str | Path) -> Path:
    """Write `plot_architecture` to `path` and return the path; huge networks get fewer dots per inch."""
    figure = plot_architecture(classifier)
    return look.write_figure(figure, path, dpi=min(look.DPI, 12000 / max(figure.get_size_inches())))


def _describe(classifier: Classifier, blocks: Sequence[Block]) -> str:
    modules = {id(block.layer.module): block.layer.parameters for block in blocks if block.layer and block.layer.module}
    shape = " × ".join(str(size) for size in classifier.image_shape)
    return (
        f"{sum(block.layer is not None for block in blocks)} layers, {sum(modules.values()):,} parameters, "
        f"images {shape}, {classifier.classes:,} classes"
    )


def _draw_edge(ax: Axes, gid: str, points: Sequence[Point]) -> None:
    from matplotlib.patches import FancyArrowPatch
    from matplotlib.path import Path as Outline

    radius, vertices, codes = 0.05, [points[0]], [Outline.MOVETO]
    for before, corner, after in zip(points, points[1:], points[2:], strict=False):
        near, far = _towards(corner, before, radius), _towards(corner, after, radius)
        vertices += [near, corner, far]
        codes += [Outline.LINETO, Outline.CURVE3, Outline.CURVE3]
    outline = Outline([*vertices, points[-1]], [*codes, Outline.LINETO])
    arrow = FancyArrowPatch(path=outline, arrowstyle="-|>", mutation_scale=7, color=GREY, linewidth=0.9)
    arrow.set_gid(gid)
    ax.add_patch(arrow)


def _towards(start: Point, end: Point, distance: float) -> Point:
    """Return the point `distance` from `start` on the way to `end`, or half of the way if that is nearer."""
    share = min(0.5, distance / math.dist(start, end))
    return start[0] + share * (end[0] - start[0]), start[1] + share * (end[1] - start[1])


def _tint(colour: str) -> str:
    return "#" + "".join(f"{round(209 + 0.18 * int(colour[at : at + 2], 16)):02x}" for at in (1, 3, 5))


def _draw_block(ax: Axes, block: Block, centre: Point, width: float) -> None:
    from matplotlib.patches import FancyBboxPatch

    colour, (x, y), height = KIND_COLOURS[block.kind], centre, block.height
    box = FancyBboxPatch((x - width / 2, y - height / 2), width, height, "round,pad=0,rounding_size=0.06")
    box.set(facecolor=_tint(colour), edgecolor=colour, linewidth=1.1, zorder=3, gid=f"layer:{block.key}")
    ax.add_patch(box)
    name, parameters, kind, sizes = _lines(block)
    left, right = x - width / 2 + 0.1, x + width / 2 - 0.12
    small = height == _SMALL
    upper, lower = (y, y) if small else (y + 0.1, y - 0.1)
    style: dict[str, Any] = {"va": "center", "zorder": 4, "family": "DejaVu Sans", "fontsize": 7, "color": GREY}
    size = 7 if small else 8
    shown = _fit(name, width - 0.4 - text_width(sizes if small else parameters, 7) - small * text_width(kind, 7))
    ax.text(left, upper, plain(shown), style, fontsize=size, fontweight="bold", color=INK)
    if not (small and name.lower().startswith(kind.lower())):
        ax.text(left + small * (text_width(shown, size, True) + 0.08), lower, plain(kind, 28), style)
    ax.text(right, lower, sizes, style, ha="right", color=INK)
    ax.text(right, upper, parameters, style, ha="right")
    if block.layer is not None and block.layer.prunable:
        ax.plot([x + width / 2], [y], "o", color=colour, markerfacecolor="white", markersize=5.5, zorder=5)


def _fit(name: str, room: float) -> str:
    """Leave out the middle of a name until it fits `room` inches."""
    kept, text = len(name), name
    while kept > 4 and text_width(text, 8, True) > room:
        kept -= 1
        text = plain(name, kept).replace(r"\$", "$")
    return text


def _draw_legend(ax: Axes, blocks: Sequence[Block], corner: Point) -> None:
    from matplotlib.lines import Line2D
    from matplotlib.patches import Patch

    kinds = {block.kind for block in blocks} - {"input"}
    entries: list[tuple[Patch | Line2D, str]] = [
        (Patch(facecolor=_tint(colour), edgecolor=colour), kind)
        for kind, colour in KIND_COLOURS.items()
        if kind in kinds
    ]
    if any(block.layer is not None and block.layer.prunable for block in blocks):
        ring = Line2D([], [], linestyle="", marker="o", color=INK, markerfacecolor="white", markersize=5.5)
        entries.append((ring, "channels can be pruned"))
    handles, words = zip(*entries, strict=True)
    place: dict[str, Any] = {"loc": "upper left", "bbox_to_anchor": corner, "bbox_transform": ax.transData}
    font = {"size": 8, "family": "DejaVu Sans"}
    ax.legend(handles, words, **place, borderaxespad=0, frameon=False, prop=font, labelcolor=INK)
