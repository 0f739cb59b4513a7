"""The model card, for any metadata that an author adds to a model."""

import pytest
from huggingface_hub import ModelCard

from segzoo.classes import ClassSet
from segzoo.spec import ExportSpec, ModelSpec
from segzoo.weights.card import model_card


def card(onnx: ExportSpec | None = None, **info: object) -> ModelCard:
    spec = ModelSpec(
        decoder="unet",
        encoder="resnet18",
        classes=ClassSet(("sky", "<b>|`road`"), ((0, 0, 0), (1, 2, 3)), ignore_index=255),
        options={"upsample": "bilinear"},
        mean=(0.5,) * 3,
        std=(0.25,) * 3,
        info=info,
        version="0.1",
    )
    return ModelCard(model_card(spec, 12345, "hf://jane/street", onnx))


@pytest.mark.parametrize(
    ("license", "front"),
    [
        ("Apache-2.0", {"license": "apache-2.0"}),
        ("cc-by-4.0", {"license": "cc-by-4.0"}),
        ("My own: ask\nme", {"license": "other", "license_name": "my-own-ask-me"}),
        (["MIT", "CC0"], {"license": "other", "license_name": "mit-cc0"}),
        (None, {}),
    ],
)
def test_the_license_is_one_that_the_hub_accepts(license: object, front: dict[str, str]) -> None:
    result = card(license=license)
    fields = {name: value for name, value in result.data.to_dict().items() if name in ("license", "license_name")}
    assert fields == front
    assert (license is None) == ("None was stated" in result.text)


def test_markup_in_metadata_is_escaped() -> None:
    text = card(data="a | b\n# head <script>x</script> [y](z)", recipe="https://example.org/a_b#c").text
    assert "| data | a \\| b \\# head \\<script\\>x\\</script\\> \\[y\\](z) |" in text
    assert "| 1 | \\<b\\>\\|\\`road\\` |" in text
    assert "| recipe | <https://example.org/a_b#c> |" in text
    assert not any(line.startswith("# head") for line in text.splitlines())


@pytest.mark.parametrize(
    ("metrics", "expected"),
    [
        ({"mean_iou": 0.61}, "| mean IoU | 61.00 % |"),
        ({"miou of mine": 0.61}, "| miou of mine | 0.61 |"),
        ("about 60 %", "about 60 %"),
        (None, "None were stated."),
        ({}, "None"),
    ],
)
def test_metrics(metrics: object, expected: str) -> None:
    assert expected in card(metrics=metrics).text


def test_the_card_describes_the_model() -> None:
    text = card().text
    for expected in ("12,345", 'segzoo.load("hf://jane/street")', "255 marks pixels", "0.25, 0.25, 0.25", "#010203"):
        assert expected.replace("#", "\\#") in text
    assert "| decoder | unet (upsample='bilinear') |" in text
    assert "| encoder | resnet18, output stride 32 |" in text
    assert "| written by | segzoo 0.1 |" in text


@pytest.mark.parametrize(
    ("onnx", "expected"),
    [
        (ExportSpec(), "onnxruntime.InferenceSession(path)"),
        (ExportSpec(input="tensor"), "It takes normalized float32 images (N, 3, H, W): `model.run_tensor`."),
    ],
    ids=["image", "tensor"],
)
def test_the_card_shows_how_to_run_the_onnx_file(onnx: ExportSpec, expected: str) -> None:
    text = card(onnx=onnx).text
    assert "## How to run the ONNX file" in text and expected in text
    assert "ONNX" not in card().text


def test_onnxruntime_alone_sends_no_usage_data() -> None:
    text = card(onnx=ExportSpec()).text
    assert 0 < text.index('os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")') < text.index("import onnxruntime")


def test_training_and_recipe_are_readable_tables() -> None:
    text = card(
        metrics={"mean_iou": 0.623},
        trained={"val_mean_iou": 0.601, "seconds": 5716.4},
        recipe={"run": {"epochs": 150}, "augmentation": [{"name": "flip"}]},
    ).text
    for expected in ("## Metrics of these weights", "## At the end of training", "## Recipe", "Two measurements"):
        assert expected in text
    for row in (
        "| mean IoU | 62.30 % |",
        "| val mean IoU | 60.10 % |",
        "| trained in | 95.3 min |",
        "| run | epochs = 150 |",
    ):
        assert row in text
    assert "val_mean" not in text.replace("\\", "") and "{" not in text
