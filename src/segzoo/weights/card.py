"""The model card: the README.md of a repository on the hub, made from what a file says of itself.

Floor 0. Its front matter is what the hub searches by: library, task, licence, tags.
"""

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from segzoo import formatting
from segzoo.spec import title

_LICENCES = (
    *("apache-2.0", "mit", "bsd", "bsd-2-clause", "bsd-3-clause", "bsd-3-clause-clear", "isc", "zlib", "unlicense"),
    *("cc0-1.0", "cc-by-3.0", "cc-by-4.0", "cc-by-sa-3.0", "cc-by-sa-4.0", "cc-by-nc-2.0", "cc-by-nc-3.0"),
    *("cc-by-nc-4.0", "cc-by-nd-4.0", "cc-by-nc-nd-3.0", "cc-by-nc-nd-4.0", "cc-by-nc-sa-2.0", "cc-by-nc-sa-3.0"),
    *("cc-by-nc-sa-4.0", "gpl-2.0", "gpl-3.0", "lgpl-2.1", "lgpl-3.0", "agpl-3.0", "mpl-2.0", "epl-2.0", "openrail"),
)
"""What the hub calls licences; it refuses a card with any other but "other"."""

_TOLD = {"licence", "license", "metrics"}
"""What stands in a section of its own."""


def model_card(record: Mapping[str, Any], params: int, source: str, onnx: Mapping[str, Any] | None = None) -> str:
    """The text of a model card, with YAML front matter.

    Args:
        record: what a file says of its model, as `segzoo.models.create.record` gives it.
        params: how many parameters the model has.
        source: what `segzoo.load` takes to load it.
        onnx: the record of the .onnx file that lies beside it as model.onnx.
    """
    info = record["info"]
    licence = info.get("licence", info.get("license"))
    sections = formatting.sections(info)
    told = _TOLD.union(*(section.keys for section in sections))
    parts = [
        f"---\n{_front_matter(record, licence, onnx is not None)}\n---",
        f"# {title(record)}",
        f"Semantic segmentation into {len(record['labels']['names'])} classes, with "
        f"[segzoo](https://pypi.org/project/segmentation-zoo/).",
        "## How to load it",
        _code("python", f'import segzoo\n\nmodel = segzoo.load("{source}")\nmask = model.predict("street.jpg")'),
        f"`mask` holds a class id for each pixel, at the image's own size.{_input(record)}",
        *(_onnx(record, onnx, source) if onnx is not None else ()),
        "## The model",
        _table(
            ("", ""),
            [
                ("decoder", _options(record)),
                *(
                    [("encoder", f"{record['encoder']}, output stride {record['output_stride']}")]
                    if record["encoder"]
                    else []
                ),
                ("parameters", f"{params:,}"),
                ("image channels", record["in_channels"]),
                ("mean", _numbers(record["mean"])),
                ("standard deviation", f"{_numbers(record['std'])} (of each channel, on a scale of 0 to 1)"),
                ("written by", f"segzoo {record['version']}"),
                *((formatting.name(key), formatting.text(value)) for key, value in info.items() if key not in told),
            ],
        ),
        *([] if any("metrics" in section.keys for section in sections) else ["## Metrics", _metrics(info)]),
        *(part for section in sections for part in _section(section)),
        "## Classes",
        _classes(record["labels"]),
        "## Licence",
        _cell(licence) if licence else "None was stated. Ask whoever trained these weights before you use them.",
    ]
    return "\n\n".join(parts) + "\n"


def _front_matter(record: Mapping[str, Any], licence: Any, onnx: bool) -> str:
    from huggingface_hub import ModelCardData

    name = None if licence is None else " ".join(str(licence).split())
    known = name is not None and name.lower() in _LICENCES
    names = record["decoder"], record["encoder"]
    data = ModelCardData(
        library_name="segzoo",
        pipeline_tag="image-segmentation",
        license=None if name is None else name.lower() if known else "other",
        license_name=None if name is None or known else re.sub(r"[^a-z0-9.]+", "-", name.lower())[:60].strip("-."),
        tags=["segzoo", "semantic-segmentation", *filter(None, names), *(["onnx"] if onnx else [])],
    )
    text: str = data.to_yaml()
    return text


def _input(record: Mapping[str, Any]) -> str:
    channels = record["in_channels"]
    return "" if channels == 3 else f" Images are uint8 arrays (height, width, {channels})."


def _onnx(record: Mapping[str, Any], onnx: Mapping[str, Any], source: str) -> list[str]:
    repo = source.removeprefix("hf://")
    lines = ["from huggingface_hub import hf_hub_download", "from segzoo.inference import Session", ""]
    lines += [f'path = hf_hub_download("{repo}", "model.onnx")', 'session = Session(path, device="auto")']
    head = "## How to run the ONNX file"
    if onnx["io"] != "image":
        takes = f"It takes normalised float32 images (N, {record['in_channels']}, H, W): `session.run_tensor`."
        return [head, _code("python", "\n".join(lines)), takes]
    lines += ['mask = session.predict("street.jpg")']
    if record["in_channels"] != 3:
        return [head, _code("python", "\n".join(lines))]
    bare = [
        *("import numpy as np", "import onnxruntime", "from PIL import Image", ""),
        'image = np.asarray(Image.open("street.jpg").convert("RGB"))[None]  # uint8 (1, height, width, 3)',
        '(labels,) = onnxruntime.InferenceSession(path).run(["labels"], {"image": image})  # (1, height, width)',
    ]
    alone = "Or with onnxruntime alone, since the file normalises and takes the argmax itself:"
    return [head, _code("python", "\n".join(lines)), alone, _code("python", "\n".join(bare))]


def _options(record: Mapping[str, Any]) -> str:
    options = ", ".join(f"{name}={value!r}" for name, value in record["options"].items())
    return f"{record['decoder']} ({options})" if options else str(record["decoder"])


def _metrics(info: Mapping[str, Any]) -> str:
    return _cell(info["metrics"]) if info.get("metrics") else "None were stated."


def _section(section: formatting.Section) -> list[str]:
    return [f"## {section.title}", _table(("", ""), section.rows), *([section.note] if section.note else [])]


def _classes(labels: Mapping[str, Any]) -> str:
    rows = [
        (index, name, "#" + "".join(f"{part:02x}" for part in colour))
        for index, (name, colour) in enumerate(zip(labels["names"], labels["colours"], strict=True))
    ]
    ignored = labels.get("ignored")
    note = "" if ignored is None else f"\n\nIn ground truth, {ignored} marks pixels without a label."
    return _table(("id", "name", "colour"), rows) + note


def _numbers(values: Iterable[float]) -> str:
    return ", ".join(f"{value:g}" for value in values)


def _code(language: str, code: str) -> str:
    return f"```{language}\n{code}\n```"


def _table(head: Sequence[str], rows: Iterable[Sequence[Any]]) -> str:
    lines = [head, ["---"] * len(head), *([_cell(value) for value in row] for row in rows)]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in lines)


def _cell(value: Any) -> str:
    """A value as one line of text in which nothing is markup, whatever its author wrote; a URL is a link."""
    if isinstance(value, list | tuple) and len(value) == 1:
        (value,) = value
    text = " ".join((value if isinstance(value, str) else json.dumps(value)).split())
    if re.fullmatch(r"https?://[^\s<>|`\\]+", text):
        return f"<{text}>"
    return re.sub(r"([\\`*_{}\[\]<>|#~!$])", r"\\\1", text)
