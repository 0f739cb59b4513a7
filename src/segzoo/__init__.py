"""segzoo: a model zoo for semantic segmentation.

    model = segzoo.create("unet", encoder="resnet101", num_classes=11)
    mask = model.predict("street.jpg")
    segzoo.export(model, "street.onnx")

Names are loaded on first use, so that `import segzoo` and `segzoo.runtime` need no torch.
"""

import importlib
from typing import TYPE_CHECKING, Any

from segzoo._version import __version__

if TYPE_CHECKING:
    from segzoo.catalog import list_weights
    from segzoo.converting import convert
    from segzoo.encoders import list_encoders
    from segzoo.exporting import export
    from segzoo.factory import create, list_models, save
    from segzoo.labels import LabelSet
    from segzoo.sharing import push
    from segzoo.sources import load

_HOMES = {
    "create": "segzoo.factory",
    "load": "segzoo.sources",
    "save": "segzoo.factory",
    "list_models": "segzoo.factory",
    "list_encoders": "segzoo.encoders",
    "convert": "segzoo.converting",
    "list_weights": "segzoo.catalog",
    "push": "segzoo.sharing",
    "export": "segzoo.exporting",
    "LabelSet": "segzoo.labels",
}
_SUBMODULES = ("catalog", "crf", "errors", "runtime")

__all__ = [
    "LabelSet",
    "__version__",
    "convert",
    "create",
    "export",
    "list_encoders",
    "list_models",
    "list_weights",
    "load",
    "push",
    "save",
]


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        return getattr(importlib.import_module(_HOMES[name]), name)
    if name in _SUBMODULES:
        return importlib.import_module(f"segzoo.{name}")
    raise AttributeError(f"module 'segzoo' has no attribute {name!r}")


def __dir__() -> list[str]:
    return [*__all__, *_SUBMODULES]
