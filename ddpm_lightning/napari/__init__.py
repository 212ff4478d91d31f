"""Plugin for napari: restore layers, and train on pairs. Only the widgets import napari and Qt."""
