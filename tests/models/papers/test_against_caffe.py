"""Paper networks with weights from a .caffemodel: all weights are loaded, and the outputs are those of Caffe."""

from pathlib import Path
from typing import Literal

import caffe_files as files
import caffe_networks as networks
import cv2
import numpy as np
import pytest
import torch
import torch.nn.functional as F
from caffe_networks import PUBLISHED_KINDS, Network, narrow, written
from torch import Tensor

import segzoo
from segzoo.errors import CheckpointError
from segzoo.models.papers import PAPERS
from segzoo.weights.convert.caffe import convert_caffe
from segzoo.weights.convert.caffemodel import CaffeLayer, CaffeNet

KINDS = [kind for kind in PUBLISHED_KINDS if f"paper/{kind}" in PAPERS]
FCN = ["fcn32s", "fcn16s", "fcn8s", "fcn8s_atonce"]
Version = Literal["v1", "v2"]
VERSIONS: tuple[Version, ...] = ("v1", "v2")

pytestmark = pytest.mark.usefixtures("narrow_vgg16")


@pytest.mark.parametrize("kind", KINDS)
def test_every_weight_is_loaded_bit_for_bit(kind: str, tmp_path: Path) -> None:
    net = narrow(kind)
    path, arrays = written(net, "v2", tmp_path)
    model = segzoo.load(segzoo.save(segzoo.convert(path), tmp_path / "m"))
    assert (model.spec.decoder, model.spec.num_classes, model.training) == (f"paper/{kind}", 4, False)
    state = model.state_dict()
    for name, _, _ in net.weights:
        for part, array in zip(("weight", "bias"), arrays[name], strict=False):
            tensor = state.pop(f"{networks.clean(name)}.{part}")
            assert torch.equal(tensor.flatten(), torch.from_numpy(array).flatten()), name
    remaining = {key.rpartition(".")[2] for key in state}
    assert remaining <= {"running_mean", "running_var", "num_batches_tracked"}


@pytest.mark.parametrize("kind", KINDS)
def test_the_published_file_fits_the_published_network(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.undo()
    scalar = torch.ones(1)  # expanded, so that DeconvNet does not allocate a gigabyte
    layers = [
        CaffeLayer(n, t, tuple(scalar.expand(s) for s in shapes)) for n, t, shapes in PUBLISHED_KINDS[kind]().weights
    ]
    converted = convert_caffe(CaffeNet("", tuple(layers))).tensors
    with torch.device("meta"):
        expected = segzoo.create(f"paper/{kind}").state_dict()
    shapes = {key: tensor.shape for key, tensor in expected.items() if not key.endswith(".num_batches_tracked")}
    assert {key: tensor.shape for key, tensor in converted.items()} == shapes


def opencv(net: Network, caffemodel: Path, image: Tensor) -> Tensor:
    """The logits of the last row, by OpenCV's own reader and arithmetic."""
    prototxt = caffemodel.with_suffix(".prototxt")
    prototxt.write_text(files.prototxt(net.rows, *image.shape[-2:]))
    run = cv2.dnn.readNetFromCaffe(str(prototxt), str(caffemodel))
    run.setPreferableBackend(cv2.dnn.DNN_BACKEND_OPENCV)
    run.enableWinograd(False)  # with it, OpenCV rounds ten times as coarsely
    run.setInput(image.numpy())
    return torch.from_numpy(run.forward())


def assert_equal(actual: Tensor, expected: Tensor) -> None:
    assert actual.shape == expected.shape
    assert (actual - expected).abs().max() <= 1e-5 * expected.abs().max()


def preprocessed(pixels: np.ndarray, mean: tuple[float, float, float]) -> Tensor:
    """RGB (H, W, 3) as the authors preprocess it: BGR, their BGR mean subtracted."""
    centered = pixels[:, :, ::-1].astype(np.float32) - np.float32(mean)
    return torch.from_numpy(centered.transpose(2, 0, 1)[None].copy())


# The V1 format has no Scale layer.
@pytest.mark.parametrize(
    ("kind", "version"), [(k, v) for k in FCN for v in VERSIONS if (k, v) != ("fcn8s_atonce", "v1")]
)
def test_fcn_equals_opencv(kind: str, version: Version, photograph: np.ndarray, tmp_path: Path) -> None:
    net = narrow(kind)
    path, _ = written(net, version, tmp_path)
    model = segzoo.convert(path)
    pixels = photograph[100:145, 200:270]
    expected = opencv(net, path, preprocessed(pixels, (104.00699, 116.66877, 122.67892)))
    with torch.inference_mode():
        mask, logits = model.classify(torch.tensor(pixels)[None])
    assert logits.shape == (1, 4, 45, 70)
    assert_equal(logits, expected)
    assert len(mask.unique()) > 1
    np.testing.assert_array_equal(model.predict(pixels), mask[0].numpy())


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("size", [(65, 97), (50, 70)])
def test_largefov_equals_opencv(
    size: tuple[int, int], version: Version, photograph: np.ndarray, tmp_path: Path
) -> None:
    net = narrow("deeplab_largefov")
    path, _ = written(net, version, tmp_path)
    model = segzoo.convert(path)
    height, width = size
    pixels = photograph[100 : 100 + height, 200 : 200 + width]
    image = preprocessed(pixels, (104.008, 116.669, 122.675))
    expected = opencv(net, path, F.pad(image, (0, 97 - width, 0, 65 - height)))[:, :, :height, :width]
    with torch.inference_mode():
        _, logits = model.classify(torch.tensor(pixels)[None])
    assert logits.shape == (1, 4, *size)
    assert_equal(logits, expected)


class Caffe:
    """Layers of SegNet's and DeconvNet's Caffe forks, in plain torch, with the arrays of a file."""

    def __init__(self, arrays: dict[str, list[np.ndarray]]) -> None:
        self.blobs = {name: [torch.from_numpy(array) for array in blobs] for name, blobs in arrays.items()}
        self.pools: list[tuple[Tensor, torch.Size]] = []

    def conv(self, name: str, x: Tensor, norm: str, pad: int = 1, relu: bool = True) -> Tensor:
        (weight, bias), (scale, shift) = self.blobs[name], self.blobs[norm]
        convolve = F.conv_transpose2d if "deconv" in name else F.conv2d
        x = convolve(x, weight, bias, padding=pad) * scale + shift
        return x.relu() if relu else x

    def pool(self, x: Tensor) -> Tensor:
        pooled, indices = F.max_pool2d(x, 2, ceil_mode=True, return_indices=True)
        self.pools.append((indices, x.shape[-2:]))
        return pooled

    def unpool(self, x: Tensor) -> Tensor:
        indices, (height, width) = self.pools.pop()
        return F.max_unpool2d(x, indices, [2, 2], [2, 2], output_size=[height, width])

    def score(self, name: str, x: Tensor) -> Tensor:
        return F.conv2d(x, *self.blobs[name])


def test_segnet_basic_equals_its_prototxt(photograph: np.ndarray, tmp_path: Path) -> None:
    path, arrays = written(narrow("segnet_basic"), "v2", tmp_path)
    model = segzoo.convert(path)
    pixels = photograph[100:145, 200:270]
    caffe = Caffe(arrays)
    x = F.local_response_norm(preprocessed(pixels, (0, 0, 0)), 5, alpha=1e-4, beta=0.75, k=1)
    for n in (1, 2, 3, 4):
        x = caffe.pool(caffe.conv(f"conv{n}", x, f"conv{n}_bn", pad=3))
    for n in (4, 3, 2, 1):
        x = caffe.conv(f"conv_decode{n}", caffe.unpool(x), f"conv_decode{n}_bn", pad=3, relu=False)
    with torch.inference_mode():
        _, logits = model.classify(torch.tensor(pixels)[None])
    assert_equal(logits, caffe.score("conv_classifier", x))


def test_deconvnet_equals_its_prototxt(photograph: np.ndarray, tmp_path: Path) -> None:
    path, arrays = written(narrow("deconvnet"), "v1", tmp_path)
    model = segzoo.convert(path)
    pixels = photograph[:224, :224]
    caffe = Caffe(arrays)
    x = preprocessed(pixels, (104.008, 116.669, 122.675))
    for stage, depth in enumerate((2, 2, 3, 3, 3), 1):
        for n in range(1, depth + 1):
            x = caffe.conv(f"conv{stage}_{n}", x, f"bn{stage}_{n}")
        x = caffe.pool(x)
    x = caffe.conv("fc6", x, "bnfc6", pad=0)
    x = caffe.conv("fc7", x, "bnfc7", pad=0)
    assert x.shape[-2:] == (1, 1)
    x = caffe.conv("fc6-deconv", x, "fc6-deconv-bn", pad=0)
    for stage, depth in ((5, 3), (4, 3), (3, 3), (2, 2), (1, 2)):
        x = caffe.unpool(x)
        for n in range(1, depth + 1):
            x = caffe.conv(f"deconv{stage}_{n}", x, f"debn{stage}_{n}")
    with torch.inference_mode():
        _, logits = model.classify(torch.tensor(pixels)[None])
    assert_equal(logits, caffe.score("seg-score-voc", x))


def test_origin_and_license_of_the_weights_are_kept(tmp_path: Path) -> None:
    path, _ = written(narrow("deconvnet"), "v2", tmp_path)
    info = segzoo.convert(path).spec.info
    assert info["converted_from"] == "Caffe, deconvnet"
    assert any("for research only" in note for note in info["notes"])


def test_a_network_with_other_channels_is_rejected(tmp_path: Path) -> None:
    path, _ = written(networks.fcn("fcn16s", (4, 5, 6, 7, 9), 9, 4), "v2", tmp_path)
    with pytest.raises(
        CheckpointError, match=r"variant of paper/fcn16s: its conv5_1.weight is \(9, 7, 3, 3\), not \(8"
    ):
        segzoo.convert(path)


def test_another_number_of_classes_gets_a_new_head(tmp_path: Path) -> None:
    path, arrays = written(narrow("fcn8s"), "v2", tmp_path)
    model = segzoo.convert(path, num_classes=11, classes="camvid")
    assert model.state_dict()["upscore8.weight"].shape == (11, 11, 16, 16)
    assert not model.get_parameter("upscore8.weight").requires_grad
    assert torch.equal(model.state_dict()["fc7.bias"], torch.from_numpy(arrays["fc7"][1]))
    assert model.spec.info["started_from"]["converted_from"] == "Caffe, fcn8s"
