"""Analyses of images against truths that are known without them: lines, discs, tubes, and counts done by hand."""

from itertools import permutations

import numpy as np
import pytest
from scipy import ndimage

from ddpm_lightning.readouts.filaments import length_of
from ddpm_lightning.readouts.puncta import blobs, spots
from experiments.downstream.filaments import FILAMENTS, find, judge_traced
from experiments.downstream.mitochondria import MITOCHONDRIA, branches, judge_areas
from experiments.downstream.mitochondria import find as segment
from experiments.downstream.nuclei import NUCLEI, judge_blobs
from experiments.downstream.puncta import PUNCTA, judge_spots
from experiments.downstream.readout import Agreement, Measure, Readout, agreement, fit, matched

SIDE = 128
ROWS, COLUMNS = np.indices((SIDE, SIDE))


def line_at(angle, length=80, centre=(64, 64)):
    """A straight line with shape (N, 2), its direction measured from the axis of rows."""
    along = np.linspace(-length / 2, length / 2, 5)[:, None]
    return np.array(centre) + along * np.array([np.cos(angle), np.sin(angle)])


def distance_to(line):
    """Distance of each pixel to the straight stretches of a line."""
    found = np.full((SIDE, SIDE), np.inf)
    for start, end in zip(line[:-1], line[1:], strict=True):
        step = end - start
        place = ((ROWS - start[0]) * step[0] + (COLUMNS - start[1]) * step[1]) / (step @ step)
        nearest = start + np.clip(place, 0, 1)[..., None] * step
        found = np.minimum(found, np.hypot(ROWS - nearest[..., 0], COLUMNS - nearest[..., 1]))
    return found


def image_of_lines(lines, width=1.5):
    return np.max([np.exp(-(distance_to(line) ** 2) / (2 * width**2)) for line in lines], axis=0)


@pytest.mark.parametrize("degrees", [0, 17, 45, 75, 120])
def test_a_line_is_traced_with_its_direction_and_length(degrees):
    line = line_at(np.radians(degrees))
    found = find(image_of_lines([line]), width=1.5, threshold=0.7)
    quality, measures = judge_traced(found, {"centre_lines": [line], "focus": [1]}, pixel=0.5)
    assert quality.precision == 1.0 and quality.recall > 0.95
    assert measures["angle to the true filament (°)"].value < 2.0
    assert measures["length (µm)"].truth == pytest.approx(40)
    assert measures["length (µm)"].value == pytest.approx(40, rel=0.09)


def test_lengths_of_lines_are_right_on_average_over_directions():
    ratios = []
    for angle in np.linspace(0, np.pi, 60, endpoint=False):
        step = np.array([np.cos(angle), np.sin(angle)])
        reach = (
            50 / np.abs(step).max()
        )  # ends on the pixels of a square: the thinnest line of pixels there is
        points = np.rint(64 + np.linspace(-reach, reach, 101)[:, None] * step).astype(int)
        drawn = np.zeros((SIDE, SIDE), bool)
        drawn[tuple(points.T)] = True
        ratios.append(length_of(drawn) / (2 * reach))
    assert np.mean(ratios) == pytest.approx(1, abs=0.01) and np.ptp(ratios) < 0.16


def test_a_filament_out_of_focus_is_neither_wanted_nor_invented_and_one_without_truth_is():
    there, dim, invented = (line_at(0.0, centre=(64, column)) for column in (30, 64, 98))
    found = find(image_of_lines([there, dim, invented]), width=1.5, threshold=0.7)
    truth = {"centre_lines": [there, dim], "focus": [1, 0]}
    quality, measures = judge_traced(found, truth, pixel=1.0)
    assert quality.invented == pytest.approx(1 / 3, abs=0.02) and quality.recall > 0.95
    assert measures["length (µm)"].truth == pytest.approx(80)


def test_places_are_paired_one_to_one_as_an_exhaustive_search_pairs_them():
    rng = np.random.default_rng(0)
    for _ in range(20):
        found, there = rng.uniform(0, 6, (4, 2)), rng.uniform(0, 6, (5, 2))
        distance = np.hypot(*(found[:, None] - there[None]).transpose(2, 0, 1))
        best = max(
            sum(distance[i, j] <= 2 for i, j in enumerate(order)) for order in permutations(range(5), 4)
        )
        assert matched(found, there, 2) == best


def test_precision_and_recall_of_places_by_hand():
    there = np.array([[10.0, 10 * k] for k in range(5)])
    found = np.concatenate(
        [there[:4] + 1, [[10.0, 1.0], [60.0, 60.0]]]
    )  # four hits, one double, one invention
    assert agreement(found, there, 2) == Agreement(4 / 6, 4 / 5)
    assert agreement(found, there, 2).f1 == pytest.approx(2 * 4 / (6 + 5))
    assert agreement(np.empty((0, 2)), there, 2).f1 == 0


def test_spots_are_found_where_they_are_and_their_distances_measured():
    places = np.array([[r, c] for r in range(16, 120, 16) for c in range(12, 120, 12)], float)
    image = 5 + sum(np.exp(-((ROWS - r) ** 2 + (COLUMNS - c) ** 2) / 2) for r, c in places)
    truth = {"pairs": places[:, None] + np.array([[-0.8, 0], [0.8, 0]]), "orphans": np.empty((0, 2))}
    quality, measures = judge_spots(spots(image, width=1.2, threshold=0.3), truth, pixel=0.1)
    assert quality == Agreement(1, 1)
    assert measures["synapses"] == Measure(len(places), len(places))
    assert measures["to the next (nm)"] == Measure(pytest.approx(1200), pytest.approx(1200))


def test_tubes_are_segmented_counted_and_measured():
    lines = [line_at(np.pi / 2, 80, (32, 64)), line_at(np.pi / 2, 40, (96, 64))]
    distance = np.min([distance_to(line) for line in lines], axis=0)
    mask = distance <= 7
    # Hollow, as label of the outer membrane is: bright rims and a dim middle.
    image = 10 + ndimage.gaussian_filter(np.where(mask, np.where(distance > 4, 1.0, 0.4), 0), 1)
    found = segment(image, smoothing=1.5, threshold=1.0)
    quality, measures = judge_areas(found, {"mask": mask}, pixel=0.5)
    both = (found & mask).sum()
    assert quality.f1 == pytest.approx(2 * both / (found.sum() + mask.sum())) and quality.f1 > 0.9
    assert measures["mitochondria"] == Measure(2, 2)
    assert measures["area (µm²)"].truth == pytest.approx(mask.sum() / 4)
    # Thinning takes the round ends: what is left of a tube is its centre line, by a few pixels.
    assert branches(mask) == pytest.approx([80, 40], abs=8)


def test_a_fork_has_three_branches():
    ends = ((10.0, 64.0), (110.0, 20.0), (110.0, 108.0))
    fork = np.min([distance_to(np.array([[64.0, 64.0], end])) for end in ends], axis=0) < 4
    assert len(branches(fork)) == 3


def test_nuclei_are_counted_and_walls_are_not():
    walls = ((ROWS % 42 < 3) | (COLUMNS % 42 < 3)).astype(float)
    centres = np.array([[r, c] for r in (22, 64, 106) for c in (22, 64, 106)], float)
    nuclei = sum((np.hypot(ROWS - r, COLUMNS - c) < 9).astype(float) for r, c in centres[:8])
    image = ndimage.gaussian_filter(walls + 0.4 * nuclei, 1)
    quality, measures = judge_blobs(blobs(image, 5, 0.8, 0.05), {"centres": centres}, pixel=0.2)
    assert quality == Agreement(1, 8 / 9)  # a cell without nucleus is none
    assert measures["nuclei"] == Measure(8, 9)


@pytest.mark.parametrize("readout", [FILAMENTS, MITOCHONDRIA, PUNCTA, NUCLEI])
def test_gain_and_offset_do_not_matter_and_an_empty_image_holds_nothing(readout):
    image = ndimage.gaussian_filter(np.random.default_rng(0).random((96, 96)), 3)
    parameters = {name: values[0] for name, values in readout.grid.items()}
    first, second, empty = (readout.find(i, **parameters) for i in (image, 64 * image + 7, np.ones((96, 96))))
    same = (getattr(found, "skeleton", found) for found in (first, second, empty))
    first, second, empty = (np.asarray(found) for found in same)
    assert np.array_equal(first, second)
    assert len(first) and (empty.shape == (0, 2) or not empty.any())


def test_fit_takes_the_parameters_that_agree_best():
    def judge(found, truth, pixel):
        quality = 1 - abs(found - truth["best"]) / 10
        return Agreement(quality, quality), {}

    readout = Readout(lambda image, a, b: a + b, judge, {"a": (0.0, 1.0), "b": (0.0, 4.0)}, "", "")
    assert fit(readout, [np.zeros((2, 2))] * 2, [{"best": 5}, {"best": 6}], 1.0) == {"a": 1.0, "b": 4.0}
