"""Lightning callbacks and loggers: what is measured, logged and saved while a model trains.

Each is configured under ``callbacks`` in the configuration, as ``NAME: {_target_: CLASS, SETTING: VALUE}``. Any other
``lightning.Callback`` can be added in the same way, and any ``torchmetrics.Metric`` to
:class:`ddpm_lightning.callbacks.validation_metrics.ValidationMetrics`.
"""
