"""Imports the package first: its remedy must be in place before any test imports Lightning."""

import ddpm_lightning  # noqa: F401
