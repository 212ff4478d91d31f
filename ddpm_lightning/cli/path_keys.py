"""Which settings of each verb are paths."""

__all__ = ["OPTIONAL", "PATHS", "SEVERAL"]

_DATA = ("data.root", "data.archive", "data.cache")
#: Keys of each verb that are paths.
PATHS: dict[str, tuple[str, ...]] = {
    "prepare": ("output", *_DATA, "metrics.lpips.backbone"),
    "train": ("run_folder", "resume", "finetune", *_DATA, "model.mean"),
    "evaluate": ("checkpoint", "output", *_DATA, "metrics.lpips.backbone"),
    "compare": ("files", "output"),
    "report": ("files", "output"),
    "restore": ("checkpoint", "input", "output"),
    "export": ("checkpoint", "output", "sample"),
    "show": ("subject",),
    "dashboard": ("output",),
    "benchmark": ("folder", "output"),
    "demo": ("run_folder", *_DATA),
}
#: Keys that take several paths.
SEVERAL = ("input", "files")
#: Keys that may be null.
OPTIONAL = {
    *("run_folder", "resume", "finetune", "data.archive", "data.cache", "model.mean", "sample"),
    "metrics.lpips.backbone",
}
