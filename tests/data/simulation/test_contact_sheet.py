import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg

from ddpm_lightning.data.simulated import SimulatedPairs
from ddpm_lightning.data.simulation.contact_sheet import contact_sheet


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
