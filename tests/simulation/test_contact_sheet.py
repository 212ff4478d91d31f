import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg

from ddpm_lightning.datasets.simulated import SimulatedPairs
from ddpm_lightning.simulation.contact_sheet import contact_sheet
from ddpm_lightning.simulation.truth_overlay import FAINT


def test_a_row_per_set_and_two_images_per_pair(tmp_path):
    sources = {name: SimulatedPairs(name, "test", 2, size=48) for name in ("microtubules", "synapses")}
    figure = contact_sheet(sources, samples=2)
    images = [np.asarray(axis.images[0].get_array()) for axis in figure.axes]
    assert len(images) == 8
    np.testing.assert_array_equal(images[0], sources["microtubules"][0].low)
    np.testing.assert_array_equal(images[7], sources["synapses"][1].high)
    low, high = figure.axes[1].images[0].get_clim()
    np.testing.assert_allclose([low, high], np.percentile(images[1], [0.5, 99.8]))
    assert [text.get_text() for text in figure.axes[0].texts] == ["0.2 µm"]
    FigureCanvasAgg(figure).print_png(tmp_path / "sheet.png")
    assert (tmp_path / "sheet.png").stat().st_size > 5000


def test_the_ground_truth_matches_the_image():
    """Drawn over the clean image, lines are where the light is, and filled nuclei where the nuclei are."""
    sources = {name: SimulatedPairs(name, "test", 1, size=96) for name in ("microtubules", "zebrafish")}
    figure = contact_sheet(sources, samples=1, truth=True)
    assert [axis.get_title() for axis in figure.axes[:3]] == ["low", "high", "truth"]
    for axis, source in zip((figure.axes[2], figure.axes[5]), sources.values(), strict=True):
        truth, high = source[0].extra["truth"], source[0].high
        drawn = np.concatenate([line.get_xydata() for line in axis.lines if line.get_color() != FAINT])
        columns, rows = np.clip(np.rint(drawn), 0, 95).astype(int).T
        assert high[rows, columns].mean() > 2 * high.mean()
        assert axis.get_xlim() == (-0.5, 95.5) and axis.get_ylim() == (95.5, -0.5)
    np.testing.assert_array_equal(figure.axes[5].images[0].get_array(), truth["nuclei"] > 0)
