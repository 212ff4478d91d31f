"""The widgets in a real viewer; they need the extra ``napari``, pytest-qt, and a display such as that of Xvfb."""

import os
import sys

import numpy as np
import pytest

from ddpm_lightning.io.stacks import open_stack
from tests.conftest import write_pairs
from tests.trained import write_checkpoint

pytest.importorskip("napari", reason="needs the extra napari: pip install 'ddpm-lightning[napari]'")
pytest.importorskip("pytestqt", reason="needs pytest-qt")
if sys.platform == "linux" and not os.environ.get("DISPLAY"):
    pytest.skip("needs a display, such as that of Xvfb", allow_module_level=True)

STACK = np.random.default_rng(0).poisson(30, (3, 64, 80)).astype(np.uint16)
PATIENCE = 200_000


@pytest.fixture
def widget(make_napari_viewer, qtbot, tmp_path, monkeypatch):
    """The widget in a viewer with a stack, and a tiny model."""
    from ddpm_lightning.napari.restore_widget import RestoreWidget

    monkeypatch.setattr("ddpm_lightning.napari.restoring.MEASURED", 32)
    path = write_checkpoint(tmp_path / "tiny.ckpt")
    monkeypatch.setattr("ddpm_lightning.napari.restore_widget.shipped_models", lambda: {str(path): path})
    viewer = make_napari_viewer()
    viewer.add_image(
        STACK, name="cells", scale=(0.5, 0.1, 0.1), units="micrometer", axis_labels=("z", "y", "x")
    )
    made = RestoreWidget(viewer)
    qtbot.addWidget(made)
    qtbot.waitUntil(lambda: made.model is not None, timeout=PATIENCE)
    return made


def test_a_stack_is_restored_cancelled_restored_again_and_saved(widget, qtbot, tmp_path):
    viewer = widget.viewer
    assert widget.axes.text() == "ZYX" and widget.pixel_size.text() == "0.1"
    assert "about" in widget.preset.currentText() and widget.use.text() and not widget.save.isEnabled()
    widget.keep.setValue(3)
    widget.start()
    widget.stop()
    qtbot.waitUntil(lambda: widget._job is None, timeout=PATIENCE)
    assert [layer.name for layer in viewer.layers] == ["cells"] and widget.state.text() == "cancelled"
    widget.start()
    assert [layer.name for layer in viewer.layers] == ["cells", "cells restored"]
    qtbot.waitUntil(lambda: widget._job is None, timeout=PATIENCE)
    assert [layer.name for layer in viewer.layers] == [
        "cells",
        "cells restored",
        "cells std",
        "cells samples",
    ]
    assert widget.layer.currentText() == "cells" and viewer.layers["cells samples"].data.shape == (
        3,
        *STACK.shape,
    )
    assert np.isfinite(viewer.layers["cells restored"].data).all() and widget.text.toPlainText()
    assert viewer.dims.ndim == 4  # a slider leads through the samples
    widget.write(tmp_path / "out.ome.tif")
    with open_stack(tmp_path / "out.ome.tif") as stack:
        assert stack.info.axes == "ZYX" and stack.info.dtype == np.uint16 and stack.info.z_step == 0.5
        assert stack.info.pixel_size == pytest.approx((0.1, 0.1))


def test_a_rectangle_of_one_plane_is_restored_in_its_place(widget, qtbot):
    viewer = widget.viewer
    viewer.dims.set_point(0, 1.0)
    viewer.add_shapes(np.array([[1.0, 1.0], [1.0, 5.0], [4.0, 5.0], [4.0, 1.0]]))
    widget.region.setCurrentIndex(3)
    selection = widget.selection()
    assert np.array_equal(selection.plane(0), STACK[2, 10:40, 10:50])
    widget.start()
    qtbot.waitUntil(lambda: widget._job is None, timeout=PATIENCE)
    restored = viewer.layers["cells restored"]
    assert restored.data.shape == (30, 40) and tuple(restored.translate[-2:]) == pytest.approx((1, 1))
    widget.axes.setText("YX")
    widget.start()
    assert "axes" in widget.text.toPlainText() and widget._job is None


def test_a_model_is_trained_on_folders(make_napari_viewer, qtbot, tmp_path):
    from ddpm_lightning.napari.train_widget import TrainWidget

    made = TrainWidget(make_napari_viewer())
    qtbot.addWidget(made)
    made.start()
    assert made.text.toPlainText() and made._job is None
    pairs = write_pairs(tmp_path / "pairs") / "train"
    made.noisy.path.setText(str(pairs / "low"))
    made.clean.path.setText(str(pairs / "high"))
    made.folder.path.setText(str(tmp_path / "run"))
    made.method.setCurrentIndex(2)
    made.steps.setValue(30)
    made.start()
    qtbot.waitUntil(lambda: made._job is None, timeout=PATIENCE)
    assert made.best is not None and made.best.is_file(), made.text.toPlainText()
    assert made.figure.axes[0].lines
