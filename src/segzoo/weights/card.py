"""The model card: the README.md of a Hugging Face repository, generated from a model's spec.

Its YAML front matter is what the hub indexes: library, task, license, tags.
"""

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from segzoo import formatting
from segzoo.classes import ClassSet
from segzoo.errors import shown
from segzoo.spec import ExportSpec, ModelSpec

_LICENSES = (
    *("apache-2.0", "mit", "bsd", "bsd-2-clause", "bsd-3-clause", "bsd-3-clause-clear", "isc", "zlib", "unlicense"),
    *("cc0-1.0", "cc-by-3.0", "cc-by-4.0", "cc-by-sa-3.0", "cc-by-sa-4.0", "cc-by-nc-2.0", "cc-by-nc-3.0"),
    *("cc-by-nc-4.0", "cc-by-nd-4.0", "cc-by-nc-nd-3.0", "cc-by-nc-nd-4.0", "cc-by-nc-sa-2.0", "cc-by-nc-sa-3.0"),
    *("cc-by-nc-sa-4.0", "gpl-2.0", "gpl-3.0", "lgpl-2.1", "lgpl-3.0", "agpl-3.0", "mpl-2.0", "epl-2.0", "openrail"),
)
"""License identifiers of the hub, which rejects a card with any other value except "other"."""

_OWN_SECTION = {"license", "metrics"}
"""Keys of `info` that have their own section and are left out of the model's table."""


def model_card(spec: ModelSpec, params: int, source: str, onnx: ExportSpec | None = None) -> str:
    """The Markdown text of a model card, with YAML front matter.

    Args:
        spec: the spec of the model.
        params: its number of parameters.
        source: the argument with which `segzoo.load` loads it.
        onnx: the `ExportSpec` of the repository's model.onnx; None if it has no such file.
    """
    info = spec.info
    license = info.get("license")
    sections = formatting.sections(info)
    excluded = _OWN_SECTION.union(*(section.keys for section in sections))
    parts = [
        f"---\n{_front_matter(spec, license, onnx is not None)}\n---",
        f"# {spec.title}",
        f"Semantic segmentation into {len(spec.classes)} classes, with "
        f"[segzoo](https://pypi.org/project/segmentation-zoo/).",
        "## How to load it",
        _code("python", f'import segzoo\n\nmodel = segzoo.load("{source}")\nmask = model.predict("street.jpg").mask'),
        f"`mask` holds a class id for each pixel, at the image's own size.{_input(spec)}",
        *(_onnx(spec, onnx, source) if onnx is not None else ()),
        "## The model",
        _table(
            ("", ""),
            [
                ("decoder", _options(spec)),
                *([("encoder", f"{spec.encoder}, output stride {spec.output_stride}")] if spec.encoder else []),
                ("parameters", f"{params:,}"),
                ("image channels", spec.in_channels),
                ("mean", _numbers(spec.mean)),
                ("standard deviation", f"{_numbers(spec.std)} (of each channel, on a scale of 0 to 1)"),
                ("written by", f"segzoo {spec.version}"),
                *((formatting.name(key), formatting.text(value)) for key, value in info.items() if key not in excluded),
            ],
        ),
        *([] if any("metrics" in section.keys for section in sections) else ["## Metrics", _metrics(info)]),
        *(part for section in sections for part in _section(section)),
        "## Classes",
        _classes(spec.classes),
        "## License",
        _cell(license) if license else "None was stated. Ask the author of these weights before you use them.",
    ]
    return "\n\n".join(parts) + "\n"


def _front_matter(spec: ModelSpec, license: Any, onnx: bool) -> str:
    from huggingface_hub import ModelCardData

    name = None if license is None else " ".join(str(license).split())
    known = name is not None and name.lower() in _LICENSES
    names = spec.decoder, spec.encoder
    data = ModelCardData(
        library_name="segzoo",
        pipeline_tag="image-segmentation",
        license=None if name is None else name.lower() if known else "other",
        license_name=None if name is None or known else re.sub(r"[^a-z0-9.]+", "-", name.lower())[:60].strip("-."),
        tags=["segzoo", "semantic-segmentation", *filter(None, names), *(["onnx"] if onnx else [])],
    )
    text: str = data.to_yaml()
    return text


def _input(spec: ModelSpec) -> str:
    channels = spec.in_channels
    return "" if channels == 3 else f" Images are uint8 arrays (height, width, {channels})."


def _onnx(spec: ModelSpec, onnx: ExportSpec, source: str) -> list[str]:
    heading = "## How to run the ONNX file"
    download = f'path = hf_hub_download("{source.removeprefix("hf://")}", "model.onnx")'
    if onnx.input != "image":
        lines = [
            "from huggingface_hub import hf_hub_download",
            "from segzoo.inference import OnnxBackend",
            "",
            download,
        ]
        lines += ['model = OnnxBackend(path, device="auto")']
        usage = f"It takes normalized float32 images (N, {spec.in_channels}, H, W): `model.run_tensor`."
        return [heading, _code("python", "\n".join(lines)), usage]
    lines = [
        *("import segzoo", ""),
        f'predictor = segzoo.Predictor("{source}/model.onnx", device="auto")',
        'mask = predictor.predict("street.jpg").mask',
    ]
    if spec.in_channels != 3:
        return [heading, _code("python", "\n".join(lines))]
    plain = [
        *("import os", ""),
        *('os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")  # first; otherwise onnxruntime sends usage data', ""),
        *("import numpy as np", "import onnxruntime", "from huggingface_hub import hf_hub_download"),
        *("from PIL import Image", "", download),
        'image = np.asarray(Image.open("street.jpg").convert("RGB"))[None]  # uint8 (1, height, width, 3)',
        '(mask,) = onnxruntime.InferenceSession(path).run(["mask"], {"image": image})  # (1, height, width)',
    ]
    note = "Or with onnxruntime alone, since the graph itself normalizes the image and computes the argmax:"
    return [heading, _code("python", "\n".join(lines)), note, _code("python", "\n".join(plain))]


def _options(spec: ModelSpec) -> str:
    options = ", ".join(f"{name}={value!r}" for name, value in spec.options.items())
    return f"{spec.decoder} ({options})" if options else str(spec.decoder)


def _metrics(info: Mapping[str, Any]) -> str:
    return _cell(info["metrics"]) if info.get("metrics") else "None were stated."


def _section(section: formatting.Section) -> list[str]:
    return [f"## {section.title}", _table(("", ""), section.rows), *([section.note] if section.note else [])]


def _classes(classes: ClassSet) -> str:
    rows = [
        (index, name, "#" + "".join(f"{channel:02x}" for channel in color))
        for index, (name, color) in enumerate(zip(classes.names, classes.palette, strict=True))
    ]
    ignore_index = classes.ignore_index
    note = "" if ignore_index is None else f"\n\nIn the ground truth, {ignore_index} marks pixels without a label."
    return _table(("id", "name", "color"), rows) + note


def _numbers(values: Iterable[float]) -> str:
    return ", ".join(f"{value:g}" for value in values)


def _code(language: str, code: str) -> str:
    return f"```{language}\n{code}\n```"


def _table(header: Sequence[str], rows: Iterable[Sequence[Any]]) -> str:
    lines = [header, ["---"] * len(header), *([_cell(value) for value in row] for row in rows)]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in lines)


def _cell(value: Any) -> str:
    """A value as one line of Markdown with all markup escaped; a URL becomes a link."""
    if isinstance(value, list | tuple) and len(value) == 1:
        (value,) = value
    text = shown(" ".join((value if isinstance(value, str) else json.dumps(value)).split()), formatting.MAX_CELL)
    if re.fullmatch(r"https?://[^\s<>|`\\]+", text):
        return f"<{text}>"
    return re.sub(r"([\\`*_{}\[\]<>|#~!$])", r"\\\1", text)
