"""Plates, containers of several images, ZIP files, and paths that lead into them."""

import shutil
import zipfile

import numpy as np
import pytest

from ddpm_lightning.inference.restore_file import restore_file
from ddpm_lightning.inference.restorer import Restorer
from ddpm_lightning.inference.result_files import FileSettings, check_names
from ddpm_lightning.inference.sources import find_files
from ddpm_lightning.io.stacks import images_in, open_stack
from ddpm_lightning.io.zarr_paths import is_zarr, on_disk, store_of
from ddpm_lightning.io.zarr_stores import images_of
from ddpm_lightning.utils.errors import UserError
from tests.trained import write_checkpoint

zarr = pytest.importorskip("zarr", reason="needs the extra zarr: pip install 'ddpm-lightning[zarr]'")

LAYOUT = {"0.4": 2, "0.5": 3}


def pixels(seed):
    return np.random.default_rng(seed).poisson(30, (32, 40)).astype(np.uint16)


def put(group, attributes, version):
    group.attrs.update({"ome": {"version": version, **attributes}} if version == "0.5" else attributes)


def image(group, seed, version):
    """Fills a group with an image of two levels, and labels."""
    for number, array in enumerate((pixels(seed), pixels(seed)[::2, ::2])):
        group.create_array(str(number), data=array)
    axes = [{"name": name, "type": "space", "unit": "micrometer"} for name in "yx"]
    levels = [
        {"path": str(n), "coordinateTransformations": [{"type": "scale", "scale": [0.1 * 2**n] * 2}]}
        for n in range(2)
    ]
    put(group, {"multiscales": [{"axes": axes, "datasets": levels}]}, version)
    labels = group.create_group("labels/nuclei")
    labels.create_array("0", data=pixels(seed))
    put(labels, {"multiscales": [{"axes": axes, "datasets": levels[:1]}], "image-label": {}}, version)


def plate(path, version, told=True):
    root = zarr.open_group(str(path), mode="w", zarr_format=LAYOUT[version])
    wells = [{"path": name, "rowIndex": 0, "columnIndex": 0} for name in ("A/1", "A/2", "B/10")]
    put(root, {"plate": {"wells": [*wells, {"path": "C/1"}]}} if told else {}, version)
    for number, well in enumerate(wells):
        group = root.create_group(well["path"])
        put(group, {"well": {"images": [{"path": "0"}, {"path": "1"}]}} if told else {}, version)
        for field in range(2):
            image(group.create_group(str(field)), 2 * number + field, version)
    return path


def series(path, version):
    root = zarr.open_group(str(path), mode="w", zarr_format=LAYOUT[version])
    put(root, {"bioformats2raw.layout": 3}, version)
    put(root.create_group("OME"), {"series": ["0", "1", "10"]}, version)
    (path / "OME" / "METADATA.ome.xml").write_text("<OME/>")
    for number in (0, 1, 10):
        image(root.create_group(str(number)), number, version)
    return path


def zipped(folder, name, below=""):
    path = folder.parent / name
    with zipfile.ZipFile(path, "w") as file:
        for each in sorted(folder.rglob("*")):
            if each.is_file():
                file.write(each, f"{below}{each.relative_to(folder)}")
    shutil.rmtree(folder)
    return path


def single(path, version="0.4"):
    image(zarr.open_group(str(path), mode="w", zarr_format=LAYOUT[version]), 0, version)
    return path


@pytest.mark.parametrize("version", LAYOUT)
@pytest.mark.parametrize("told", [True, False])
def test_all_images_of_a_plate(tmp_path, version, told):
    path = plate(tmp_path / "plate.zarr", version, told)
    inner = [f"{well}/{field}" for well in ("A/1", "A/2", "B/10") for field in (0, 1)]
    assert [store_of(found)[1] for found in images_of(path)] == inner
    found = find_files(path).sources
    assert [source.name for source in found] == [f"plate_{name.replace('/', '_')}.zarr" for name in inner]
    assert [source.within for source in found] == [f"plate.zarr/{name}" for name in inner]
    for number, source in enumerate(found):
        with open_stack(source.path) as stack:
            assert np.array_equal(stack.plane(0), pixels(number)) and stack.info.pixel_size == (0.1, 0.1)
    assert [source.name for source in find_files(path / "A/2").sources] == [
        "plate_A_2_0.zarr",
        "plate_A_2_1.zarr",
    ]
    assert find_files(path / "B/10/1").sources == found[-1:]
    assert find_files(f"{path}/*/*/0").sources == found[::2]
    assert find_files(tmp_path).sources == find_files(f"{tmp_path}/**/*").sources == found


@pytest.mark.parametrize("version", LAYOUT)
def test_all_images_of_a_container(tmp_path, version):
    path = series(tmp_path / "scan.ome.zarr", version)
    found = find_files(path).sources
    assert [source.name for source in found] == [f"scan_{number}.ome.zarr" for number in (0, 1, 10)]
    with open_stack(found[2].path) as stack:
        assert np.array_equal(stack.plane(0), pixels(10))
        told = {note.text: (note.kind, note.count) for note in stack.notes}
    assert set(told.values()) == {("left_aside", 1)} and len(told) == 2  # levels are written, too
    assert all(any(word in text for text in told) for word in ("label", "OME-XML"))


def test_a_level_that_is_named_has_its_own_sampling(tmp_path):
    with open_stack(single(tmp_path / "a.zarr") / "1") as stack:
        assert stack.info.pixel_size == (0.2, 0.2) and np.array_equal(stack.plane(0), pixels(0)[::2, ::2])


def test_the_largest_level_is_read_at_any_position(tmp_path):
    group = zarr.open_group(str(single(tmp_path / "a.zarr")), mode="a")
    multiscale = group.attrs["multiscales"][0]
    group.attrs["multiscales"] = [{**multiscale, "datasets": multiscale["datasets"][::-1]}]
    with open_stack(tmp_path / "a.zarr") as stack:
        assert stack.info.shape == (32, 40) and stack.info.pixel_size == (0.1, 0.1)


def test_other_groups_in_an_image_are_reported(tmp_path):
    group = zarr.open_group(str(single(tmp_path / "a.zarr")), mode="a")
    group.create_group("tables/regions")
    with open_stack(tmp_path / "a.zarr") as stack:
        assert [note.count for note in stack.notes if "tables" in note.text] == [1]


@pytest.mark.parametrize("version", LAYOUT)
@pytest.mark.parametrize("name", ["a.zarr.zip", "a.ome.zarr.zip", "a.zip", "a.ozx", "A.ZARR.ZIP"])
@pytest.mark.parametrize("below", ["", "NAME.zarr/"])
def test_zip_files(tmp_path, version, name, below):
    below = below.replace("NAME", name[0])
    path = zipped(single(tmp_path / "x", version), name, below)
    assert is_zarr(path)
    (source,) = find_files(tmp_path).sources
    assert source.name.lower() in ("a.zarr", "a.ome.zarr") and source.file == path
    with open_stack(source.path) as stack:
        assert np.array_equal(stack.plane(0), pixels(0)) and stack.info.pixel_size == (0.1, 0.1)
    with open_stack(path) as stack:
        assert len(stack) == 1
    assert on_disk(path / f"{below}1") == path
    with open_stack(path / f"{below}1") as stack:
        assert stack.info.shape == (16, 20) and stack.info.pixel_size == (0.2, 0.2)


def test_a_plate_in_a_zip(tmp_path):
    path = zipped(plate(tmp_path / "x", "0.4"), "plate.zarr.zip")
    found = find_files(path).sources
    assert len(found) == 6 and found[3].name == "plate_A_2_1.zarr"
    assert [source.path for source in find_files(f"{path}/A/2/1").sources] == [path / "A/2/1"]
    with open_stack(path / "A/2/1") as stack:
        assert np.array_equal(stack.plane(0), pixels(3))
    with pytest.raises(UserError, match="6 images"):
        open_stack(path)


def test_results_of_a_plate(tmp_path):
    restorer = Restorer.load(write_checkpoint(tmp_path / "best.ckpt"), "cpu")
    (source,) = find_files(plate(tmp_path / "plate.zarr", "0.5") / "A/1/1").sources
    record = restore_file(restorer, source, tmp_path / "out", FileSettings(samples=2))
    assert (record["file"], record["image"]) == ("plate_A_1_1.zarr", "plate.zarr/A/1/1")
    assert sorted(p.name for p in (tmp_path / "out").iterdir()) == [
        "plate_A_1_1.zarr",
        "plate_A_1_1_std.zarr",
    ]
    attributes = dict(zarr.open_group(str(tmp_path / "out/plate_A_1_1.zarr"), mode="r").attrs)["ome"]
    assert attributes["multiscales"][0]["datasets"] == [
        {"path": "0", "coordinateTransformations": [{"type": "scale", "scale": [0.1, 0.1]}]}
    ]
    expected = restorer.restore(pixels(1), 2, "plate_A_1_1")
    spread = zarr.open_array(str(tmp_path / "out/plate_A_1_1_std.zarr/0"), mode="r")
    np.testing.assert_array_equal(spread[:], expected.std)


def test_remedies_in_messages_work(tmp_path):
    group = zarr.open_group(str(tmp_path / "arrays.zarr"), mode="w")
    group.create_array("counts", data=pixels(0))
    with pytest.raises(UserError) as caught:
        open_stack(tmp_path / "arrays.zarr")
    named = caught.value.remedy.rpartition(" ")[2]
    assert named == str(tmp_path / "arrays.zarr" / "counts")
    with open_stack(find_files(named).sources[0].path) as stack:
        assert np.array_equal(stack.plane(0), pixels(0))
    with pytest.raises(UserError) as caught:
        find_files(plate(tmp_path / "plate.zarr", "0.4") / "Z/9")
    assert len(find_files(caught.value.allowed.split(", ")[0]).sources) == 1


def bomb(path):
    with zipfile.ZipFile(path, "a", zipfile.ZIP_DEFLATED) as file:
        file.writestr("1/0", bytes(2**27))


def outside(path):
    with zipfile.ZipFile(path, "a") as file:
        file.writestr("../evil", b"")


def absolute(path):
    with zipfile.ZipFile(path, "a") as file:
        file.writestr("/etc/evil", b"")


def large_description(path):
    with zipfile.ZipFile(path, "a", zipfile.ZIP_DEFLATED) as file:
        file.writestr("x/.zattrs", bytes(2**26 + 1))


def cut(path):
    path.write_bytes(path.read_bytes()[:-100])


@pytest.mark.parametrize(
    ("spoil", "word"),
    [
        (bomb, "unpack to"),
        (outside, "leads out"),
        (absolute, "leads out"),
        (large_description, "metadata"),
        (cut, "ZIP"),
    ],
)
def test_zip_files_that_would_do_harm_are_refused(tmp_path, spoil, word):
    path = zipped(single(tmp_path / "x"), "a.zarr.zip")
    spoil(path)
    assert images_in(path) == [path]  # the error comes when it is opened
    with pytest.raises(UserError, match=word):
        open_stack(path)


def test_other_zip_files_and_folders_are_no_images(tmp_path):
    with zipfile.ZipFile(tmp_path / "papers.zip", "w") as file:
        file.writestr("a.txt", "text")
    (tmp_path / "broken.zip").write_bytes(b"PK\x03\x04")
    (tmp_path / "plain").mkdir()
    assert not any(map(is_zarr, tmp_path.iterdir()))


def test_groups_without_suffix_are_images(tmp_path):
    single(tmp_path / "in" / "exported")
    (source,) = find_files(tmp_path / "in").sources
    assert source.name == "exported.zarr" and find_files(tmp_path / "in" / "exported").sources == [source]


def test_chunks_that_are_not_stored_are_reported(tmp_path):
    group = zarr.open_group(str(tmp_path / "a.zarr"), mode="w", zarr_format=2)
    group.create_array("0", data=pixels(0), chunks=(16, 20))
    with open_stack(tmp_path / "a.zarr" / "0") as stack:
        assert not stack.notes
    (tmp_path / "a.zarr" / "0" / "1.1").unlink()
    with open_stack(tmp_path / "a.zarr" / "0") as stack:
        assert [(note.kind, note.count) for note in stack.notes] == [("guessed", 1)]
        assert not stack.plane(0)[16:, 20:].any()


@pytest.mark.timeout(60)  # without counting all of them
@pytest.mark.parametrize("version", list(LAYOUT))
@pytest.mark.parametrize("shape", [(10**9, 32, 40), (10**4, 10**4, 32, 40), (10**8, 10**8)])
def test_an_array_that_promises_more_than_any_store_holds(tmp_path, version, shape):
    group = zarr.open_group(str(tmp_path / "a.zarr"), mode="w", zarr_format=LAYOUT[version])
    group.create_array("0", shape=shape, chunks=(*(1,) * (len(shape) - 2), 32, 40), dtype="uint16")
    put(group, {"multiscales": [{"datasets": [{"path": "0"}]}]}, version)
    for path in (tmp_path / "a.zarr", tmp_path / "a.zarr" / "0"):
        with pytest.raises(UserError, match="planes in"):
            open_stack(path)


def test_results_are_not_written_into_or_beside_their_store(tmp_path):
    path = plate(tmp_path / "plate.zarr", "0.4")
    archive = zipped(single(tmp_path / "x"), "a.zarr.zip", "a.zarr/")
    for given, output in (
        (path, tmp_path),
        (path, path / "out"),
        (path / "A/1/0", path),
        (archive, tmp_path),
    ):
        results = {source: [source.name] for source in find_files(given).sources}
        check_names(results, tmp_path / "out")
        with pytest.raises(UserError, match="folder of the input"):
            check_names(results, output)


@pytest.mark.parametrize(
    "attributes",
    [
        {"multiscales": "image"},
        {"multiscales": [{}]},
        {"multiscales": [{"datasets": []}]},
        {"multiscales": [{"datasets": [{"path": "9"}]}]},
        {"multiscales": [{"datasets": [{"path": "0"}], "axes": [1, 2]}]},
        {"multiscales": [{"datasets": [{"path": "0", "coordinateTransformations": 5}]}]},
        {"plate": {"wells": 3}},
        {"omero": 5, "multiscales": [{"datasets": [{"path": "0"}]}]},
        {"multiscales": [{"datasets": [{"path": "labels"}]}]},
    ],
)
def test_malformed_metadata_is_one_sentence(tmp_path, attributes):
    path = single(tmp_path / "a.zarr")
    group = zarr.open_group(str(path), mode="a")
    group.attrs.clear()
    group.attrs.update(attributes)
    assert images_in(path) == [path]
    with pytest.raises(UserError, match=r"a\.zarr"):
        open_stack(path)


def test_metadata_with_nulls_is_read(tmp_path):
    group = zarr.open_group(str(single(tmp_path / "a.zarr")), mode="a")
    multiscale = dict(group.attrs["multiscales"][0], coordinateTransformations=None)
    group.attrs.update({"multiscales": [multiscale], "omero": {"channels": [{"label": None}]}})
    with open_stack(tmp_path / "a.zarr") as stack:
        assert stack.info.pixel_size == (0.1, 0.1) and stack.info.channel_names == ()
