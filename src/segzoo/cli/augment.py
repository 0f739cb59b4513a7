"""`segzoo augment`: what a recipe makes of a data set, as a picture, and how long it takes."""

import time
import tomllib
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from segzoo.cli import console, types, validators
from segzoo.cli.evaluate import Exclude, Select
from segzoo.errors import OptionError, SegzooError

if TYPE_CHECKING:
    from segzoo.data.augment import Augmentation
    from segzoo.data.dataset import SegmentationData

_SAMPLES = 32
"""The time is the mean of so many samples, or of all where there are fewer."""


def augment(
    root: Annotated[Path, typer.Argument(metavar="DATA", help="The folder of a data set.", show_default=False)],
    data: Annotated[
        str, typer.Option(metavar=types.DATA_SETS, help="Which data set it is; folder is one of your own.")
    ] = "folder",
    split: Annotated[str | None, typer.Option(help="Such as train or val.", show_default="the one to train on")] = None,
    select: Select = None,
    exclude: Exclude = None,
    recipe: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE.toml",
            help="A file with [[augmentation]] tables, each with the name of a step and its options.",
            show_default="flip, crop, colour, blur, noise",
        ),
    ] = None,
    size: Annotated[
        str | None,
        typer.Option(metavar="H,W", help="What the recipe without a file crops to.", show_default="the first image's"),
    ] = None,
    preview: Annotated[
        Path, typer.Option(metavar="FILE", help="The picture to write, .png or .jpg; an older one is replaced.")
    ] = Path("augmented.png"),
    rows: Annotated[int, typer.Option(min=1, max=100, help="How many images.")] = 4,
    columns: Annotated[int, typer.Option(min=2, max=100, help="How many pictures of each, the image itself one.")] = 4,
    seed: Annotated[int, typer.Option(min=0, help="Of what is drawn.")] = 0,
) -> None:
    """Writes a contact sheet of augmented images with their masks laid over, and says how long augmentation takes.

    Each row is one image: as it is, then augmented. What the masks leave uncoloured does not count in training.

      segzoo augment mydata --preview sheet.png
      segzoo augment data/camvid --data camvid --exclude '0001TP*' --size 256,256
      segzoo augment data/camvid --data camvid --recipe recipe.toml
    """
    if preview.suffix.lower() not in (".png", ".jpg", ".jpeg"):
        raise OptionError(f"--preview takes a .png or a .jpg, not {preview}.")
    if recipe is not None and size is not None:
        raise OptionError("--size is for the recipe that needs no file; the one in the file says what it crops to.")
    if not preview.parent.is_dir():
        raise OptionError(f"There is no folder {preview.parent} to write {preview.name} into. Create it first.")
    validators.check_data(root, data)
    window = types.size(size, "--size")
    steps = None if recipe is None else read_recipe(recipe)
    with console.Steps() as step:
        step("loading torch")
        from segzoo._io import written_aside
        from segzoo.data.augment import Augmentation, default_recipe
        from segzoo.data.datasets import open_data
        from segzoo.data.preview import contact_sheet

        found = open_data(data, root, split, select=select or (), exclude=exclude or ())
        if steps is None:
            height, width = (window, window) if isinstance(window, int) else window or found.mask(0).shape
            steps = default_recipe(height, width)
        augmentation = Augmentation(steps, found.ignored)
        step("drawing")
        sheet = contact_sheet(found, augmentation, rows=rows, columns=columns, seed=seed)
        with written_aside(preview) as draft:
            sheet.save(draft, quality=92)  # of a JPEG; a PNG has none
        step("measuring")
        reading, augmenting, samples = _times(found, augmentation)
    console.facts(
        [
            ("data", f"{found.title}, {len(found)} images, {len(found.labels)} classes"),
            ("steps", ", ".join(record["name"] for record in augmentation.recipe) or "none"),
            ("reading", f"{1000 * reading:.1f} ms an image, mean of {samples}"),
            ("augmenting", f"{1000 * augmenting:.1f} ms an image, on one CPU thread"),
            ("wrote", str(preview)),
        ]
    )


def read_recipe(path: Path) -> list[dict[str, Any]]:
    """The tables [[augmentation]] of a TOML file; all else in it is left alone.

    Raises:
        SegzooError: the file is missing, is no TOML, or has no such tables.
    """
    try:
        with path.open("rb") as file:
            found = tomllib.load(file).get("augmentation")
    except tomllib.TOMLDecodeError as error:
        raise SegzooError(f"{path} is no TOML: {error}.") from None
    if not isinstance(found, list):
        raise SegzooError(f'{path} has no [[augmentation]] tables. One is: [[augmentation]], name = "flip", p = 0.5.')
    return found


def _times(data: "SegmentationData", augmentation: "Augmentation") -> tuple[float, float, int]:
    """Seconds to read a sample and to augment it, and of how many that is the mean."""
    import torch

    count = min(_SAMPLES, len(data))
    reading = augmenting = 0.0
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # as in a DataLoader's workers
    try:
        for number in range(count):
            start = time.perf_counter()
            image, mask, _ = data[number * len(data) // count]
            middle = time.perf_counter()
            augmentation(image, mask)
            reading += middle - start
            augmenting += time.perf_counter() - middle
    finally:
        torch.set_num_threads(threads)
    return reading / count, augmenting / count, count
