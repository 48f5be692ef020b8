"""Forms of a network that are faster to search in and to train, and give nearly the same logits.

A search asks a network tens of thousands of times, and no single digit of an output matters to it. So batch
normalisation is folded into the convolutions before it, and where the processor multiplies bfloat16 faster than float32,
convolutions and linear layers compute in it (mixed precision). What is said of a trigger or of a repair in the end is
measured on the network itself.
"""

from __future__ import annotations

import copy
from collections import Counter
from typing import TypeGuard

import torch
from torch import Tensor, fx, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from goodnet.core.classifier import Classifier
from goodnet.core.errors import WrongShape

#: Instructions of processors that multiply bfloat16 in hardware, as torch names them.
_IN_HARDWARE = ("avx512_bf16", "amx_bf16")
#: How far logits in bfloat16 may be from those in float32: their mean distance, as a share of the logits' standard deviation.
#: bfloat16 rounds to one part in 256; a network of many layers adds a few such errors up.
_TOLERANCE = 0.02
#: Images on which they are compared: these pass at once, and large ones need much memory.
_COMPARED = 8


class _InBfloat16(Classifier):
    """A classifier whose convolutions and linear layers compute in bfloat16; weights and logits are float32."""

    def __call__(self, images: Tensor) -> Tensor:
        """Return logits (N, classes) for images (N, C, H, W) float32 in [0, 1]; gradients flow."""
        with torch.autocast("cpu", torch.bfloat16):
            logits = super().__call__(images)
        return logits.float()


def copy_for_search(classifier: Classifier, images: Tensor) -> Classifier:
    """Return a copy of the network that gives nearly the same logits, and gradients of images, in less time.

    Args:
        classifier: the network; it stays as it is.
        images: clean images (n, C, H, W) in [0, 1]. The logits of the first 8 are compared: if the copy's are too far from
            the network's own, it computes in float32, or the network itself comes back.

    Cost: up to six passes over 8 images, two of them backward. On an AMD EPYC (one thread, forward and backward) the copy is
    2.1 times as fast for a VGG of CIFAR-10, 1.7 to 2.0 for two residual networks, 1.4 for a network of three convolutions.
    """
    folded = _fold_normalisation(copy.deepcopy(classifier.network)).requires_grad_(False)
    return in_mixed_precision(_make(Classifier, folded, classifier, images) or classifier, images)


def in_mixed_precision(classifier: Classifier, images: Tensor) -> Classifier:
    """Return the same network (weights shared) computing in bfloat16 where that is faster; else the classifier itself.

    `images` (n, C, H, W) as for `copy_for_search`. Cost: up to three passes over 8 images, one of them backward.

    Source: P. Micikevicius et al., "Mixed precision training", ICLR 2018.
    """
    if classifier.device.type != "cpu" or not _has_bfloat16():
        return classifier
    return _make(_InBfloat16, classifier.network, classifier, images) or classifier


def _make(kind: type[Classifier], network: fx.GraphModule, like: Classifier, images: Tensor) -> Classifier | None:
    """Return a classifier of this kind; None where its logits are not close on clean images, or no gradients come back.

    Some networks do not run in two precisions.
    """
    few = images[:_COMPARED].to(like.device)
    try:
        made = kind(
            network, image_shape=like.image_shape, input_range=like.input_range, name=like.name, notes=like.notes
        )
        pixels = few.clone().requires_grad_()
        logits = made(pixels)
        (gradient,) = torch.autograd.grad(logits.sum(), pixels)
    except (WrongShape, RuntimeError):
        return None
    with torch.inference_mode():
        exact = like(few)
    near = (logits.detach() - exact).abs().mean() <= _TOLERANCE * exact.std()
    return made if near and gradient.isfinite().all() else None


def _has_bfloat16() -> bool:
    """Whether this processor multiplies bfloat16 in hardware; elsewhere that is slower than float32."""
    # An older torch may not know the processor; only 2.13 was tried.
    known = torch.cpu.get_capabilities() if hasattr(torch.cpu, "get_capabilities") else {}
    return any(known.get(name) for name in _IN_HARDWARE)


def _fold_normalisation(network: fx.GraphModule) -> fx.GraphModule:
    """Fold batch normalisation into the convolution before it, where nothing else uses either; return the network.

    Source: torch.nn.utils.fusion.
    """
    calls = Counter(str(node.target) for node in network.graph.nodes if node.op == "call_module")
    for node in list(network.graph.nodes):
        before = node.args[0] if node.args else None
        if not isinstance(before, fx.Node) or len(before.users) > 1:
            continue
        norm, convolution = (_module(network, step) for step in (node, before))
        once = calls[str(node.target)] == calls[str(before.target)] == 1
        if once and _is_normalisation(norm) and _is_convolution(convolution):
            network.set_submodule(str(before.target), fuse_conv_bn_eval(convolution, norm))
            node.replace_all_uses_with(before)
            network.graph.erase_node(node)
    network.delete_all_unused_submodules()
    network.recompile()
    return network


def _is_normalisation(module: nn.Module | None) -> TypeGuard[nn.BatchNorm2d]:
    """Whether this is batch normalisation by fixed statistics and nothing else: some kinds of it hold an activation."""
    return (
        isinstance(module, nn.BatchNorm2d)
        and type(module).forward is nn.BatchNorm2d.forward
        and module.running_mean is not None
    )


def _is_convolution(module: nn.Module | None) -> TypeGuard[nn.Conv2d]:
    """Whether this is a convolution and nothing else: some kinds of it change their weights. Those of Keras say what follows."""
    if not isinstance(module, nn.Conv2d):
        return False
    return type(module).forward is nn.Conv2d.forward or getattr(module, "activation", module) is None


def _module(network: fx.GraphModule, node: fx.Node) -> nn.Module | None:
    return network.get_submodule(str(node.target)) if node.op == "call_module" else None
