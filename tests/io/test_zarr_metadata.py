"""Sampling and attributes of OME-Zarr: what is read, and what stands in the result."""

import numpy as np
import pytest

from ddpm_lightning.io.stacks import open_stack, open_writer
from ddpm_lightning.io.units import MICROMETRES, SECONDS

zarr = pytest.importorskip("zarr", reason="needs the extra zarr: pip install 'ddpm-lightning[zarr]'")

IMAGE = np.random.default_rng(0).poisson(30, (2, 3, 16, 20)).astype(np.uint16)
MICRONS = {"z": "micrometer", "y": "micrometer", "x": "micrometer"}


def step(numbers, kind="scale"):
    return {"type": kind, kind: numbers}


def write(path, level=(), above=None, units=MICRONS, version="0.4", axes="czyx", image=IMAGE, **more):
    """Writes an image with the transformations of its level and of all levels, and further attributes."""
    types = {"c": "channel", "t": "time"}
    named = [
        {"name": axis, "type": types.get(axis, "space")} | ({"unit": units[axis]} if axis in units else {})
        for axis in axes
    ]
    multiscale = {"axes": named, "datasets": [{"path": "a", "coordinateTransformations": list(level)}]}
    multiscale |= {} if above is None else {"coordinateTransformations": above}
    newer = version == "0.5"
    group = zarr.open_group(str(path), mode="w", zarr_format=3 if newer else 2)
    group.create_array("a", data=image, attributes=more.pop("array", {}))
    ome = {"multiscales": [multiscale | more.pop("multiscale", {})], **more.pop("ome", {})}
    group.attrs.update({**more, **({"ome": {"version": version, **ome}} if newer else ome)})
    return path


def copied(path, channels=None, dtype=None):
    """Copies an image plane by plane; returns the description of the source, its notes, and the result."""
    target = path.parent / "out" / path.name
    with open_stack(path, channels) as stack:
        with open_writer(target, stack.info, dtype) as writer:
            for plane in stack:
                writer.write(plane.astype(dtype or plane.dtype))
        info, notes = stack.info, list(stack.notes)
    return info, notes, zarr.open(str(target), mode="r")


def told(group):
    """Returns axes and transformations of a result."""
    attributes = dict(group.attrs)
    multiscale = attributes.get("ome", attributes)["multiscales"][0]
    steps = multiscale["datasets"][0]["coordinateTransformations"] + multiscale.get(
        "coordinateTransformations", []
    )
    return multiscale["axes"], {each["type"]: each[each["type"]] for each in steps}, len(steps)


@pytest.mark.parametrize("version", ["0.4", "0.5"])
def test_scales_of_both_levels_are_multiplied_and_translations_follow(tmp_path, version):
    level = [step([1, 2, 0.5, 0.25]), step([0, 10, 20, 30], "translation")]
    above = [step([1, 1, 0.5, 2]), step([0, 1, 2, 3], "translation")]
    source = write(tmp_path / "a.zarr", level, above, version=version)
    info, notes, result = copied(source)
    assert (info.z_step, info.pixel_size) == (2, (0.25, 0.5)) and not notes
    # A point at voxel p of the level lies at 2 * (0.25 p + 30) + 3 along x, and so on.
    _, steps, count = told(result)
    assert steps == {"scale": [1, 2, 0.25, 0.5], "translation": [0, 11, 12, 63]} and count == 2
    info, _, result = copied(source, channels=[1])
    assert info.axes == "ZYX" and told(result)[1] == {"scale": [2, 0.25, 0.5], "translation": [11, 12, 63]}


def test_a_scale_for_all_levels_alone(tmp_path):
    info, notes, result = copied(write(tmp_path / "a.zarr", above=[step([1, 0.5, 0.1625, 0.1625])]))
    assert info.pixel_size == (0.1625, 0.1625) and info.z_step == 0.5 and not notes
    assert told(result)[1] == {"scale": [1, 0.5, 0.1625, 0.1625]}


@pytest.mark.parametrize(
    ("unit", "micrometres"),
    [
        ("\u00b5m", 1), ("\u03bcm", 1), ("um", 1), ("micron", 1), ("micrometre", 1), ("Micrometer", 1), ("nm", 1e-3),
        ("nanometer", 1e-3), ("mm", 1e3), ("\u00c5", 1e-4), ("angstrom", 1e-4), ("meter", 1e6), ("picometer", 1e-6),
    ],
)  # fmt: skip
def test_units_of_many_spellings(tmp_path, unit, micrometres):
    units = dict.fromkeys("zyx", unit)
    info, notes, result = copied(write(tmp_path / "a.zarr", [step([1, 3, 0.5, 0.25])], units=units))
    assert info.pixel_size == pytest.approx((0.5 * micrometres, 0.25 * micrometres)) and not notes
    assert info.z_step == pytest.approx(3 * micrometres)
    axes, steps, _ = told(result)
    assert [axis.get("unit") for axis in axes] == [None, unit, unit, unit]
    assert steps["scale"] == [1, 3, 0.5, 0.25]


def test_a_scale_without_a_unit_is_guessed_and_stays_without(tmp_path):
    info, notes, result = copied(write(tmp_path / "a.zarr", [step([1, 0.5, 0.2, 0.1])], units={}))
    assert info.pixel_size == (0.2, 0.1) and info.z_step == 0.5
    assert [note.kind for note in notes] == ["guessed"] and "0.2 x 0.1" in notes[0].text
    axes, steps, _ = told(result)
    assert steps["scale"] == [1, 0.5, 0.2, 0.1] and not any("unit" in axis for axis in axes)


@pytest.mark.parametrize(
    ("scale", "units", "noted"),
    [
        ([1, 3, 1, 1], {}, False),
        ([1, 3, 0.5, 0.5], dict.fromkeys("zyx", "pixel"), False),
        ([1, 3, 0.5, 0.5], dict.fromkeys("yx", "furlong"), True),
        ([1, 0, 0, -1], MICRONS, False),
    ],
    ids=["ones", "pixels", "unknown", "not positive"],
)
def test_what_is_no_length_is_no_pixel_size_and_is_kept(tmp_path, scale, units, noted):
    info, notes, result = copied(write(tmp_path / "a.zarr", [step(scale)], units=units))
    assert info.pixel_size is None and told(result)[1]["scale"] == scale
    assert [axis.get("unit") for axis in told(result)[0]] == [units.get(axis) for axis in "czyx"]
    assert [note.kind for note in notes] == ["left_aside"] * 2 * noted


@pytest.mark.parametrize(
    ("unit", "seconds"), [("second", 1), ("ms", 1e-3), ("min", 60), ("millisecond", 1e-3)]
)
def test_units_of_time(tmp_path, unit, seconds):
    units = {**MICRONS, "t": unit}
    info, _, result = copied(write(tmp_path / "a.zarr", [step([4, 1, 1, 1])], units=units, axes="tzyx"))
    assert info.time_step == pytest.approx(4 * seconds)
    assert told(result)[0][0]["unit"] == unit and told(result)[1]["scale"] == [4, 1, 1, 1]


def test_no_scale_at_all(tmp_path):
    info, notes, result = copied(write(tmp_path / "a.zarr"))
    assert info.pixel_size is None and not notes and told(result)[1] == {"scale": [1, 1, 1, 1]}
    with open_stack(tmp_path / "out" / "a.zarr") as stack:
        assert stack.info == info


@pytest.mark.parametrize(
    "bad", [{"type": "rotation", "rotation": [0, 1]}, step([1, 1]), step("a"), {"type": "scale", "path": "b"}]
)
def test_other_transformations_are_noted(tmp_path, bad):
    info, notes, result = copied(write(tmp_path / "a.zarr", [step([1, 1, 0.5, 0.5]), bad]))
    assert info.pixel_size == (0.5, 0.5) and [note.kind for note in notes] == ["left_aside"]
    assert told(result)[1] == {"scale": [1, 1, 0.5, 0.5]}


@pytest.mark.parametrize("version", ["0.4", "0.5"])
def test_attributes_of_others_are_kept(tmp_path, version):
    channels = [
        {"label": name, "color": "00FF00", "window": {"start": 0, "end": 9}} for name in ("488", "561")
    ]
    source = write(
        tmp_path / "a.zarr",
        version=version,
        ome={"omero": {"channels": channels, "rdefs": {"model": "color"}}},
        multiscale={"name": "cells", "note": [1, 2]},
        array={"bits": 12, "_ARRAY_DIMENSIONS": ["c", "z", "y", "x"]},
        acquisition={"laser": 0.5},
        labels=["nuclei"],
    )
    info, _, result = copied(source, channels=["561"])
    attributes = dict(result.attrs)
    ome = attributes.get("ome", attributes)
    assert attributes["acquisition"] == {"laser": 0.5} and "labels" not in attributes
    assert ome["omero"] == {"channels": channels[1:], "rdefs": {"model": "color"}}
    assert ome["multiscales"][0]["name"] == "cells" and ome["multiscales"][0]["note"] == [1, 2]
    assert dict(result["0"].attrs) == {"bits": 12, "_ARRAY_DIMENSIONS": ["z", "y", "x"]}
    if version == "0.5":
        assert result["0"].metadata.dimension_names == ("z", "y", "x")
    # The display range is that of the source's grey values, not of a standard deviation.
    _, _, spread = copied(source, dtype=np.float32)
    assert all(
        "window" not in each
        for each in dict(spread.attrs).get("ome", dict(spread.attrs))["omero"]["channels"]
    )


def test_channels_that_do_not_fit_are_noted(tmp_path):
    omero = {"channels": [{"label": "one"}, {"label": "two"}, {"label": "three"}]}
    info, notes, result = copied(write(tmp_path / "a.zarr", ome={"omero": omero}))
    assert info.channel_names == () and [note.kind for note in notes] == ["left_aside"]
    assert not dict(result.attrs)["omero"].get("channels")


def test_axes_go_by_type_and_name_and_are_guessed_where_there_are_none(tmp_path):
    named = [("frame", "time"), ("wavelength", "channel"), ("y", "space"), ("x", "space")]
    axes = [{"name": name, "type": kind} for name, kind in named]
    info, notes, result = copied(write(tmp_path / "a.zarr", multiscale={"axes": axes}))
    assert info.axes == "TCYX" and not notes and told(result)[0] == axes
    info, notes, _ = copied(write(tmp_path / "b.zarr", multiscale={"axes": list("tzyx"), "version": "0.3"}))
    assert info.axes == "TZYX" and not notes
    group = zarr.open_group(str(tmp_path / "c.zarr"), mode="w", zarr_format=3)
    group.create_array("a", data=IMAGE, dimension_names=["t", "z", "y", "x"])
    group.create_array("b", data=IMAGE)
    with open_stack(tmp_path / "c.zarr" / "a") as stack:
        assert stack.info.axes == "TZYX" and not stack.notes
    with open_stack(tmp_path / "c.zarr" / "b") as stack:
        assert stack.info.axes == "CZYX" and [note.kind for note in stack.notes] == ["guessed"]


def test_tables_of_units_agree_with_the_definitions():
    assert (MICROMETRES["inch"], MICROMETRES["cm"], MICROMETRES["nanometers"]) == (25400, 1e4, 1e-3)
    assert MICROMETRES["\u00b5m"] == MICROMETRES["\u03bcm"] == MICROMETRES["microns"] == 1
    assert (SECONDS["hours"], SECONDS["day"], SECONDS["microsecond"]) == (3600, 86400, 1e-6)
