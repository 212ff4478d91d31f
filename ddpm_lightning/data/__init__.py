"""From pairs of images to batches: pairs, splits, normalise, augment, dataset, datamodule."""
