"""What a .safetensors or .onnx file says of itself; neither torch nor onnxruntime is needed to read it."""

import hashlib
import math
import re
from collections import Counter
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote, urlsplit

from segzoo import formatting, spec
from segzoo.classes import LabelSet
from segzoo.cli import console
from segzoo.errors import CheckpointError
from segzoo.exporting.onnx.file import read_graph
from segzoo.weights.catalog import entries
from segzoo.weights.hub import FILE
from segzoo.weights.resolve import Located, locate

if TYPE_CHECKING:
    import onnx

KINDS = (".safetensors", ".onnx")

_COUNTERS = ("running_mean", "running_var", "num_batches_tracked")
"""Tensors of batch normalisation that nobody trains."""


def meant(name: str) -> bool:
    """Whether a word of the command line is the path of a file, and not a decoder or an encoder."""
    path = Path(name)
    return path.suffix.lower() in KINDS or (path.suffix != "" and path.is_file())


def placed(name: str) -> bool:
    """Whether a word names a file that is found for it: a key of the catalog, hf://owner/repo, https://..."""
    return name in entries() or "://" in name


def names_model(name: str) -> bool:
    """Whether a word can only be a model, and no image: by its ending, as a place, or as a folder of segzoo.save."""
    return placed(name) or Path(name).suffix.lower() in KINDS or Path(name, FILE).is_file()


def find(name: str) -> Located:
    """The file of a model that a word of the command line names, fetched into the cache if need be.

    Args:
        name: the path of a .safetensors or .onnx file or of a folder of segzoo.save; a key of the catalog;
            hf://owner/repo[@revision][/file]; or https://...#sha256=...

    Raises:
        CheckpointError: there is no such file, or it is of another kind.
        UnknownNameError: neither a file nor a key; near keys are suggested.
        DownloadError, OptionError: it cannot be fetched; a URL without its sha256.
    """
    located = locate(name)
    if located.format == "segzoo":
        require(located.path)
    return located


def stem(name: str) -> str:
    """What files that are made of a model are called, without an ending."""
    scheme, separator, rest = name.partition("://")
    if separator and scheme != "hf":
        return Path(unquote(urlsplit(name).path)).stem
    if placed(name):
        return (rest if separator else name).removesuffix(".safetensors").partition("@")[0].replace("/", "-")
    return Path(name).stem


def plain(name: str) -> str:
    """A name that a file of any system can bear, and a folder of Triton."""
    return re.sub(r"[^A-Za-z0-9_.-]", "_", name).lstrip("-.") or "model"


def exported(name: str) -> str:
    """What `segzoo export` calls the .onnx file of a model, unless it is told otherwise."""
    return f"{Path(name).stem if meant(name) and not placed(name) else plain(stem(name))}.onnx"


def require(path: Path) -> Path:
    """The path, if there is a file of a kind that segzoo writes.

    Raises:
        CheckpointError: there is none, or it is something else.
    """
    if path.is_dir():
        raise CheckpointError(f"{path} is a folder. Pass a .safetensors or .onnx file that segzoo wrote.")
    if not path.is_file():
        raise CheckpointError(f"There is no file {path}. `segzoo export` writes .onnx files, segzoo.save .safetensors.")
    if path.suffix.lower() not in KINDS:
        raise CheckpointError(f"{path} is neither a .safetensors nor an .onnx file. Pass one that segzoo wrote.")
    return path


def describe(path: Path) -> None:
    """Prints the record of a file, its classes, and of an .onnx file its graph and proof."""
    require(path)
    console.title(str(path))
    graph = read_graph(path) if path.suffix.lower() == ".onnx" else None
    record, contents = _of_graph(graph) if graph is not None else _of_tensors(path)
    if not record:
        raise CheckpointError(f"{path} was not written by segzoo: it holds no record of decoder, encoder and classes.")
    try:
        labels = LabelSet.from_dict(record["labels"])
        _describe(path, record, contents, labels)
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise CheckpointError(f"The record in {path} is damaged: {error}. Write the file again.") from error


def _describe(path: Path, record: Mapping[str, Any], contents: list[tuple[str, str]], labels: LabelSet) -> None:
    options = ", ".join(f"{name}={value!r}" for name, value in record["options"].items())
    sections = formatting.sections(record.get("info", {}))
    told = {key for section in sections for key in section.keys}
    info = [
        (formatting.name(key), formatting.text(value))
        for key, value in record.get("info", {}).items()
        if key not in told
    ]
    console.facts(
        [
            ("decoder", record["decoder"] + (f" ({options})" if options else "")),
            *(
                [("encoder", f"{record['encoder']}, output stride {record['output_stride']}")]
                if record["encoder"]
                else []
            ),
            ("channels", f"{record['in_channels']}, {record.get('channel_order', 'RGB')} inside"),
            ("mean", ", ".join(f"{value:g}" for value in record["mean"])),
            ("std", ", ".join(f"{value:g}" for value in record["std"])),
            *contents,
            *info,
            ("written by", "segzoo " + record["version"] + (f", torch {record['torch']}" if "torch" in record else "")),
            ("size", f"{console.megabytes(path.stat().st_size)} ({path.stat().st_size:,} bytes)"),
            ("sha256", sha256(path)),
        ]
    )
    for section in sections:
        console.line()
        console.title(section.title)
        console.facts(section.rows)
        if section.note:
            console.prose(section.note)
    console.line()
    ignored = "" if labels.ignored is None else f", {labels.ignored} is ignored in ground truth"
    console.title(f"{len(labels)} classes{ignored}")
    classes = enumerate(zip(labels.names, labels.colours, strict=True))
    rows = [(str(index), name, console.swatch(colour)) for index, (name, colour) in classes]
    console.table(("id", "name", "colour"), rows, right=(0,))
    if "proof" in record:
        console.line()
        _proof(record["proof"])


def _proof(proof: Mapping[str, Any]) -> None:
    console.title("Proof: onnxruntime against torch")
    head = ["images (N x H x W)", "pattern", "logits differ by", "same label"]
    # Where switches may flip, the worst pixel says little: what counts is how many are near.
    unpooling = bool(proof.get("unpooling"))
    rows = []
    for case in proof["cases"]:
        size = f"{case['batch']} x {case['height']} x {case['width']}"
        values = [difference(case["logits_difference"]), agreement(case["label_agreement"])]
        rows.append([size, case["pattern"], *values, *([agreement(case["near"])] if unpooling else [])])
    console.table([*head, "near"] if unpooling else head, rows, right=(2, 3, 4))
    console.prose("A difference of 1e-06 is a millionth of the largest logit.")
    if unpooling:
        console.prose(
            "The network unpools: where two values of a 2x2 window differ by less than rounding, the switch may flip. "
            "It is judged on the share of pixels that are near (within 1e-04) and on labels."
        )


def difference(value: float) -> str:
    """The largest difference of logits: "4.1e-07"."""
    return f"{value:.1e}"


def agreement(share: float) -> str:
    """A share of pixels as a percentage that is 100 only if it is all of them."""
    text = f"{100 * share:.4f} %"
    return "100 %" if share == 1 else min(text, "99.9999 %") if text.startswith("100") else text


def sha256(path: Path) -> str:
    """The file's checksum, in hexadecimal."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _of_tensors(path: Path) -> tuple[dict[str, Any], list[tuple[str, str]]]:
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="numpy") as file:
            record = spec.decode(file.metadata() or {})
            slices = {name: file.get_slice(name) for name in file.keys()}  # noqa: SIM118 - not a mapping
            shapes = {name: one.get_shape() for name, one in slices.items()}
            types = sorted({one.get_dtype() for one in slices.values()})
    except (OSError, SafetensorError, ValueError) as error:
        raise CheckpointError(
            f"{path} is not a whole .safetensors file ({error}). Copy or download it again."
        ) from error
    trained = sum(math.prod(shape) for name, shape in shapes.items() if not name.endswith(_COUNTERS))
    return record, [("parameters", f"{trained:,}"), ("tensors", f"{len(shapes):,}, of {', '.join(types)}")]


def _of_graph(model: "onnx.ModelProto") -> tuple[dict[str, Any], list[tuple[str, str]]]:
    record = spec.decode({pair.key: pair.value for pair in model.metadata_props})
    opsets = [f"{entry.domain or 'ai.onnx'} {entry.version}" for entry in model.opset_import]
    values = sum(math.prod(tensor.dims) for tensor in model.graph.initializer)
    functions = (node for function in model.functions for node in function.node)
    operators = Counter(node.op_type for node in [*model.graph.node, *functions])
    summary = ", ".join(f"{name} {number}" for name, number in operators.most_common())
    contents = [
        ("io", str(record.get("io"))),
        ("precision", str(record.get("precision", "fp32"))),
        ("inputs", "; ".join(_values(model.graph.input))),
        ("outputs", "; ".join(_values(model.graph.output))),
        ("opset", ", ".join(opsets)),
        ("values stored", f"{values:,}"),
        ("operators", f"{operators.total():,}: {summary}"),
    ]
    return record, contents


def _values(values: "Iterable[onnx.ValueInfoProto]") -> list[str]:
    import onnx

    described = []
    for value in values:
        tensor = value.type.tensor_type
        shape = ", ".join(axis.dim_param or str(axis.dim_value) for axis in tensor.shape.dim)
        described.append(f"{value.name}: {onnx.helper.tensor_dtype_to_np_dtype(tensor.elem_type)} ({shape})")
    return described
