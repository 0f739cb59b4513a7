"""`segzoo predict` on files with several pages, and on folders with images that it does not read."""

import numpy as np
import pytest
from PIL import Image

from segzoo.inference import Predictor

PAGES = [np.random.default_rng(seed).integers(0, 256, (30, 40 + seed, 3), np.uint8) for seed in range(3)]


@pytest.fixture
def scan(tmp_path):
    first, *more = map(Image.fromarray, PAGES)
    (tmp_path / "in").mkdir()
    first.save(tmp_path / "in" / "scan.tif", save_all=True, append_images=more)
    return tmp_path / "in" / "scan.tif"


def masks(folder):
    found = {}
    for path in sorted(folder.glob("*.png")):
        with Image.open(path) as mask:
            found[path.stem] = np.asarray(mask)
    return found


def run(segzoo_, *words):
    return segzoo_("predict", *words, "--device", "cpu")


def test_the_first_page_is_read_with_a_note(segzoo_, exported, scan, photos, tmp_path):
    done = run(segzoo_, exported[1], scan, photos, "-o", tmp_path / "out", "--overlay")
    assert done.exit_code == 0, done.stderr
    last = done.stderr.splitlines()[-1]  # a long path is shown without its middle
    assert last.startswith("Only one page was read of /")
    assert last.endswith(f"/{scan.name} (page 1 of 3). --page N selects another, --page all takes each.")
    predictor = Predictor(exported[1], "cpu")
    assert np.array_equal(masks(tmp_path / "out")["scan"], predictor.predict(PAGES[0]).mask)
    assert "Only one page" not in run(segzoo_, exported[1], photos, "-o", tmp_path / "single").stderr


def test_a_page_is_selected(segzoo_, exported, scan, tmp_path):
    done = run(segzoo_, exported[1], scan, "-o", tmp_path / "out", "--page", 2, "--overlay")
    assert done.exit_code == 0, done.stderr
    assert "Only one page" not in done.stderr
    expected = Predictor(exported[1], "cpu").predict(PAGES[1]).mask
    assert np.array_equal(masks(tmp_path / "out")["scan-p2"], expected)
    with Image.open(tmp_path / "out" / "scan-p2-overlay.jpg") as overlay:
        assert overlay.height >= 30 and overlay.width >= 41


def test_all_pages(segzoo_, exported, scan, photos, tmp_path):
    words = (exported[1], scan, photos, "-o", tmp_path / "out", "--page", "all")
    done = run(segzoo_, *words)
    assert done.exit_code == 0, done.stderr
    assert "Wrote 6 masks to" in done.stdout
    found = masks(tmp_path / "out")
    assert sorted(found) == ["one", "scan-p1", "scan-p2", "scan-p3", "two"]
    predictor = Predictor(exported[1], "cpu")
    for number, page in enumerate(PAGES, 1):
        assert np.array_equal(found[f"scan-p{number}"], predictor.predict(page).mask)
    (tmp_path / "out" / "scan-p2.png").unlink()
    again = run(segzoo_, *words, "--skip-existing")
    assert "Skipped 5 of 6 images" in again.stderr and "Wrote 1 mask to" in again.stdout
    assert (tmp_path / "out" / "scan-p2.png").exists()


def test_a_page_that_does_not_exist_is_a_failed_image(segzoo_, exported, scan, photos, tmp_path):
    done = run(segzoo_, exported[1], scan, photos / "one.jpg", "-o", tmp_path / "out", "--page", 3)
    assert done.exit_code == 1
    assert "has one page, so there is no page 3. Choose page 1." in done.stderr
    assert list(masks(tmp_path / "out")) == ["scan-p3"]


def test_the_mask_of_a_page_never_replaces_that_of_an_image(segzoo_, exported, scan, tmp_path):
    Image.fromarray(PAGES[0]).save(scan.with_name("scan-p2.jpg"))
    done = run(segzoo_, exported[1], scan.parent, "-o", tmp_path / "out", "--page", "all")
    assert done.exit_code == 1
    assert "would both be written to" in done.stderr and not (tmp_path / "out").exists()


@pytest.mark.parametrize("page", ["0", "-1", "two", "1.5", ""])
def test_an_invalid_page_is_wrong_usage(segzoo_, exported, scan, page):
    done = run(segzoo_, exported[1], scan, f"--page={page}")
    assert done.exit_code == 2
    assert "--page takes a number from 1 up, or all" in done.stderr


def test_images_that_are_not_read_are_named(segzoo_, exported, photos, tmp_path):
    for index in range(5):
        (photos / f"{index}.dng").touch()
    (photos / "notes.txt").touch()
    done = run(segzoo_, exported[1], photos, "-o", tmp_path / "out")
    assert done.exit_code == 0
    first = done.stderr.splitlines()[0]
    assert first == (
        f"{photos}/: Skipped 5 files in a format that segzoo does not read (camera raw): 0.dng, 1.dng, 2.dng and 2 "
        "more. Develop to JPEG, PNG or TIFF."
    )
    direct = run(segzoo_, exported[1], photos / "0.dng", photos / "one.jpg", "-o", tmp_path / "direct")
    assert direct.exit_code == 1
    assert "0.dng' is empty" in direct.stderr and list(masks(tmp_path / "direct")) == ["one"]


def test_the_demo_says_which_page_it_reads(segzoo_, scan, tmp_path, monkeypatch):
    monkeypatch.setattr("segzoo.cli.validators.check_folder", lambda folder: (_ for _ in ()).throw(KeyboardInterrupt))
    assert f"{scan} has 3 pages. The demo reads the first." in segzoo_("demo", scan).stderr
