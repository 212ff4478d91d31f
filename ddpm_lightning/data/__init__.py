"""From files or physics to batches: image, tiff, pairs, normalise, augment, dataset, datamodule; then the sets."""
