"""Utilities that import nothing else of this package: atomic files, locks, errors, settings, signals, progress."""
