"""Image classifiers that transformers builds from a configuration read as data, filled with weights that were read already."""

from __future__ import annotations

import importlib
import importlib.util
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from goodnet.architectures.libraries import import_torchvision
from goodnet.core.errors import InvalidOption, UnreadableModel
from goodnet.core.one_line import describe_error, one_line

#: Kinds of networks (`model_type`) that sort pictures and need nothing but pictures. None runs code from elsewhere.
KINDS = frozenset(
    (
        *("beit", "bit", "convnext", "convnextv2", "cvt", "data2vec-vision", "deit", "dinov2", "dinov2_with_registers"),
        *(
            "donut-swin",
            "efficientnet",
            "focalnet",
            "hiera",
            "ijepa",
            "levit",
            "mobilenet_v1",
            "mobilenet_v2",
            "mobilevit",
        ),
        *(
            "mobilevitv2",
            "poolformer",
            "pvt",
            "pvt_v2",
            "regnet",
            "resnet",
            "segformer",
            "swiftformer",
            "swin",
            "swinv2",
        ),
        *("textnet", "vit", "vit_msn"),
    )
)
#: Entries of a configuration that name code, places or other networks, or that say how to compute and not what.
_DROPPED = frozenset(
    (
        *(
            "auto_map",
            "custom_pipelines",
            "trust_remote_code",
            "name_or_path",
            "architectures",
            "model_type",
            "torch_dtype",
        ),
        *("dtype", "attn_implementation", "transformers_version", "torchscript", "backbone", "backbone_config"),
        *(
            "use_pretrained_backbone",
            "use_timm_backbone",
            "backbone_kwargs",
            "output_attentions",
            "output_hidden_states",
        ),
        *("return_dict", "gradient_checkpointing", "quantization_config"),
    )
)
#: A network may have this many more weights than its folder (tables that are computed, not stored).
_MORE_WEIGHTS = 2.0
_SLACK = 1_000_000


class LogitsOnly(nn.Module):
    """A network of transformers that takes images and gives its logits (n, classes)."""

    def __init__(self, model: Any) -> None:
        super().__init__()
        self.model = model

    @property
    def classes(self) -> int:
        """How many classes its configuration has."""
        return int(self.model.config.num_labels)

    def forward(self, images: Tensor) -> Tensor:
        """Run the network on images (n, C, H, W) as its processor gives them."""
        return self.model(pixel_values=images).logits  # type: ignore[no-any-return]

    def save(self, folder: Path) -> None:
        """Write configuration and weights as `save_pretrained` does, under the names that older versions know too."""
        self.model.save_pretrained(folder)


def build_network(path: Path, config: Mapping[str, Any], weights: Mapping[str, Tensor]) -> LogitsOnly:
    """Return the network that a configuration describes, with these weights.

    Args:
        path: the folder, for messages.
        config: what its `config.json` holds.
        weights: by the names of any version of transformers.

    Raises:
        UnreadableModel: the kind of network is not known, sorts no pictures or needs code; or the weights do not fit.
        InvalidOption: the extra goodnet[hf] is not installed.
    """
    _refuse_others(path, config)
    transformers = _import()
    options = {key: value for key, value in config.items() if key not in _DROPPED and not key.startswith("_")}
    try:
        own = transformers.AutoConfig.for_model(str(config["model_type"]), **options)
        own._attn_implementation = "eager"  # the others have no second derivatives
        maker = _choose_maker(transformers, own, config.get("architectures"))
        _refuse_larger(path, maker, own, weights)
        # With no folder there is nothing of a stranger's but configuration and weights that the library could read.
        model, report = maker.from_pretrained(
            None,
            config=own,
            state_dict={name: value.float() if value.is_floating_point() else value for name, value in weights.items()},
            output_loading_info=True,
            ignore_mismatched_sizes=True,  # they are told of below
        )
    except UnreadableModel:
        raise
    except Exception as error:  # a stranger's numbers can make any layer fail
        raise UnreadableModel(
            f"{path}: transformers {transformers.__version__} cannot build this '{config['model_type']}': "
            f"{describe_error(error)}"
        ) from error
    _refuse_misfit(path, report)
    return LogitsOnly(model.float().eval())


def _refuse_others(path: Path, config: Mapping[str, Any]) -> None:
    kind = config.get("model_type")
    if config.get("problem_type") == "multi_label_classification":
        raise UnreadableModel(
            f"{path}: refused, this network gives an image several labels (multi_label_classification), but goodnet needs "
            "classes that exclude each other; give a network of one class for each image"
        )
    if config.get("quantization_config"):
        raise UnreadableModel(
            f"{path}: refused, the weights are quantised, which leaves no gradients; give the folder that they were made from"
        )
    if kind not in KINDS:
        said = f"'{one_line(str(kind))[:40]}'" if kind else "no model_type"
        code = " with code of its own (auto_map), which is not run" if config.get("auto_map") else ""
        raise UnreadableModel(
            f"{path}: expected a Hugging Face folder of an image classifier ({', '.join(sorted(KINDS))}), found {said}{code}; "
            "save the network's state dict and give --architecture package.module:factory"
        )


def _import() -> Any:
    # Read before the library is: it then never asks the hub.
    os.environ["HF_HUB_OFFLINE"] = "1"
    try:
        if importlib.util.find_spec("torchvision") is not None:
            import_torchvision()
        transformers: Any = importlib.import_module("transformers")
    except ImportError as error:
        raise InvalidOption(
            f"Hugging Face folders need transformers: pip install 'goodnet[hf]' ({describe_error(error)})"
        ) from error
    transformers.utils.logging.set_verbosity_error()
    transformers.utils.logging.disable_progress_bar()
    return transformers


def _choose_maker(transformers: Any, config: Any, named: Any) -> Any:
    """Return the library's class for a configuration; of several (DeiT's with a teacher) the one that the file names."""
    makers = transformers.AutoModelForImageClassification._model_mapping[type(config)]
    choices = makers if isinstance(makers, tuple) else (makers,)
    return next((maker for maker in choices if isinstance(named, list) and maker.__name__ in named), choices[0])


def _refuse_larger(path: Path, maker: Any, config: Any, weights: Mapping[str, Tensor]) -> None:
    """Refuse a configuration with far more weights than the file has, before memory is allocated for them."""
    with torch.device("meta"):
        model = maker(config)
    expected = sum(value.numel() for value in model.parameters())
    held = sum(value.numel() for value in weights.values())
    if expected > _MORE_WEIGHTS * held + _SLACK:
        raise UnreadableModel(
            f"{path}: refused, its configuration asks for {expected:,} weights, the folder holds {held:,}; fetch it again"
        )


def _refuse_misfit(path: Path, report: Mapping[str, Any]) -> None:
    missing, extra = (sorted(report[key]) for key in ("missing_keys", "unexpected_keys"))
    wrong = [str(item[0] if isinstance(item, tuple) else item) for item in report["mismatched_keys"]]
    if missing or wrong:
        example = one_line((missing + wrong)[0])[:80]
        raise UnreadableModel(
            f"{path}: the weights do not fit the configuration: {len(missing)} missing, {len(extra)} left over, {len(wrong)} of "
            f"another shape, e.g. '{example}'; a network that was only pre-trained has no classes yet; fetch the folder again"
        )
