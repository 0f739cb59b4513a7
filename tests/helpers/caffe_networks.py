"""The original networks after their prototxt files: layers in Caffe's terms, and the shapes of their weights.

After shelhamer/fcn.berkeleyvision.org (voc-fcn*/net.py), alexgkendall/SegNet-Tutorial (Models/*.prototxt),
HyeonwooNoh/DeconvNet (DeconvNet_inference_deploy.prototxt) and DeepLab v1 (DeepLab-LargeFOV/test.prototxt). Written
independently of segzoo's tables, with channels that a test chooses.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import caffe_files as files
import numpy as np

PUBLISHED = (64, 128, 256, 512, 512)
DEPTHS = (2, 2, 3, 3, 3)


@dataclass
class Network:
    """`rows` become the prototxt, `weights` the .caffemodel: name, type, and the shapes of the blobs."""

    rows: list[tuple[str, str, str, str]] = field(default_factory=list)
    weights: list[tuple[str, str, list[tuple[int, ...]]]] = field(default_factory=list)

    def conv(self, name: str, below: str, inputs: int, outputs: int, kernel: int = 1, parameters: str = "") -> str:
        numbers = f"num_output: {outputs} kernel_size: {kernel} {parameters}"
        self.rows.append((name, "Convolution", below, f"convolution_param {{ {numbers} }}"))
        self.weights.append((name, "Convolution", [(outputs, inputs, kernel, kernel), (outputs,)]))
        return name

    def relu(self, below: str) -> str:
        self.rows.append((f"relu_{below}", "ReLU", below, ""))
        return f"relu_{below}"

    def pool(self, name: str, below: str, parameters: str) -> str:
        self.rows.append((name, "Pooling", below, f"pooling_param {{ {parameters} }}"))
        return name

    def deconv(self, name: str, below: str, inputs: int, outputs: int, kernel: int, parameters: str, bias: bool) -> str:
        numbers = f"num_output: {outputs} kernel_size: {kernel} bias_term: {str(bias).lower()} {parameters}"
        self.rows.append((name, "Deconvolution", below, f"convolution_param {{ {numbers} }}"))
        shapes: list[tuple[int, ...]] = [(inputs, outputs, kernel, kernel), (outputs,)]
        self.weights.append((name, "Deconvolution", shapes if bias else shapes[:1]))
        return name

    def norm(self, name: str, width: int) -> None:
        """Only in the weights file: the layer exists in the authors' fork of Caffe only."""
        self.weights.append((name, "BN", [(1, width, 1, 1), (1, width, 1, 1)]))

    def arrays(self, seed: int) -> dict[str, list[np.ndarray]]:
        """Random weights that preserve the scale of the signal."""
        random = np.random.default_rng(seed)
        return {
            name: [(random.standard_normal(shape) / np.sqrt(np.prod(shape[1:]))).astype(np.float32) for shape in shapes]
            for name, _, shapes in self.weights
        }

    def caffemodel(self, arrays: dict[str, list[np.ndarray]], form: files.LayerFormat) -> bytes:
        """V1 with four axes for all blobs, biases (1, 1, 1, C), as in old files; V2 with the true shapes."""
        layers = []
        for name, layer_type, _ in self.weights:
            v1 = form == "v1"
            blobs = [a.reshape((1,) * (4 - a.ndim) + a.shape) if v1 else a for a in arrays[name]]
            layers.append(files.Layer(name, layer_type, [files.Blob(blob, old_shape=v1) for blob in blobs]))
            layers.append(files.Layer(f"relu_{name}", "ReLU"))
        return files.caffemodel(layers, form)


def vgg16(net: Network, widths: Sequence[int], pools: Sequence[str], pads: Sequence[str]) -> str:
    x, inputs = "data", 3
    for stage, (width, depth, pool, pad) in enumerate(zip(widths, DEPTHS, pools, pads, strict=True), 1):
        for conv in range(1, depth + 1):
            padding = pad if stage > 1 or conv == 1 else "pad: 1"
            x, inputs = net.relu(net.conv(f"conv{stage}_{conv}", x, inputs, width, 3, padding)), width
        x = net.pool(f"pool{stage}", x, pool)
    return x


def fcn(variant: str, widths: Sequence[int] = PUBLISHED, hidden: int = 4096, classes: int = 21) -> Network:
    """fcn32s, fcn16s, fcn8s or fcn8s_atonce; the last row is `score`."""
    net = Network()
    plain = "pool: MAX kernel_size: 2 stride: 2"
    x = vgg16(net, widths, [plain] * 5, ["pad: 100", *["pad: 1"] * 4])
    x = net.relu(net.conv("fc6", x, widths[4], hidden, 7))
    x = net.relu(net.conv("fc7", x, hidden, hidden))
    x = net.conv("score_fr", x, hidden, classes)

    def up(name: str, below: str, kernel: int) -> str:
        return net.deconv(name, below, classes, classes, kernel, f"stride: {kernel // 2}", bias=False)

    def crop(name: str, below: str, ref: str, offset: int) -> str:
        net.rows.append((name, "Crop", f"{below} {ref}", f"crop_param {{ axis: 2 offset: {offset} }}"))
        return name

    def fuse(pool: str, x: str, offset: int) -> str:
        below, width = pool, widths[int(pool[-1]) - 1]
        if variant == "fcn8s_atonce":
            below = f"scale_{pool}"
            net.rows.append((below, "Scale", pool, ""))
            net.weights.append((below, "Scale", [(width,)]))
        score = crop(f"score_{pool}c", net.conv(f"score_{pool}", below, width, classes), x, offset)
        net.rows.append((f"fuse_{pool}", "Eltwise", f"{x} {score}", "eltwise_param { operation: SUM }"))
        return f"fuse_{pool}"

    if variant == "fcn32s":
        crop("score", up("upscore", x, 64), "data", 19)
        return net
    x = fuse("pool4", up("upscore2", x, 4), 5)
    if variant == "fcn16s":
        crop("score", up("upscore16", x, 32), "data", 27)
        return net
    x = fuse("pool3", up("upscore_pool4", x, 4), 9)
    crop("score", up("upscore8", x, 16), "data", 31)
    return net


def deeplab_largefov(widths: Sequence[int] = PUBLISHED, hidden: int = 1024, classes: int = 21) -> Network:
    """`hole` in DeepLab's fork of Caffe is `dilation` in Caffe today."""
    net = Network()
    shrink, keep = (f"pool: MAX kernel_size: 3 stride: {stride} pad: 1" for stride in (2, 1))
    x = vgg16(net, widths, [shrink, shrink, shrink, keep, keep], [*["pad: 1"] * 4, "pad: 2 dilation: 2"])
    x = net.pool("pool5a", x, "pool: AVE kernel_size: 3 stride: 1 pad: 1")
    x = net.relu(net.conv("fc6", x, widths[4], hidden, 3, "pad: 12 dilation: 12"))
    x = net.relu(net.conv("fc7", x, hidden, hidden))
    x = net.conv("fc8_voc12", x, hidden, classes)
    net.rows.append(("fc8_interp", "Interp", x, "interp_param { zoom_factor: 8 }"))
    return net


def segnet(widths: Sequence[int] = PUBLISHED, classes: int = 11) -> Network:
    """Weights only: unpooling is a layer of SegNet's fork of Caffe."""
    net = Network()
    inputs = 3
    for stage, (width, depth) in enumerate(zip(widths, DEPTHS, strict=True), 1):
        for conv in range(1, depth + 1):
            net.norm(f"{net.conv(f'conv{stage}_{conv}', '', inputs, width, 3)}_bn", width)
            inputs = width
    for stage in (5, 4, 3, 2, 1):
        for conv in range(DEPTHS[stage - 1], 0, -1):
            narrower = widths[stage - 2] if conv == 1 else widths[stage - 1]
            if (stage, conv) == (1, 1):
                net.conv("conv1_1_D", "", inputs, classes, 3)
                break
            net.norm(f"{net.conv(f'conv{stage}_{conv}_D', '', inputs, narrower, 3)}_bn", narrower)
            inputs = narrower
    return net


def segnet_basic(width: int = 64, classes: int = 11, last: str = "conv_classifier") -> Network:
    net = Network()
    for number in (1, 2, 3, 4):
        net.norm(f"{net.conv(f'conv{number}', '', 3 if number == 1 else width, width, 7)}_bn", width)
    for number in (4, 3, 2, 1):
        net.norm(f"{net.conv(f'conv_decode{number}', '', width, width, 7)}_bn", width)
    net.conv(last, "", width, classes)
    return net


def bayesian_segnet_basic(classes: int = 11) -> Network:
    """As SegNet-Basic, since dropout has no weights; the last layer has another name."""
    return segnet_basic(classes=classes, last="dense_softmax_inner_prod")


def deconvnet(widths: Sequence[int] = PUBLISHED, hidden: int = 4096, classes: int = 21) -> Network:
    """Weights only: unpooling is a layer of DeconvNet's fork of Caffe."""
    net = Network()
    inputs = 3
    for stage, (width, depth) in enumerate(zip(widths, DEPTHS, strict=True), 1):
        for conv in range(1, depth + 1):
            net.conv(f"conv{stage}_{conv}", "", inputs, width, 3)
            net.norm(f"bn{stage}_{conv}", width)
            inputs = width
    net.conv("fc6", "", widths[4], hidden, 7)
    net.norm("bnfc6", hidden)
    net.conv("fc7", "", hidden, hidden)
    net.norm("bnfc7", hidden)
    net.deconv("fc6-deconv", "", hidden, widths[4], 7, "", bias=True)
    net.norm("fc6-deconv-bn", widths[4])
    for stage in (5, 4, 3, 2, 1):
        for conv in range(1, DEPTHS[stage - 1] + 1):
            last = conv == DEPTHS[stage - 1] and stage > 1
            width = widths[stage - 2] if last else widths[stage - 1]
            net.deconv(f"deconv{stage}_{conv}", "", inputs, width, 3, "pad: 1", bias=True)
            net.norm(f"debn{stage}_{conv}", width)
            inputs = width
    net.conv("seg-score-voc", "", inputs, classes)
    return net


PUBLISHED_KINDS: dict[str, Callable[[], Network]] = {
    "fcn32s": lambda: fcn("fcn32s"),
    "fcn16s": lambda: fcn("fcn16s"),
    "fcn8s": lambda: fcn("fcn8s"),
    "fcn8s_atonce": lambda: fcn("fcn8s_atonce"),
    "segnet": segnet,
    "segnet_basic": segnet_basic,
    "bayesian_segnet_basic": bayesian_segnet_basic,
    "deconvnet": deconvnet,
    "deeplab_largefov": deeplab_largefov,
}
"""With the published numbers of channels."""

NARROW, HIDDEN = (4, 5, 6, 7, 8), 9


def narrow(name: str) -> Network:
    """The network with few channels and four classes; SegNet-Basic, which is small, keeps its channels."""
    made = {
        "segnet": lambda: segnet(NARROW, 4),
        "segnet_basic": lambda: segnet_basic(classes=4),
        "bayesian_segnet_basic": lambda: bayesian_segnet_basic(4),
        "deconvnet": lambda: deconvnet(NARROW, HIDDEN, 4),
        "deeplab_largefov": lambda: deeplab_largefov(NARROW, HIDDEN, 4),
    }
    return made[name]() if name in made else fcn(name, NARROW, HIDDEN, 4)


def written(net: Network, form: files.LayerFormat, folder: Path) -> tuple[Path, dict[str, list[np.ndarray]]]:
    """Writes a .caffemodel with random weights; returns its path and the weights."""
    arrays = net.arrays(seed=3)
    path = folder / "net.caffemodel"
    path.write_bytes(net.caffemodel(arrays, form))
    return path, arrays


def clean(name: str) -> str:
    """segzoo's name for a layer."""
    return {"fc8_voc12": "fc8", "seg-score-voc": "seg_score"}.get(name, name.replace("-", "_"))
