"""Which images an input means, and what they are called in the results."""

import numpy as np
import pytest
import tifffile

from ddpm_lightning.inference.restore_file import restore_file
from ddpm_lightning.inference.restorer import Restorer
from ddpm_lightning.inference.result_files import FileSettings, check_names, results_of
from ddpm_lightning.inference.sources import find_files
from ddpm_lightning.io.tiff import read_info
from ddpm_lightning.utils.errors import UserError
from tests.trained import write_checkpoint


@pytest.fixture
def experiment(tmp_path):
    """Three positions with files of equal names, the last one further down."""
    for place in ("Pos0", "Pos1", "day2/Pos2"):
        (tmp_path / "experiment" / place).mkdir(parents=True)
        (tmp_path / "experiment" / place / "img.tif").touch()
    return tmp_path / "experiment"


def names(*source):
    return [found.name for found in find_files(list(source) if len(source) > 1 else source[0]).sources]


def test_a_folder_means_its_images(tmp_path):
    for name in ("b.TIF", "a.tiff", "note.txt", ".hidden.tif"):
        (tmp_path / name).touch()
    assert names(tmp_path) == ["a.tiff", "b.TIF"]
    assert names(str(tmp_path / "b*"), tmp_path) == ["b.TIF", "a.tiff"]
    assert [found.path for found in find_files(tmp_path).sources] == [tmp_path / "a.tiff", tmp_path / "b.TIF"]


@pytest.mark.parametrize(
    ("given", "message"), [("nowhere", "no such file"), ("*.png", "matches no"), ("", "no TIFF files")]
)
def test_inputs_without_images_are_refused(tmp_path, given, message):
    with pytest.raises(UserError, match=message):
        find_files(tmp_path / given)


def test_an_empty_list_is_refused():
    with pytest.raises(UserError, match="empty list"):
        find_files([])


def test_names_are_paths_below_the_folder_that_was_given(experiment):
    assert names(experiment) == ["Pos0/img.tif", "Pos1/img.tif", "day2/Pos2/img.tif"]
    assert names(experiment / "Pos0", experiment / "Pos1") == ["Pos0/img.tif", "Pos1/img.tif"]
    assert names(experiment / "Pos1/img.tif", experiment / "Pos0/img.tif") == ["Pos1/img.tif", "Pos0/img.tif"]
    assert names(str(experiment / "Pos*/*.tif")) == ["Pos0/img.tif", "Pos1/img.tif"]
    assert names(str(experiment / "*0" / "img.tif")) == ["Pos0/img.tif"]
    assert names(str(experiment / "**/*.tif")) == ["Pos0/img.tif", "Pos1/img.tif", "day2/Pos2/img.tif"]
    assert names(experiment / "Pos0") == names(experiment / "Pos0/*.tif") == ["img.tif"]
    assert names(experiment / "Pos0", experiment / "day2") == ["Pos0/img.tif", "day2/Pos2/img.tif"]


def test_the_same_file_twice_is_one(experiment):
    again = experiment / "day2" / ".." / "Pos0" / "img.tif"
    assert names(experiment / "Pos0" / "img.tif", again) == ["img.tif"]


def test_links_in_circles_and_results_are_not_searched(experiment):
    (experiment / "Pos0" / "up").symlink_to(experiment)
    (experiment / "restored").mkdir()
    (experiment / "restored" / "restore.json").touch()
    (experiment / "restored" / "img.tif").touch()
    assert names(experiment) == ["Pos0/img.tif", "Pos1/img.tif", "day2/Pos2/img.tif"]


def test_results_do_not_meet_their_sources(experiment):
    def checked(given, output):
        check_names(
            {one: results_of(one, FileSettings(samples=15)) for one in find_files(given).sources}, output
        )

    checked(experiment, experiment / "restored")
    checked(experiment / "Pos0", experiment / "Pos1")
    for given, output in ((experiment, experiment), (experiment / "Pos*/*.tif", experiment)):
        with pytest.raises(UserError, match="is the folder of the input"):
            checked(given, output)


def test_what_is_not_read_is_counted(experiment, tmp_path):
    for name in ("a.png", "b.PNG", "c.jpg", "d.czi", "notes.txt", ".DS_Store", ".e.png"):
        (experiment / "Pos0" / name).touch()
    found = find_files(experiment / "Pos0")
    counts = {note.text.split()[1]: note.count for note in found.notes}
    assert counts == {".png": 2, ".jpg": 1, ".czi": 1} and {note.kind for note in found.notes} == {
        "left_aside"
    }
    assert not find_files(experiment / "Pos1").notes and not find_files(experiment / "Pos0/img.tif").notes
    assert sum(note.count for note in find_files(experiment / "*/*").notes) == 4
    (experiment / "img.tif").touch()
    (experiment / "empty").mkdir()
    found = find_files(experiment)
    assert [one.name for one in found.sources] == ["img.tif"]
    assert [note.count for note in found.notes] == [3] and "folders" in found.notes[0].text
    (tmp_path / "pictures").mkdir()
    (tmp_path / "pictures" / "a.png").touch()
    with pytest.raises(UserError, match=r"but \.png[\s\S]*save the images as TIFF"):
        find_files(tmp_path / "pictures")


def test_equal_names_in_two_folders_have_noise_of_their_own(experiment, tmp_path):
    image = np.random.default_rng(0).poisson(30, (32, 32)).astype(np.uint16)
    for place in ("Pos0", "Pos1"):
        tifffile.imwrite(experiment / place / "img.tif", image)
    restorer = Restorer.load(write_checkpoint(tmp_path / "best.ckpt"), "cpu")
    records = [
        restore_file(restorer, source, tmp_path / "out", FileSettings(samples=2))
        for source in find_files(experiment / "Pos*/*.tif").sources
    ]
    assert [record["file"] for record in records] == ["Pos0/img.tif", "Pos1/img.tif"]
    maps = [tifffile.imread(tmp_path / "out" / place / "img_std.tif") for place in ("Pos0", "Pos1")]
    np.testing.assert_array_equal(maps[0], restorer.restore(image, 2, "Pos0/img").std)
    assert not np.array_equal(*maps)
    restore_file(restorer, experiment / "Pos0/img.tif", tmp_path / "alone", FileSettings(samples=2))
    alone = tifffile.imread(tmp_path / "alone" / "img_std.tif")
    np.testing.assert_array_equal(alone, restorer.restore(image, 2, "img").std)


def test_a_pattern_of_folders_means_the_images_in_them(experiment):
    (experiment / "Pos1" / "view.png").touch()
    assert names(str(experiment / "Pos*")) == ["Pos0/img.tif", "Pos1/img.tif"]
    assert [note.count for note in find_files(experiment / "Pos*").notes] == [1]
    assert names(str(experiment / "*")) == names(experiment)


def test_earlier_results_are_no_input(experiment):
    output = experiment / "restored"
    (output / "Pos0").mkdir(parents=True)
    for name in ("Pos0/img.tif", "restore.json", "view.png"):
        (output / name).touch()
    found = find_files(f"{experiment}/**/*", output)
    assert [source.name for source in found.sources] == ["Pos0/img.tif", "Pos1/img.tif", "day2/Pos2/img.tif"]
    assert not found.notes
    with pytest.raises(UserError, match="is the folder of the input"):
        check_names({one: [one.name] for one in find_files(output / "Pos0", output).sources}, output / "Pos0")


def test_example_is_the_image_that_ships_with_the_package(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert names("example") == ["example.ome.tif"]
    (source,) = find_files("example").sources
    info = read_info(source.path)
    assert info.shape == (256, 256) and info.pixel_size == pytest.approx((0.2, 0.2))
    assert source.path.stat().st_size <= 200_000


def test_a_folder_called_example_takes_precedence(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "example").mkdir()
    (tmp_path / "example" / "mine.tif").touch()
    assert names("example") == ["mine.tif"]
