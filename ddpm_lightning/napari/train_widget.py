"""The widget that trains a model on two folders or two layers, and shows the curve of the loss."""

import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from matplotlib.backends.backend_qtagg import FigureCanvasQTAgg
from matplotlib.figure import Figure
from napari.layers import Image
from qtpy.QtCore import QTimer
from qtpy.QtWidgets import (
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

from ddpm_lightning.napari.job import Job
from ddpm_lightning.napari.selection import select
from ddpm_lightning.napari.training import (
    METHODS,
    Curve,
    TrainRequest,
    pairs_of_folders,
    pairs_of_layers,
    train,
)
from ddpm_lightning.utils.errors import UserError

if TYPE_CHECKING:
    import napari.viewer

__all__ = ["TrainWidget"]

#: Milliseconds between two looks at a job.
EVERY = 250
SOURCES = ("two folders", "two layers")


class TrainWidget(QWidget):
    """Trains a model on pairs of noisy and clean images.

    Args:
        napari_viewer: The viewer that the widget belongs to.
    """

    def __init__(self, napari_viewer: "napari.viewer.Viewer") -> None:
        super().__init__()
        self.viewer = napari_viewer
        self.best: Path | None = None
        self._job: Job[list[Curve], Path] | None = None
        self._build()
        self._timer = QTimer(self)
        self._timer.setInterval(EVERY)
        self._timer.timeout.connect(self._look)
        self.viewer.layers.events.inserted.connect(self._list_layers)
        self.viewer.layers.events.removed.connect(self._list_layers)
        self._list_layers()

    def _build(self) -> None:
        self.source, self.method = QComboBox(), QComboBox()
        self.source.addItems(SOURCES)
        self.noisy, self.clean, self.folder = _Folder(), _Folder(), _Folder()
        self.folder.path.setText(str(Path("runs") / time.strftime("napari_%Y-%m-%d_%H-%M-%S")))
        self.noisy_layer, self.clean_layer = QComboBox(), QComboBox()
        for name, use in METHODS.items():
            self.method.addItem(
                f"{name.partition('=')[2] if name.startswith('model') else name}: {use}", name
            )
        for field in (self.method, self.noisy_layer, self.clean_layer):
            field.setSizeAdjustPolicy(QComboBox.SizeAdjustPolicy.AdjustToMinimumContentsLengthWithIcon)
            field.setMinimumContentsLength(12)
        self.steps, self.minutes = QSpinBox(), QSpinBox()
        self.steps.setRange(1, 1_000_000)
        self.steps.setValue(5000)
        self.minutes.setRange(1, 10_000)
        self.minutes.setValue(30)
        self.run, self.cancel = QPushButton("Train"), QPushButton("Cancel")
        self.bar, self.state, self.text = QProgressBar(), QLabel(), QPlainTextEdit()
        self.bar.setRange(0, 1000)
        self.bar.setTextVisible(False)
        self.text.setReadOnly(True)
        self.figure = Figure(figsize=(4, 2.6), layout="constrained")
        self.plot = FigureCanvasQTAgg(self.figure)
        self.plot.setMinimumHeight(200)
        self.form = QFormLayout()
        self.form.setFieldGrowthPolicy(QFormLayout.FieldGrowthPolicy.AllNonFixedFieldsGrow)
        rows = {
            "Pairs": self.source,
            "Noisy folder": self.noisy,
            "Clean folder": self.clean,
            "Noisy layer": self.noisy_layer,
            "Clean layer": self.clean_layer,
            "Model": self.method,
            "Steps": self.steps,
            "At most (minutes)": self.minutes,
            "Run folder": self.folder,
        }
        for name, field in rows.items():
            self.form.addRow(name, field)
        buttons = QHBoxLayout()
        buttons.addWidget(self.run)
        buttons.addWidget(self.cancel)
        column = QVBoxLayout(self)
        column.addLayout(self.form)
        column.addLayout(buttons)
        for field in (self.bar, self.state, self.plot, self.text):
            column.addWidget(field)
        self.source.currentIndexChanged.connect(self._show_source)
        self.run.clicked.connect(self.start)
        self.cancel.clicked.connect(self.stop)
        self._show_source()
        self._draw([])
        self._enable()

    def _show_source(self, index: int = 0) -> None:
        layers = self.source.currentIndex() == 1
        for field in (self.noisy, self.clean):
            self.form.setRowVisible(field, not layers)
        for field in (self.noisy_layer, self.clean_layer):
            self.form.setRowVisible(field, layers)

    def _list_layers(self, event: object = None) -> None:
        names = [layer.name for layer in self.viewer.layers if isinstance(layer, Image)]
        for field in (self.noisy_layer, self.clean_layer):
            known = field.currentText()
            field.clear()
            field.addItems(names)
            field.setCurrentText(known)

    def start(self) -> None:
        """Prepares the pairs, and trains."""
        self.best = None
        self.text.clear()
        try:
            request = self._prepared()
        except (UserError, KeyError, OSError) as error:
            self.text.setPlainText(str(error))
            return
        self._job = Job(lambda job: train(request, job))
        self._timer.start()
        self._enable()

    def _prepared(self) -> TrainRequest:
        """Writes the pairs, and returns the training.

        Raises:
            UserError: If the pairs cannot be used.
        """
        name = self.folder.path.text().strip()
        if not Path(name).name:
            raise UserError("run folder", f"is {name!r}", "the name of a new folder", "such as runs/first")
        folder = Path(name).expanduser()
        root = folder.with_name(f"{folder.name}_pairs")
        request = TrainRequest.of(
            {
                "method": self.method.currentData(),
                "steps": self.steps.value(),
                "minutes": float(self.minutes.value()),
                "folder": folder,
                "root": root,
            }
        )
        if self.source.currentIndex() == 0:
            pairs_of_folders(Path(self.noisy.path.text()), Path(self.clean.path.text()), root)
        else:
            layers = (
                self.viewer.layers[field.currentText()] for field in (self.noisy_layer, self.clean_layer)
            )
            pairs_of_layers(*map(select, layers), root)
        return request

    def stop(self) -> None:
        """Asks the training to save its state and end."""
        if self._job is not None:
            self._job.cancel()
            self.state.setText("saving the state of the training…")

    def _look(self) -> None:
        """Shows what the training has done since the last look."""
        job = self._job
        if job is None:
            return
        ended = job.wait(0)
        if grown := job.messages():
            self._draw(grown[-1])
        self.bar.setValue(round(1000 * job.progress.fraction))
        if not job.cancelling:
            self.state.setText(str(job.progress))
        if ended:
            self._job = None
            self._timer.stop()
            self.state.setText({"finished": "trained"}.get(job.state, job.state))
            if job.result is not None:
                self.best = job.result
                self.text.setPlainText(
                    f"{self.best}\n\nIn the widget Restore, choose it under Model, other model…"
                )
            elif job.state == "failed":
                self.text.setPlainText(str(job.error))
            self._enable()

    def _draw(self, found: list[Curve]) -> None:
        """Plots the curves."""
        self.figure.clear()
        axes = self.figure.add_subplot()
        for curve in found:
            axes.plot(curve.steps, curve.values, ".-" if "val" in curve.name else "-", label=curve.name, lw=1)
        axes.set_xlabel("step")
        axes.set_ylabel("loss")
        if found:
            axes.legend(frameon=False)
        self.plot.draw_idle()

    def _enable(self) -> None:
        self.run.setEnabled(self._job is None)
        self.cancel.setEnabled(self._job is not None)

    def closeEvent(self, a0: Any) -> None:  # noqa: N802  (Qt's name)
        """Ends the training with the widget."""
        if self._job is not None:
            self._job.cancel()
        super().closeEvent(a0)


class _Folder(QWidget):
    """A field for the path of a folder, with a button that asks for it."""

    def __init__(self) -> None:
        super().__init__()
        self.path, self._button = QLineEdit(), QPushButton("…")
        self._button.setMaximumWidth(30)
        row = QHBoxLayout(self)
        row.setContentsMargins(0, 0, 0, 0)
        row.addWidget(self.path)
        row.addWidget(self._button)
        self._button.clicked.connect(self._ask)

    def _ask(self) -> None:
        if path := QFileDialog.getExistingDirectory(self, "Folder", self.path.text()):
            self.path.setText(path)
