"""segzoo: a model zoo for semantic segmentation.

    model = segzoo.create("unet", encoder="resnet101", num_classes=11)
    mask = model.predict("street.jpg").mask
    segzoo.export(model, "street.onnx")

Names are loaded on first use, so `import segzoo` and `segzoo.inference` do not import torch. The distribution
segmentation-zoo-runtime contains what works without torch; the other names need segmentation-zoo.
"""

import importlib
import importlib.util
from typing import TYPE_CHECKING, Any

from segzoo._version import __version__

if TYPE_CHECKING:
    from segzoo.classes import ClassSet
    from segzoo.exporting.export import export
    from segzoo.inference.predictor import Predictor
    from segzoo.inference.result import Segmentation
    from segzoo.models.convert import convert
    from segzoo.models.create import create, list_models
    from segzoo.models.decoders import Decoder
    from segzoo.models.encoders import Encoder, list_encoders
    from segzoo.models.features import Features
    from segzoo.models.load import load
    from segzoo.models.push import push
    from segzoo.models.save import save
    from segzoo.plugins import (
        register_dataset,
        register_decoder,
        register_encoder,
        register_loss,
        register_metric,
        register_transform,
    )
    from segzoo.training.train import train
    from segzoo.weights.catalog import list_weights

_MODULES = {
    "create": "segzoo.models.create",
    "load": "segzoo.models.load",
    "save": "segzoo.models.save",
    "list_models": "segzoo.models.create",
    "list_encoders": "segzoo.models.encoders",
    "convert": "segzoo.models.convert",
    "list_weights": "segzoo.weights.catalog",
    "push": "segzoo.models.push",
    "export": "segzoo.exporting.export",
    "train": "segzoo.training.train",
    "ClassSet": "segzoo.classes",
    "Decoder": "segzoo.models.decoders",
    "Encoder": "segzoo.models.encoders",
    "Features": "segzoo.models.features",
    "register_dataset": "segzoo.plugins",
    "register_decoder": "segzoo.plugins",
    "register_encoder": "segzoo.plugins",
    "register_loss": "segzoo.plugins",
    "register_metric": "segzoo.plugins",
    "register_transform": "segzoo.plugins",
    "Predictor": "segzoo.inference.predictor",
    "Segmentation": "segzoo.inference.result",
}
_SUBMODULES = ("errors", "inference", "postprocess", "weights")

__all__ = [
    "ClassSet",
    "Decoder",
    "Encoder",
    "Features",
    "Predictor",
    "Segmentation",
    "__version__",
    "convert",
    "create",
    "export",
    "list_encoders",
    "list_models",
    "list_weights",
    "load",
    "push",
    "register_dataset",
    "register_decoder",
    "register_encoder",
    "register_loss",
    "register_metric",
    "register_transform",
    "save",
    "train",
]

if (
    importlib.util.find_spec("segzoo.models") is None
):  # Only the runtime is installed: `import *` and `dir` skip the rest.
    _WHOLE = ("segzoo.models", "segzoo.exporting", "segzoo.training")
    __all__ = [name for name in __all__ if not _MODULES.get(name, "").startswith(_WHOLE)]


def __getattr__(name: str) -> Any:
    if name in _MODULES:
        from segzoo._optional import needs

        with needs(f"segzoo.{name}"):
            module = importlib.import_module(_MODULES[name])
        return getattr(module, name)
    if name in _SUBMODULES:
        return importlib.import_module(f"segzoo.{name}")
    raise AttributeError(f"module 'segzoo' has no attribute {name!r}")


def __dir__() -> list[str]:
    return [*__all__, *_SUBMODULES]
