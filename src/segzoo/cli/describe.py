"""`segzoo info FILE`: what a .safetensors or .onnx file says about its model, without torch or onnxruntime."""

import math
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from segzoo import formatting
from segzoo.classes import ClassSet
from segzoo.cli import console, files
from segzoo.errors import CheckpointError, OptionError
from segzoo.spec import ExportSpec, ModelSpec
from segzoo.weights.onnx_file import OnnxGraph, Value, read_graph
from segzoo.weights.safetensors_file import open_tensors

Rows = list[tuple[str, str]]

_BATCH_NORM_BUFFERS = ("running_mean", "running_var", "num_batches_tracked")
"""Tensors of batch normalization that are no parameters."""


def describe(path: Path) -> None:
    """Prints a file's spec, contents and classes, and for an .onnx file the verification of the export.

    Raises:
        CheckpointError: the file is truncated, segzoo did not write it, or its spec is damaged or of a newer version.
    """
    files.require_model_file(path)
    graph = read_graph(path) if path.suffix.lower() == ".onnx" else None
    if graph is None:
        pairs, contents = _read_tensors(path)
    else:
        pairs, contents = graph.metadata, []
    try:
        spec = ModelSpec.from_metadata(pairs)
        if spec is None:
            raise CheckpointError(
                f"{path} was not written by segzoo: it does not name its decoder, encoder and classes."
            )
        export, cases = None, []
        if graph is not None:
            export = ExportSpec.from_metadata(pairs)
            contents = _graph_rows(graph, export)
            cases = [] if export.verification is None else _verification_rows(export.verification)
        sections = formatting.sections(spec.info)
        properties = _spec_rows(spec, sections, contents, export)
    except (OptionError, AttributeError, KeyError, TypeError, ValueError) as error:
        reason = str(error).rstrip(".")
        raise CheckpointError(
            f"The spec in {path} cannot be read: {reason}. If it is damaged, write the file again."
        ) from error
    console.title(str(path))
    size = path.stat().st_size
    properties += [("size", f"{console.megabytes(size)} ({size:,} bytes)"), ("sha256", files.sha256(path))]
    console.key_values(properties)
    for section in sections:
        console.line()
        console.title(section.title)
        console.key_values(section.rows)
        if section.note:
            console.prose(section.note)
    _print_classes(spec.classes)
    if cases:
        _print_verification(cases)


def _spec_rows(spec: ModelSpec, sections: list[formatting.Section], contents: Rows, export: ExportSpec | None) -> Rows:
    options = ", ".join(f"{name}={value!r}" for name, value in spec.options.items())
    in_sections = {key for section in sections for key in section.keys}
    info = [(formatting.name(k), formatting.text(value)) for k, value in spec.info.items() if k not in in_sections]
    torch = f", torch {export.torch}" if export is not None and export.torch else ""
    return [
        ("decoder", spec.decoder + (f" ({options})" if options else "")),
        *([("encoder", f"{spec.encoder}, output stride {spec.output_stride}")] if spec.encoder else []),
        ("task", spec.task),
        ("channels", f"{spec.in_channels}, {spec.channel_order} inside"),
        ("mean", ", ".join(f"{value:g}" for value in spec.mean)),
        ("std", ", ".join(f"{value:g}" for value in spec.std)),
        *contents,
        *info,
        ("written by", f"segzoo {spec.version}{torch}, format {spec.format_version}"),
    ]


def _print_classes(classes: ClassSet) -> None:
    console.line()
    ignored = "" if classes.ignore_index is None else f", {classes.ignore_index} is ignored in ground truth"
    console.title(f"{len(classes)} classes{ignored}")
    colored = enumerate(zip(classes.names, classes.palette, strict=True))
    rows = [(str(index), name, console.swatch(color)) for index, (name, color) in colored]
    console.table(("id", "name", "color"), rows, right=(0,))


def _verification_rows(verification: Mapping[str, Any]) -> list[list[str]]:
    """One row per case: size, pattern, difference, pixel agreement, and with unpooling the share of close pixels.

    Raises:
        OptionError: a field is missing.
    """
    rows = []
    try:
        for case in verification["cases"]:
            row = [
                f"{case['batch']} x {case['height']} x {case['width']}",
                str(case["pattern"]),
                console.logits_difference(case["logits_difference"]),
                console.pixel_agreement(case["pixel_agreement"]),
            ]
            # Pooling indices may flip, so the worst pixel says little; the share of close pixels counts.
            rows.append(
                [*row, console.pixel_agreement(case["fraction_close"])] if verification.get("unpooling") else row
            )
    except KeyError as error:
        raise OptionError(f"verification lacks {error}.") from None
    return rows


def _print_verification(rows: list[list[str]]) -> None:
    header = ["images (N x H x W)", "pattern", "logits differ by", "same class", "close"][: len(rows[0])]
    console.line()
    console.title("Verification: onnxruntime against torch")
    console.table(header, rows, right=(2, 3, 4))
    console.prose("A difference of 1e-06 is a millionth of the largest logit.")
    if "close" in header:
        console.prose(
            "The network unpools: if two values of a 2x2 window differ by less than rounding, the pooling index may "
            "flip. The export is judged by the share of pixels whose logits are close (within 1e-04), and by classes."
        )


def _read_tensors(path: Path) -> tuple[Mapping[str, str], Rows]:
    """The metadata of a .safetensors file, and rows about its tensors."""
    from safetensors import SafetensorError

    try:
        with open_tensors(path, "numpy") as file:
            pairs: dict[str, str] = file.metadata() or {}
            slices = {name: file.get_slice(name) for name in file.keys()}  # noqa: SIM118 - not a mapping
            shapes = {name: tensor.get_shape() for name, tensor in slices.items()}
            dtypes = sorted({tensor.get_dtype() for tensor in slices.values()})
    except (OSError, SafetensorError, ValueError) as error:
        raise CheckpointError(
            f"{path} is not a complete .safetensors file ({error}). Copy or download it again."
        ) from error
    parameters = sum(math.prod(shape) for name, shape in shapes.items() if not name.endswith(_BATCH_NORM_BUFFERS))
    return pairs, [("parameters", f"{parameters:,}"), ("tensors", f"{len(shapes):,}, of {', '.join(dtypes)}")]


def _graph_rows(graph: OnnxGraph, export: ExportSpec) -> Rows:
    opsets = ", ".join(f"{domain or 'ai.onnx'} {version}" for domain, version in graph.opsets.items())
    operators = ", ".join(f"{name} {count}" for name, count in graph.operators.most_common())
    return [
        ("exported with", f"--input {export.input}"),
        ("precision", export.precision),
        ("inputs", _signatures(graph.inputs)),
        ("outputs", _signatures(graph.outputs)),
        ("opset", opsets),
        ("values stored", f"{graph.stored_values:,}"),
        ("operators", f"{graph.operators.total():,}: {operators}"),
    ]


def _signatures(values: Iterable[Value]) -> str:
    """Name, dtype and shape of each graph input or output."""
    return "; ".join(f"{value.name}: {value.dtype} ({', '.join(map(str, value.shape))})" for value in values)
