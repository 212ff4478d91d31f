"""Readouts against drawn shapes: discs, lines, spots and regions with known counts, areas, lengths and intensities."""

import json

import numpy as np
import pytest

from ddpm_lightning.readouts.readout import BUILT_IN, find_readouts
from ddpm_lightning.utils.errors import UserError

ROWS, COLUMNS = np.indices((96, 96))


def measured(image, *given, **values):
    (readout,) = find_readouts(given)
    return readout(image, **values)


def discs(radius=8):
    centres = [(16, 16), (16, 60), (60, 30), (75, 75)]
    return 10.0 + 90 * np.any([np.hypot(ROWS - r, COLUMNS - c) <= radius for r, c in centres], axis=0)


@pytest.mark.parametrize("scale", [1.0, 1e-3])
def test_objects_are_counted_and_measured(scale):
    image = scale * discs()
    assert measured(image, "count") == {"objects": 4}
    found = measured(image, "area", pixel_size=0.5)
    assert found["area"] == pytest.approx(np.pi * 8**2, rel=0.05)
    assert found["object_area"] == found["area"] / 4


def test_a_level_in_units_of_the_image_takes_precedence_over_relative_thresholds():
    image = discs() + 40 * (COLUMNS > 48)  # with relative thresholds, the bright half would be an object
    assert measured(image, {"name": "count", "level": 75}) == {"objects": 4}
    assert measured(image, {"name": "count", "level": 75, "smallest": 400}) == {"objects": 0}


def test_thresholds_may_be_those_of_another_image():
    noise = np.random.default_rng(0).normal(10, 1, (96, 96))
    assert measured(noise, "puncta")["puncta"] > 20
    for name in ("count", "puncta", "filament_length"):
        assert not any(
            measured(noise, name, reference=discs(2)).get(key) for key in ("objects", "puncta", "length")
        )


def test_a_cross_of_filaments_has_their_length_and_one_branch_point():
    distance = np.minimum(
        np.maximum(np.abs(ROWS - 48), np.abs(COLUMNS - 48) - 35),
        np.maximum(np.abs(COLUMNS - 48), np.abs(ROWS - 48) - 35),
    )
    image = np.exp(-(distance.clip(0) ** 2) / 4.0)
    assert measured(image, "branch_points") == {"branch_points": 1}
    assert measured(image, "filament_length", pixel_size=0.1)["length"] == pytest.approx(14, rel=0.1)


def test_puncta_are_counted_with_the_distance_to_the_nearest():
    places = [(r, c) for r in range(12, 90, 24) for c in range(10, 90, 12)]
    image = 5 + sum(np.exp(-((ROWS - r) ** 2 + (COLUMNS - c) ** 2) / 3) for r, c in places)
    found = measured(image, "puncta", pixel_size=0.2)
    assert found == {"puncta": len(places), "nearest_distance": pytest.approx(2.4)}
    alone = measured(np.exp(-((ROWS - 40) ** 2 + (COLUMNS - 40) ** 2) / 3), "puncta")
    assert alone["puncta"] == 1 and np.isnan(alone["nearest_distance"])


def test_intensities_of_planes_and_regions():
    labels = (ROWS > 47) + 2 * (COLUMNS > 47)
    image = 7.0 * labels + 1
    assert measured(image, "profile") == {"intensity": pytest.approx(image.mean())}
    found = measured(image, {"name": "regions", "labels": labels})
    assert found == {"region_1": 8.0, "region_2": 15.0, "region_3": 22.0}
    with pytest.raises(UserError) as error:
        measured(image[1:], {"name": "regions", "labels": labels})
    assert "regions" in error.value.subject


def test_texture_tells_stripes_from_noise_whatever_gain_and_offset():
    stripes = (ROWS // 8 % 2).astype(float)
    noise = np.random.default_rng(0).random((96, 96))
    first, second = measured(stripes, "texture"), measured(noise, "texture")
    assert first["homogeneity"] > 0.9 > second["homogeneity"]
    assert abs(second["correlation"]) < 0.05 < 0.8 < first["correlation"]
    assert measured(3 * noise + 50, "texture") == pytest.approx(second, rel=0.02)


def test_a_constant_image_holds_nothing():
    for name in BUILT_IN.keys() - {"regions", "profile", "texture"}:
        assert not np.nan_to_num(list(measured(np.full((64, 64), 3.0), name).values())).any(), name


@pytest.mark.parametrize(
    ("given", "about"),
    [
        ("cuont", "readout=cuont"),
        ({"name": "count", "treshold": 1}, "readout.count.treshold"),
        ({"name": "puncta", "width": -1}, "readout.puncta.width"),
        ({"width": 1}, "readout"),
        ("regions", "readout.regions.labels"),
        ("mylab.nothing.there", "readout=mylab.nothing.there"),
        ("math.pi", "readout=math.pi"),
    ],
)
def test_a_wrong_name_or_setting_is_what_the_error_is_about(given, about):
    with pytest.raises(UserError) as error:
        find_readouts([given])
    assert error.value.subject == about


def test_any_function_can_be_named_and_its_code_is_part_of_the_key(tmp_path, monkeypatch):
    (tmp_path / "mylab.py").write_text(
        "def bright(image, pixel_size, *, above=3):\n    return {'n': (image > above).sum()}\n"
    )
    monkeypatch.chdir(tmp_path)
    (readout,) = find_readouts([{"name": "mylab.bright", "above": 5}])
    assert readout(np.arange(9.0).reshape(3, 3)) == {"n": 3}
    key = json.loads(readout.key)
    assert key["above"] == 5 and len(key["code"]) == 16
    with pytest.raises(UserError) as error:
        find_readouts(["numpy.linalg.det"])[0](np.ones((3, 3)))
    assert error.value.subject == "readout=numpy.linalg.det"


def test_the_key_has_all_settings_so_that_a_default_that_changes_ends_a_calibration():
    (plain,), (set_,), (other,) = (
        find_readouts([given])
        for given in ("puncta", {"name": "puncta", "width": 1.2}, {"name": "puncta", "width": 2})
    )
    assert plain.key == set_.key != other.key
    assert plain.quantity("puncta").whole and plain.quantity("nearest_distance").unit(False) == "px"
