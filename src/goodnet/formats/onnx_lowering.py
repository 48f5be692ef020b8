"""An ONNX graph as a graph of torch modules and functions, with a note of which weight of the file lies where."""

from __future__ import annotations

import operator
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, fx, nn
from torch.nn import functional as F

from goodnet.formats import onnx_operators as ops
from goodnet.formats.keras_modules import pair
from goodnet.formats.onnx_operators import UnsupportedOperator

#: Operators that are a function of torch with the same inputs; attributes are handed on by name.
_FUNCTIONS: dict[str, Callable[..., Any]] = {
    **{
        "Relu": F.relu,
        "Sigmoid": torch.sigmoid,
        "Tanh": torch.tanh,
        "Erf": torch.erf,
        "Sqrt": torch.sqrt,
        "Exp": torch.exp,
    },
    **{"Log": torch.log, "Neg": torch.neg, "Abs": torch.abs, "Reciprocal": torch.reciprocal, "Floor": torch.floor},
    **{"Ceil": torch.ceil, "HardSwish": F.hardswish, "Softplus": F.softplus, "Softsign": F.softsign, "Mish": F.mish},
    **{
        "Add": torch.add,
        "Sub": torch.sub,
        "Mul": torch.mul,
        "Div": ops.divide,
        "Pow": torch.pow,
        "MatMul": torch.matmul,
    },
    **{"Max": torch.maximum, "Min": torch.minimum, "Where": torch.where, "Equal": torch.eq, "Less": torch.lt},
    **{
        "Greater": torch.gt,
        "And": torch.logical_and,
        "Or": torch.logical_or,
        "Not": torch.logical_not,
        "PRelu": torch.prelu,
    },
    **{
        "Sum": ops.sum_of,
        "Mean": ops.mean_of,
        "Reshape": ops.reshape,
        "Flatten": ops.flatten,
        "Transpose": ops.transpose,
    },
    **{
        "Squeeze": ops.squeeze,
        "Unsqueeze": ops.unsqueeze,
        "Concat": ops.concat,
        "Slice": ops.slice_,
        "Gather": ops.gather,
    },
    **{
        "Shape": ops.shape_of,
        "Expand": ops.expand,
        "Tile": ops.tile,
        "ConstantOfShape": ops.filled,
        "Range": ops.counted,
    },
    **{"Pad": ops.pad, "Clip": ops.clip, "Resize": ops.resize, "Upsample": ops.resize, "AveragePool": ops.average_pool},
    **{"MaxPool": ops.max_pool, "LayerNormalization": ops.layer_norm, "InstanceNormalization": ops.instance_norm},
    **{"GroupNormalization": ops.group_norm, "SpaceToDepth": ops.pixels_to_depth, "HardSigmoid": ops.hard_sigmoid},
    **{
        "Gelu": ops.gelu,
        "ReduceMean": ops.Reduce("mean"),
        "ReduceSum": ops.Reduce("sum"),
        "ReduceMax": ops.Reduce("amax"),
    },
    **{"ReduceMin": ops.Reduce("amin"), "ReduceL2": ops.Reduce("l2"), "Split": ops.split, "Gemm": ops.gemm},
}
#: Attributes that say how to compute and not what.
_IGNORED = frozenset({"storage_order", "consumed_inputs", "stash_type"})
#: What ends an image classifier's usefulness here, in words.
_REASONS = {
    **dict.fromkeys(
        ("QuantizeLinear", "DequantizeLinear", "QLinearConv", "ConvInteger", "DynamicQuantizeLinear", "QLinearMatMul"),
        "its weights are quantised, which leaves no gradients; give the network as it was before",
    ),
    **dict.fromkeys(("ArgMax", "TopK"), "it gives class numbers; export it again so that it gives scores"),
    **dict.fromkeys(
        ("If", "Loop", "Scan"), "it branches on values; export it again without (torch.onnx.export of one traced image)"
    ),
}


@dataclass(frozen=True)
class Weight:
    """Where a weight of the file lies: under `name` in the network, transposed if its matrix is stored inputs first."""

    name: str
    transposed: bool = False


@dataclass
class Lowering:
    """Builds the graph node by node.

    Args:
        constants: the file's initializers and constants by name; floats are float32.
        trained: names of the initializers, which become parameters where they are floats of a layer.
        opset: the version of the operators.
    """

    constants: dict[str, Tensor]
    trained: frozenset[str]
    opset: int
    graph: fx.Graph = field(default_factory=fx.Graph)
    modules: nn.Module = field(default_factory=nn.Module)
    values: dict[str, fx.Node] = field(default_factory=dict)
    weights: dict[str, Weight] = field(default_factory=dict)

    def add(self, number: int, kind: str, inputs: list[str], outputs: list[str], options: dict[str, Any]) -> None:
        """Add one node of the file.

        Raises:
            UnsupportedOperator: there is no counterpart.
        """
        special = getattr(self, f"_add_{kind.lower()}", None)
        if special is not None:
            node = special(f"{kind}_{number}".lower(), inputs, options)
        elif kind in _FUNCTIONS:
            node = self._call(kind, inputs, outputs, options)
        else:
            raise UnsupportedOperator(f"operator {kind}" + (f": {_REASONS[kind]}" if kind in _REASONS else ""))
        if node is None:
            return
        named = [name for name in outputs if name]
        if kind == "Split":
            for place, name in enumerate(outputs):
                self.values[name] = self.graph.call_function(operator.getitem, (node, place))
        else:
            self.values[named[0]] = node

    def _call(self, kind: str, inputs: list[str], outputs: list[str], options: dict[str, Any]) -> fx.Node:
        # A graph's own numbers are part of its code; a tensor is not.
        plain = {key: value.item() if isinstance(value, Tensor) else value for key, value in options.items()}
        options = {key: value for key, value in plain.items() if key not in _IGNORED}
        if kind == "Split":
            options["outputs"] = len(outputs)
            options.pop("num_outputs", None)
        if kind in ("Max", "Min") and len(inputs) != 2:
            raise UnsupportedOperator(f"operator {kind} of {len(inputs)} inputs")
        folded = self._fold(kind, inputs, options)
        if folded is not None:
            self.constants[outputs[0]] = folded
            return None  # type: ignore[return-value]
        return self.graph.call_function(_FUNCTIONS[kind], tuple(self.value(name) for name in inputs), options)

    def _fold(self, kind: str, inputs: list[str], options: dict[str, Any]) -> Tensor | None:
        """Return the value of an operation on constants alone that nobody trains, None for others."""
        if (
            kind == "Split"
            or not inputs
            or any(
                name
                and (name not in self.constants or (name in self.trained and self.constants[name].is_floating_point()))
                for name in inputs
            )
        ):
            return None
        value: Tensor = _FUNCTIONS[kind](*(self.constants.get(name) for name in inputs), **options)
        return value

    def value(self, name: str) -> fx.Node | None:
        """Return the node of a value: of an earlier node's, or of a constant, which then becomes part of the network."""
        if not name:
            return None
        if name not in self.values:
            if name not in self.constants:
                raise UnsupportedOperator(f"an input '{name[:40]}' that nothing computes")
            self.values[name] = self._store(name)
        return self.values[name]

    def _store(self, name: str) -> fx.Node:
        own, tensor = f"constant_{len(self.values)}", self.constants[name]
        if name in self.trained and tensor.is_floating_point():
            self.modules.register_parameter(own, nn.Parameter(tensor.clone()))
            self.weights[name] = Weight(own)
        else:
            self.modules.register_buffer(own, tensor)
        return self.graph.get_attr(own)

    def _module(self, name: str, module: nn.Module, given: Mapping[str, tuple[str, bool]], image: str) -> fx.Node:
        """Add a module; `given` is, for each of its tensors, the file's name and whether it is transposed."""
        self.modules.add_module(name, module)
        tensors = dict(module.named_parameters()) | dict(module.named_buffers())
        for own, (theirs, transposed) in given.items():
            value = self.constants[theirs]
            with torch.no_grad():
                tensors[own].copy_(value.T if transposed else value)
            # A weight that two layers share is written back from the first of them.
            self.weights.setdefault(theirs, Weight(f"{name}.{own}", transposed))
        return self.graph.call_module(name, (self.value(image),))

    def _are_free(self, names: list[str]) -> bool:
        """Whether weights are constants that no other layer has taken."""
        return all(name in self.constants and name not in self.weights and name in self.trained for name in names)

    def _add_conv(self, name: str, inputs: list[str], options: dict[str, Any]) -> fx.Node:
        if not all(item in self.constants for item in inputs[1:] if item):
            raise UnsupportedOperator("operator Conv with weights that are computed")
        weight, given = self.constants[inputs[1]], [item for item in inputs[1:] if item]
        if weight.ndim != 4:
            raise UnsupportedOperator(f"operator Conv of {weight.ndim - 2} axes")
        out, inside, *kernel = weight.shape
        groups, strides = options.get("group", 1), options.get("strides") or [1, 1]
        dilations = options.get("dilations") or [1, 1]
        automatic = options.get("auto_pad", "NOTSET") not in ("NOTSET", "", "VALID")
        pads = ops.find_pads((0, 0), kernel, strides, {} if automatic else options)
        plain = pads[:2] == pads[2:] and not automatic
        module = nn.Conv2d(
            inside * groups,
            out,
            pair(kernel),
            pair(strides),
            padding=pair(pads[:2]) if plain else 0,
            dilation=pair(dilations),
            groups=groups,
            bias=len(given) > 1,
        )
        image = inputs[0]
        if not plain:
            border = _Border(kernel, strides, options)
            self.modules.add_module(f"{name}_border", border)
            image = f"{name}_border"
            self.values[image] = self.graph.call_module(image, (self.value(inputs[0]),))
        slots = dict(zip(("weight", "bias"), ((item, False) for item in given), strict=False))
        return self._module(name, module, slots, image)

    def _add_batchnormalization(self, name: str, inputs: list[str], options: dict[str, Any]) -> fx.Node:
        if not all(item in self.constants for item in inputs[1:]):
            raise UnsupportedOperator("operator BatchNormalization with weights that are computed")
        module = nn.BatchNorm2d(len(self.constants[inputs[1]]), eps=options.get("epsilon", 1e-5))
        slots = ("weight", "bias", "running_mean", "running_var")
        node = self._module(name, module, dict(zip(slots, ((i, False) for i in inputs[1:]), strict=True)), inputs[0])
        return node

    def _add_gemm(self, name: str, inputs: list[str], options: dict[str, Any]) -> fx.Node:
        usual = options.get("alpha", 1.0) == options.get("beta", 1.0) == 1.0 and not options.get("transA")
        if not usual or not self._are_free(inputs[1:]) or (len(inputs) > 2 and self.constants[inputs[2]].ndim != 1):
            return self._call("Gemm", inputs, [""], options)
        transposed = not options.get("transB")
        weight = self.constants[inputs[1]].T if transposed else self.constants[inputs[1]]
        module = nn.Linear(weight.shape[1], weight.shape[0], bias=len(inputs) > 2)
        slots = {"weight": (inputs[1], transposed)} | ({"bias": (inputs[2], False)} if len(inputs) > 2 else {})
        return self._module(name, module, slots, inputs[0])

    def _add_matmul(self, name: str, inputs: list[str], options: dict[str, Any]) -> fx.Node:
        if not self._are_free(inputs[1:]) or self.constants[inputs[1]].ndim != 2 or inputs[0] in self.constants:
            return self._call("MatMul", inputs, [""], options)
        weight = self.constants[inputs[1]].T
        return self._module(
            name, nn.Linear(weight.shape[1], weight.shape[0], bias=False), {"weight": (inputs[1], True)}, inputs[0]
        )

    def _add_identity(self, name: str, inputs: list[str], options: dict[str, Any]) -> fx.Node | None:
        return self.value(inputs[0])

    _add_dropout = _add_identity

    def _add_globalaveragepool(self, name: str, inputs: list[str], options: dict[str, Any]) -> fx.Node:
        return self.graph.call_function(F.adaptive_avg_pool2d, (self.value(inputs[0]), 1))

    def _add_globalmaxpool(self, name: str, inputs: list[str], options: dict[str, Any]) -> fx.Node:
        return self.graph.call_function(F.adaptive_max_pool2d, (self.value(inputs[0]), 1))

    def _add_softmax(self, name: str, inputs: list[str], options: dict[str, Any]) -> fx.Node:
        axis = options.get("axis", 1 if self.opset < 13 else -1)
        return self.graph.call_function(ops.softmax, (self.value(inputs[0]),), {"dim": axis})

    def _add_logsoftmax(self, name: str, inputs: list[str], options: dict[str, Any]) -> fx.Node:
        axis = options.get("axis", 1 if self.opset < 13 else -1)
        return self.graph.call_function(ops.log_softmax, (self.value(inputs[0]),), {"dim": axis})

    def _add_leakyrelu(self, name: str, inputs: list[str], options: dict[str, Any]) -> fx.Node:
        return self.graph.call_function(F.leaky_relu, (self.value(inputs[0]), options.get("alpha", 0.01)))

    def _add_elu(self, name: str, inputs: list[str], options: dict[str, Any]) -> fx.Node:
        return self.graph.call_function(F.elu, (self.value(inputs[0]), options.get("alpha", 1.0)))

    def _add_selu(self, name: str, inputs: list[str], options: dict[str, Any]) -> fx.Node:
        return self.graph.call_function(F.selu, (self.value(inputs[0]),))

    def _add_cast(self, name: str, inputs: list[str], options: dict[str, Any]) -> fx.Node:
        return self.graph.call_function(ops.cast, (self.value(inputs[0]), options["to"]))


class _Border(nn.Module):
    """Zeros around images, as many as a convolution's window asks for at their size."""

    def __init__(self, kernel: list[int], strides: list[int], options: dict[str, Any]) -> None:
        super().__init__()
        self.kernel, self.strides, self.options = list(kernel), list(strides), dict(options)

    def forward(self, images: Tensor) -> Tensor:
        """Add the border to images (n, C, H, W)."""
        top, left, bottom, right = ops.find_pads(images.shape[-2:], self.kernel, self.strides, self.options)
        return F.pad(images, [left, right, top, bottom])
