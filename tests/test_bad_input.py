"""Whatever is passed to a public function, the answer is a result or a SegzooError with a sentence."""

import functools
import inspect
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

import segzoo
from segzoo import visualize
from segzoo.class_files import read_classes, resolve_classes
from segzoo.classes import ClassSet, class_set
from segzoo.data.border_weights import BorderWeights
from segzoo.data.datasets import open_data
from segzoo.data.images import list_images, read_image
from segzoo.data.video import measure
from segzoo.errors import SegzooError
from segzoo.inference import OnnxBackend
from segzoo.metrics import ConfusionMatrix
from segzoo.models.head import with_classes
from segzoo.postprocess import crf
from segzoo.training.losses import create_loss
from segzoo.training.recipe import read_recipe
from segzoo.weights import catalog
from segzoo.weights.resolve import locate

BAD: dict[str, Any] = {
    "None": None,
    "an empty string": "",
    "a string": "nothing that exists",
    "a long string": "x" * 5000,
    "a long path": "x/" * 3000,
    "a NUL": "a\0b",
    "a lone surrogate": "\ud800",
    "bytes": b"\x00\xff",
    "a huge number": 2**70,
    "a negative number": -1,
    "zero": 0,
    "nan": float("nan"),
    "a bool": True,
    "a list": [],
    "a list of None": [None],
    "a dict": {},
    "an object": object(),
    "a type": int,
    "a function": print,
    "a path": Path("nowhere/at/all"),
    "an empty array": np.zeros((0, 0), np.uint8),
    "an array of objects": np.array([None]),
}

CLASSES = ClassSet(("sky", "road"), ((0, 0, 255), (128, 64, 128)))
MASK = np.zeros((4, 5), np.uint8)
PIXELS = np.zeros((4, 5, 3), np.uint8)
LOGITS = np.zeros((2, 4, 5), np.float32)


@functools.cache
def model() -> Any:
    return segzoo.create("fcn", "test_resnet", num_classes=2).eval()


Case = tuple[Callable[..., Any], dict[str, Any]]


def cases(folder: Path) -> dict[str, Case]:
    """A valid call of each function, with every argument that is replaced."""
    image = folder / "image.png"
    Image.fromarray(PIXELS).save(image)
    predictor = segzoo.Predictor(model())
    options = {"tile": None, "overlap": None, "tta": None, "samples": None, "confidence": False, "probabilities": False}
    options["page"] = None
    return {
        "create": (
            segzoo.create,
            {
                "decoder": "fcn",
                "encoder": "test_resnet",
                "num_classes": 2,
                "in_channels": 3,
                "encoder_weights": None,
                "output_stride": 32,
                "classes": None,
                "auxiliary": False,
            },
        ),
        "load": (segzoo.load, {"source": folder / "none", "sha256": None, "num_classes": None, "classes": None}),
        "save": (segzoo.save, {"model": model(), "path": folder / "saved.safetensors", "half": False}),
        "export": (
            segzoo.export,
            {
                "model": None,  # so that no value is exported; the other arguments are checked with the command's tests
                "path": folder / "exported.onnx",
                "input": "image",
                "precision": "fp32",
                "static_shape": None,
                "opset": 18,
                "calibration": None,
            },
        ),
        "convert": (
            segzoo.convert,
            {"weights": {}, "source": None, "encoder": None, "classes": None, "num_classes": None, "upsample": None},
        ),
        "push": (segzoo.push, {"model": folder / "none", "repo": "owner/name", "onnx": None}),
        "list_encoders": (segzoo.list_encoders, {"pattern": "unet"}),
        "with_classes": (with_classes, {"model": model(), "num_classes": 2, "classes": None}),
        "Predictor": (segzoo.Predictor, {"model": model(), "device": "auto", "threads": None}),
        "predict": (predictor.predict, {"image": PIXELS, "out": None, **options}),
        "model.predict": (model().predict, {"image": PIXELS, **options}),
        "stream": (
            lambda **arguments: list(predictor.stream(**arguments)),
            {"images": [PIXELS], "batch_size": 1, "on_error": None, **options},
        ),
        "submit": (lambda **arguments: predictor.submit(**arguments).result(60), {"image": PIXELS, **options}),
        "OnnxBackend": (OnnxBackend, {"path": folder / "none.onnx", "device": "cpu", "options": None}),
        "read_image": (read_image, {"image": image, "channels": 3, "page": 1}),
        "list_images": (list_images, {"path": folder}),
        "measure": (measure, {"path": folder / "none.mp4"}),
        "locate": (locate, {"source": folder / "none", "sha256": None}),
        "catalog.find": (catalog.find, {"key": "fcn/resnet50/coco-voc"}),
        "class_set": (class_set, {"name": "camvid"}),
        "resolve_classes": (resolve_classes, {"classes": None}),
        "read_classes": (read_classes, {"path": folder / "none.txt"}),
        "ClassSet": (ClassSet, {"names": ("a",), "palette": ((0, 0, 0),), "ignore_index": None}),
        "ClassSet.generic": (ClassSet.generic, {"n": 2}),
        "ClassSet.from_dict": (ClassSet.from_dict, {"record": CLASSES.to_dict()}),
        "open_data": (
            open_data,
            {"name": "camvid", "root": folder, "split": None, "select": (), "exclude": ()},
        ),
        "ConfusionMatrix": (ConfusionMatrix, {"num_classes": 2, "ignore_index": 255}),
        "ConfusionMatrix.update": (ConfusionMatrix(2, 255).update, {"predicted": MASK, "target": MASK}),
        "colorize": (visualize.colorize, {"mask": MASK, "classes": CLASSES}),
        "save_mask": (visualize.save_mask, {"path": folder / "m.png", "mask": MASK, "classes": CLASSES}),
        "overlay": (
            visualize.overlay,
            {"image": PIXELS, "mask": MASK, "classes": CLASSES, "opacity": 0.5, "legend": True},
        ),
        "crf.refine": (crf.refine, {"image": PIXELS, "logits": LOGITS}),
        "create_loss": (create_loss, {"text": "ce", "ignore_index": 255, "options": None}),
        "read_recipe": (read_recipe, {"path": folder / "none.toml", "overrides": None}),
        "BorderWeights": (BorderWeights, {"ignore_index": 255, "w0": 10.0, "sigma": 5.0, "background": 0}),
    }


def test_bad_arguments(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    raw: dict[str, str] = {}
    for name, (function, valid) in cases(tmp_path).items():
        parameters = inspect.signature(function).parameters
        assert any(p.kind is p.VAR_KEYWORD for p in parameters.values()) or valid.keys() <= parameters.keys(), name
        for argument in valid:
            for what, value in BAD.items():
                try:
                    with warnings.catch_warnings():
                        warnings.simplefilter("ignore")
                        function(**(valid | {argument: value}))
                except SegzooError as error:
                    if not str(error).strip().endswith((".", ")", "!")):
                        raw[f"{name}({argument}={what})"] = f"no sentence: {error}"
                except Exception as error:
                    raw[f"{name}({argument}={what})"] = f"{type(error).__name__}: {str(error)[:100]}"
    assert not raw, f"{len(raw)} raw errors:\n" + "\n".join(f"{call}: {error}" for call, error in raw.items())
