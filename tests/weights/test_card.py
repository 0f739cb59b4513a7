"""The model card, for whatever an author wrote into a model."""

import pytest
from huggingface_hub import ModelCard

from segzoo.classes import LabelSet
from segzoo.weights.card import model_card


def card(**info: object) -> ModelCard:
    record = {
        "version": "0.1",
        "decoder": "unet",
        "encoder": "resnet18",
        "in_channels": 3,
        "output_stride": 32,
        "options": {"upsample": "bilinear"},
        "labels": LabelSet(("sky", "<b>|`road`"), ((0, 0, 0), (1, 2, 3)), ignored=255).to_dict(),
        "mean": [0.5] * 3,
        "std": [0.25] * 3,
        "info": info,
    }
    return ModelCard(model_card(record, 12345, "hf://jane/street"))


@pytest.mark.parametrize(
    ("licence", "front"),
    [
        ("Apache-2.0", {"license": "apache-2.0"}),
        ("cc-by-4.0", {"license": "cc-by-4.0"}),
        ("My own: ask\nme", {"license": "other", "license_name": "my-own-ask-me"}),
        (["MIT", "CC0"], {"license": "other", "license_name": "mit-cc0"}),
        (None, {}),
    ],
)
def test_the_licence_is_one_that_the_hub_knows(licence: object, front: dict[str, str]) -> None:
    made = card(licence=licence)
    given = {name: value for name, value in made.data.to_dict().items() if name in ("license", "license_name")}
    assert given == front
    assert (licence is None) == ("None was stated" in made.text)


def test_nothing_an_author_wrote_is_markup() -> None:
    text = card(data="a | b\n# head <script>x</script> [y](z)", recipe="https://example.org/a_b#c").text
    assert "| data | a \\| b \\# head \\<script\\>x\\</script\\> \\[y\\](z) |" in text
    assert "| 1 | \\<b\\>\\|\\`road\\` |" in text
    assert "| recipe | <https://example.org/a_b#c> |" in text
    assert not any(line.startswith("# head") for line in text.splitlines())


@pytest.mark.parametrize(
    ("metrics", "said"),
    [
        ({"mean_iou": 0.61}, "| mean IU | 61.00 % |"),
        ({"miou of mine": 0.61}, "| miou of mine | 0.61 |"),
        ("about 60 %", "about 60 %"),
        (None, "None were stated."),
        ({}, "None"),
    ],
)
def test_metrics(metrics: object, said: str) -> None:
    assert said in card(metrics=metrics).text


def test_what_is_told() -> None:
    text = card().text
    for said in ("12,345", 'segzoo.load("hf://jane/street")', "255 marks pixels", "0.25, 0.25, 0.25", "#010203"):
        assert said.replace("#", "\\#") in text


def test_training_and_recipe_are_tables_in_words() -> None:
    text = card(
        metrics={"mean_iou": 0.623},
        trained={"val_mean_iu": 0.601, "seconds": 5716.4},
        recipe={"run": {"epochs": 150}, "augmentation": [{"name": "flip"}]},
    ).text
    for said in ("## Metrics of these weights", "## At the end of training", "## Recipe", "Two measurements"):
        assert said in text
    for row in (
        "| mean IU | 62.30 % |",
        "| val mean IU | 60.10 % |",
        "| trained in | 95.3 min |",
        "| run | epochs = 150 |",
    ):
        assert row in text
    assert "val_mean" not in text.replace("\\", "") and "{" not in text
