"""The version of this package, for records of runs and results."""

__all__ = ["__version__"]

__version__ = "0.2.0.dev0"
