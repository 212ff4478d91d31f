"""The widget that restores a layer, or a part of it."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from napari.layers import Image, Shapes
from qtpy.QtCore import QTimer
from qtpy.QtWidgets import (
    QCheckBox,
    QComboBox,
    QFileDialog,
    QFormLayout,
    QHBoxLayout,
    QLabel,
    QLineEdit,
    QPlainTextEdit,
    QProgressBar,
    QPushButton,
    QSpinBox,
    QVBoxLayout,
    QWidget,
)

from ddpm_lightning.checkpoints.safetensors_file import shipped_models
from ddpm_lightning.inference.arrays import as_pixel_size
from ddpm_lightning.napari.job import Job
from ddpm_lightning.napari.restoring import LivePart, Model, Request, Restored, measure, restore
from ddpm_lightning.napari.results import RESULT, layers_of, live_layer, save
from ddpm_lightning.napari.selection import Selection, axes_of, box_of_corners, pixel_size_of, select
from ddpm_lightning.utils.errors import UserError

if TYPE_CHECKING:
    import napari.viewer

__all__ = ["RestoreWidget"]

#: Milliseconds between two looks at a job.
EVERY = 100
OTHER_MODEL = "other model…"
REGIONS = ("all planes", "the plane that is shown", "the part that is shown", "a rectangle of a Shapes layer")
FILES = "OME-TIFF (*.ome.tif);;OME-Zarr (*.ome.zarr)"
MODELS = "Models (*.ckpt *.safetensors)"


class RestoreWidget(QWidget):
    """Restores the selected layer with a model; the result appears tile by tile.

    Args:
        napari_viewer: The viewer that the widget belongs to.
    """

    def __init__(self, napari_viewer: "napari.viewer.Viewer") -> None:
        super().__init__()
        self.viewer = napari_viewer
        self.model: Model | None = None
        self.restored: Restored | None = None
        self._job: Job[LivePart, Any] | None = None
        self._live: Image | None = None
        self._limits: list[float] = []
        self._uses: dict[str, str] = {}
        self._build()
        self._timer = QTimer(self)
        self._timer.setInterval(EVERY)
        self._timer.timeout.connect(self._look)
        layers = self.viewer.layers.events
        layers.inserted.connect(self._list_layers)
        layers.removed.connect(self._list_layers)
        self.viewer.layers.selection.events.active.connect(self._follow_selection)
        self._list_layers()
        self._follow_selection()
        self._load()

    def _build(self) -> None:
        self.layer, self.axes, self.pixel_size = QComboBox(), QLineEdit(), QLineEdit()
        self.axes.setToolTip("A letter for each axis of the layer, such as ZYX, TYX or CZYX")
        self.pixel_size.setToolTip("Size of a pixel in µm, or two numbers: y, x; empty if it is unknown")
        self.region, self.checkpoint, self.preset = QComboBox(), QComboBox(), QComboBox()
        self.region.addItems(REGIONS)
        self.checkpoint.addItems([*shipped_models(), OTHER_MODEL])
        self.use = QLabel()
        self.use.setWordWrap(True)
        self.keep, self.interval = QSpinBox(), QCheckBox("calibrated interval")
        self.keep.setRange(0, 100)
        self.keep.setSpecialValueText("none")
        self.run, self.cancel, self.save = QPushButton("Restore"), QPushButton("Cancel"), QPushButton("Save…")
        self.bar, self.state, self.text = QProgressBar(), QLabel(), QPlainTextEdit()
        self.bar.setRange(0, 1000)
        self.bar.setTextVisible(False)
        self.state.setWordWrap(True)
        self.text.setReadOnly(True)
        self.text.setPlaceholderText("Warnings and remarks on the result appear here.")
        form = QFormLayout()
        form.setFieldGrowthPolicy(QFormLayout.FieldGrowthPolicy.AllNonFixedFieldsGrow)
        rows = {
            "Layer": self.layer,
            "Axes": self.axes,
            "Pixel size (µm)": self.pixel_size,
            "Restore": self.region,
            "Model": self.checkpoint,
            "Preset": self.preset,
            "": self.use,
            "Single samples": self.keep,
            "Uncertainty": self.interval,
        }
        for name, field in rows.items():
            form.addRow(name, field)
        buttons = QHBoxLayout()
        for button in (self.run, self.cancel, self.save):
            buttons.addWidget(button)
        column = QVBoxLayout(self)
        column.addLayout(form)
        column.addLayout(buttons)
        for field in (self.bar, self.state, self.text):
            column.addWidget(field)
        for field in (self.layer, self.preset, self.region):
            field.setSizeAdjustPolicy(QComboBox.SizeAdjustPolicy.AdjustToMinimumContentsLengthWithIcon)
            field.setMinimumContentsLength(12)
        self.layer.currentIndexChanged.connect(self._describe_layer)
        self.region.currentIndexChanged.connect(self._show_costs)
        self.axes.editingFinished.connect(self._show_costs)
        self.preset.currentIndexChanged.connect(self._show_use)
        self.checkpoint.activated.connect(self._choose_model)
        self.run.clicked.connect(self.start)
        self.cancel.clicked.connect(self.stop)
        self.save.clicked.connect(self._ask_for_file)
        self._enable()

    # --- the layer ---------------------------------------------------------------------------------------------------

    def _list_layers(self, event: object = None) -> None:
        known = self.layer.currentText()
        self.layer.blockSignals(True)
        self.layer.clear()
        self.layer.addItems([layer.name for layer in self.viewer.layers if isinstance(layer, Image)])
        self.layer.setCurrentText(known)
        self.layer.blockSignals(False)
        if self.layer.currentText() != known:
            self._describe_layer()

    def _follow_selection(self, event: object = None) -> None:
        active = self.viewer.layers.selection.active
        if isinstance(active, Image) and RESULT not in active.metadata:
            self.layer.setCurrentText(active.name)

    def _describe_layer(self, index: int = 0) -> None:
        layer = self._layer()
        if layer is not None:
            self.axes.setText(axes_of(layer))
            size = pixel_size_of(layer)
            self.pixel_size.setText(
                "" if size is None else ", ".join(f"{side:g}" for side in dict.fromkeys(size))
            )
        self._show_costs()
        self._enable()

    def _layer(self) -> Image | None:
        name = self.layer.currentText()
        found = self.viewer.layers[name] if name in self.viewer.layers else None
        return found if isinstance(found, Image) else None

    def selection(self) -> Selection:
        """Returns the part of the layer that is chosen.

        Raises:
            UserError: If it cannot be restored.
        """
        layer, region = self._layer(), self.region.currentIndex()
        if layer is None:
            raise UserError("layer", "is not chosen", "an image layer", "open an image")
        step = None
        if region:
            step = [float(at) for at in layer.world_to_data(self.viewer.dims.point)]
        box = None
        if region == 2:
            (top, left), (bottom, right) = layer.corner_pixels[:, -2:]
            factor = layer.downsample_factors[layer.data_level][-2:] if layer.multiscale else (1, 1)
            box = (
                slice(int(top * factor[0]), int(bottom * factor[0]) + 1),
                slice(int(left * factor[1]), int(right * factor[1]) + 1),
            )
        elif region == 3:
            box = box_of_corners(layer, self._rectangle())
        size = self.pixel_size.text().replace(",", " ").split()
        try:
            pixel_size = as_pixel_size([float(side) for side in size] if size else None)
        except ValueError:
            raise UserError(
                "pixel size", f"is {self.pixel_size.text()!r}", "one or two numbers of µm"
            ) from None
        return select(layer, self.axes.text(), pixel_size, step, box)

    def _rectangle(self) -> np.ndarray:
        """Returns the corners of the selected or last shape, in the units of the viewer."""
        for shapes in reversed([layer for layer in self.viewer.layers if isinstance(layer, Shapes)]):
            if len(shapes.data):
                chosen = max(shapes.selected_data, default=len(shapes.data) - 1)
                corners = np.asarray(shapes.data[chosen])[:, -2:]
                return corners * np.asarray(shapes.scale)[-2:] + np.asarray(shapes.translate)[-2:]
        raise UserError(
            "region",
            "is not chosen: there is no shape",
            "a rectangle",
            "add a Shapes layer, and draw a rectangle",
        )

    # --- the model ---------------------------------------------------------------------------------------------------

    def _choose_model(self, index: int) -> None:
        if self.checkpoint.currentText() == OTHER_MODEL:
            path, _ = QFileDialog.getOpenFileName(self, "Model", "", MODELS)
            if not path:
                self.checkpoint.setCurrentIndex(0)
            else:
                self.add_model(path)
                return
        self._load()

    def add_model(self, path: str | Path) -> None:
        """Offers a model, and selects it."""
        if self.checkpoint.findText(str(path)) < 0:
            self.checkpoint.insertItem(self.checkpoint.count() - 1, str(path))
        self.checkpoint.setCurrentText(str(path))
        self._load()

    def _request(self, **values: Any) -> Request:
        return Request.of({"checkpoint": self.checkpoint.currentText(), **values})

    def _load(self) -> None:
        """Loads the chosen model, and measures its speed, without which nothing can be restored."""
        if self._job is not None:
            self._job.cancel()
        self.model = None
        request = self._request()
        self._begin(Job(lambda job: measure(request, job)))

    def _show_costs(self, index: int = 0) -> None:
        """Lists the presets with the time that each will take."""
        if self.model is None:
            return
        chosen, self._uses = self.preset.currentData(), {}
        try:
            costs = self.model.presets(self.selection().info)
        except UserError:
            costs = {name: (0.0, use) for name, (_, use) in self.model.trained.presets().items()}
        self.preset.blockSignals(True)
        self.preset.clear()
        for name, (seconds, use) in costs.items():
            self.preset.addItem(f"{name}: about {in_words(seconds)}" if seconds else name, name)
            self._uses[name] = use
        self.preset.setCurrentIndex(max(self.preset.findData(chosen), 0))
        self.preset.blockSignals(False)
        self._show_use()

    def _show_use(self, index: int = 0) -> None:
        self.use.setText(self._uses.get(self.preset.currentData(), ""))

    # --- the job -----------------------------------------------------------------------------------------------------

    def start(self) -> None:
        """Restores the selection."""
        try:
            selection = self.selection()
            request = self._request(
                preset=self.preset.currentData(),
                intervals=self.interval.isChecked(),
                keep=self.keep.value(),
                samples=self.keep.value() or None,
            )
        except UserError as error:
            self.text.setPlainText(str(error))
            return
        self.restored = None
        self.text.clear()
        pixels, described, _ = live_layer(selection)
        source = self._layer()
        assert source is not None
        described |= {"contrast_limits": source.contrast_limits, "colormap": source.colormap.name}
        self._limits = []
        self._live = self.viewer.add_image(pixels, **described)
        self._begin(Job(lambda job: restore(selection, request, job)))

    def stop(self) -> None:
        """Cancels the job; the layers that it has made so far are removed."""
        if self._job is not None:
            self._job.cancel()
            self.state.setText("cancelling…")

    def _begin(self, job: Job[LivePart, Any]) -> None:
        self._job = job
        self._timer.start()
        self._enable()

    def _look(self) -> None:
        """Shows what the job has done since the last look."""
        job = self._job
        if job is None:
            self._timer.stop()
            return
        ended = job.wait(0)
        for part in job.messages():
            self._paint(part)
        if self._live is not None and not job.cancelling:
            self._live.refresh()
        self.bar.setValue(round(1000 * job.progress.fraction))
        if not job.cancelling:
            self.state.setText(str(job.progress))
        if ended:
            self._job = None
            self._timer.stop()
            self._end(job)
            self._enable()

    def _paint(self, part: LivePart) -> None:
        if self._live is None:
            return
        pixels = np.asarray(self._live.data)  # the array itself, not a copy
        planes = pixels.reshape(-1, *pixels.shape[-2:])
        height, width = part.pixels.shape
        planes[part.plane, part.top : part.top + height, part.left : part.left + width] = part.pixels
        self._limits = [*self._limits, *map(float, np.percentile(part.pixels, (0.1, 99.9)))]
        self._limits = [min(self._limits), max(self._limits)]
        if self._limits[0] < self._limits[1]:
            self._live.contrast_limits = self._limits

    def _end(self, job: Job[LivePart, Any]) -> None:
        live, self._live = self._live, None
        result = job.result
        if job.state != "finished":
            self.bar.setValue(0)
            self.state.setText("cancelled" if job.state == "cancelled" else "failed")
            if job.error is not None and job.state == "failed":
                self.text.setPlainText(str(job.error))
        elif isinstance(result, Model):
            self.model = result
            self.state.setText("")
            self._show_costs()
        elif isinstance(result, Restored):
            self.restored = result
            self.state.setText(f"restored with {result.model}, preset {result.preset}")
            self.text.setPlainText("\n\n".join(result.lines))
        if live is not None and live in self.viewer.layers:
            self.viewer.layers.remove(live)
        if self.restored is not None and isinstance(result, Restored):
            for pixels, described, _ in layers_of(result):
                self.viewer.add_image(pixels, **described)

    def _enable(self) -> None:
        """Enables what can be done now."""
        busy = self._job is not None
        self.run.setEnabled(not busy and self.model is not None and self._layer() is not None)
        self.cancel.setEnabled(busy)
        self.checkpoint.setEnabled(not busy)
        self.save.setEnabled(not busy and self.restored is not None)

    # --- the files ---------------------------------------------------------------------------------------------------

    def _ask_for_file(self) -> None:
        assert self.restored is not None
        path, chosen = QFileDialog.getSaveFileName(
            self, "Save", f"{self.restored.selection.name}.ome.tif", FILES
        )
        if path:
            self.write(Path(path))

    def write(self, path: Path) -> None:
        """Saves the result, and says what was written."""
        assert self.restored is not None
        try:
            lines = save(self.restored, path)
        except UserError as error:
            lines = [str(error)]
        self.text.appendPlainText("\n" + "\n".join(lines))

    def closeEvent(self, a0: Any) -> None:  # noqa: N802  (Qt's name)
        """Ends the job with the widget."""
        if self._job is not None:
            self._job.cancel()
        super().closeEvent(a0)


def in_words(seconds: float) -> str:
    """Returns a time as people say it: ``8 s``, ``3 min``, ``1.5 h``."""
    if seconds < 90:
        return f"{max(seconds, 1):.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"
