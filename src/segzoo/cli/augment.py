"""`segzoo augment`: a contact sheet of augmented images, and the time that augmentation takes."""

import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from segzoo._text import load_toml, read_text
from segzoo.cli import console, types, validators
from segzoo.cli.evaluate import Exclude, Select
from segzoo.errors import OptionError, SegzooError

if TYPE_CHECKING:
    from segzoo.data.augment import Augmentation
    from segzoo.data.dataset import SegmentationData

_SAMPLES = 32
"""Times are means over this many samples, or over all if there are fewer."""


def augment(
    root: Annotated[Path, typer.Argument(metavar="DATA", help="The folder of the data set.", show_default=False)],
    data: Annotated[
        str, typer.Option(metavar=types.DATA_SETS, help="The data set's name; folder is your own data.")
    ] = "folder",
    split: Annotated[
        str | None, typer.Option(help="The split, such as train or val.", show_default="the training split")
    ] = None,
    select: Select = None,
    exclude: Exclude = None,
    recipe: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE.toml",
            help="A TOML file with an array of tables named augmentation, each with a step's name and options.",
            show_default="flip, crop, color_jitter, blur, noise",
        ),
    ] = None,
    size: Annotated[
        str | None,
        typer.Option(
            metavar="H,W", help="Crop size of the default recipe, in pixels.", show_default="size of the first image"
        ),
    ] = None,
    preview: Annotated[
        Path, typer.Option(metavar="FILE", help="The contact sheet to write, .png or .jpg; replaced if it exists.")
    ] = Path("augmented.png"),
    rows: Annotated[int, typer.Option(min=1, max=100, help="Number of images.")] = 4,
    columns: Annotated[int, typer.Option(min=2, max=100, help="Pictures per image, the original included.")] = 4,
    seed: Annotated[int, typer.Option(min=0, help="Random seed of the augmentation.")] = 0,
) -> None:
    """Preview the augmentation of a data set, and measure how long it takes.

    Writes a contact sheet with one row per image: the original, then augmented versions, all with their masks overlaid.
    Pixels without color are ignored in training.

    Examples:

      segzoo augment mydata --preview sheet.png
      segzoo augment data/camvid --data camvid --exclude '0001TP*' --size 256,256
      segzoo augment data/camvid --data camvid --recipe recipe.toml
    """
    if preview.suffix.lower() not in (".png", ".jpg", ".jpeg"):
        raise OptionError(f"--preview takes a .png or .jpg file, not {preview}.")
    if recipe is not None and size is not None:
        raise OptionError("--size applies to the default recipe only. Set the crop size in the --recipe file.")
    if not preview.parent.is_dir():
        raise OptionError(f"There is no folder {preview.parent} to write {preview.name} into. Create it first.")
    validators.check_data(root, data)
    window = types.parse_size(size, "--size")
    steps = None if recipe is None else read_recipe(recipe)
    with console.Steps() as step:
        step("loading torch")
        from segzoo._io import atomic_write
        from segzoo.data.augment import Augmentation, default_recipe
        from segzoo.data.datasets import open_data
        from segzoo.data.preview import contact_sheet

        dataset = open_data(data, root, split, select=select or (), exclude=exclude or ())
        if steps is None:
            height, width = (window, window) if isinstance(window, int) else window or dataset.mask(0).shape
            steps = default_recipe(height, width)
        augmentation = Augmentation(steps, dataset.ignore_index)
        step("drawing")
        sheet = contact_sheet(dataset, augmentation, rows=rows, columns=columns, seed=seed)
        with atomic_write(preview) as draft:
            sheet.save(draft, quality=92)  # JPEG only; PNG ignores it
        step("measuring")
        reading, augmenting, samples = _times(dataset, augmentation)
    console.key_values(
        [
            ("data", f"{dataset.title}, {len(dataset)} images, {len(dataset.classes)} classes"),
            ("steps", ", ".join(entry["name"] for entry in augmentation.recipe) or "none"),
            ("reading", f"{1000 * reading:.1f} ms per image, mean of {samples}"),
            ("augmenting", f"{1000 * augmenting:.1f} ms per image, on one CPU thread"),
            ("wrote", str(preview)),
        ]
    )


def read_recipe(path: Path) -> list[dict[str, Any]]:
    """The [[augmentation]] tables of a TOML file; everything else in it is ignored.

    Raises:
        SegzooError: the file is not valid TOML, or has no such tables.
    """
    try:
        steps = load_toml(read_text(path)).get("augmentation")
    except ValueError as error:
        raise SegzooError(f"{path} is not valid TOML: {error}.") from None
    if not isinstance(steps, list):
        raise SegzooError(
            f'{path} has no [[augmentation]] tables. Add one, such as: [[augmentation]], name = "flip", p = 0.5.'
        )
    return steps


def _times(data: "SegmentationData", augmentation: "Augmentation") -> tuple[float, float, int]:
    """Mean seconds to read a sample, mean seconds to augment it, and the number of samples."""
    import torch

    count = min(_SAMPLES, len(data))
    reading = augmenting = 0.0
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # as in the workers of a DataLoader
    try:
        for index in range(count):
            start = time.perf_counter()
            image, mask, _ = data[index * len(data) // count]
            middle = time.perf_counter()
            augmentation(image, mask)
            reading += middle - start
            augmenting += time.perf_counter() - middle
    finally:
        torch.set_num_threads(threads)
    return reading / count, augmenting / count, count
