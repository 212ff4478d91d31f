"""Trained models applied to new images: arrays (restorer), files (restore_file), tile by tile (tiling)."""
