"""Trained models at work on new images: load (checkpoint), apply (tiling), restore arrays and files (restorer)."""
