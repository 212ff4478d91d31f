"""Small TIFF files, and copies of them through the reader and the writer."""

import numpy as np
import tifffile

from ddpm_lightning.io.tiff import TiffStack, TiffStackWriter

GREY = {"photometric": "minisblack"}


def random(*shape, dtype="uint16", seed=0):
    return np.random.default_rng(seed).integers(0, 250, shape).astype(dtype)


def copy(source, target, change=lambda plane: plane, **options):
    """Copies a TIFF through the reader and the writer, plane by plane."""
    with TiffStack(source) as stack, TiffStackWriter(target, stack.info, **options) as writer:
        for plane in stack:
            writer.write(change(plane))


def copied(path):
    """Copies a TIFF, checks its planes with tifffile, and returns them, the reader, and the series of the copy."""
    out = path.with_name(f"copy_{path.name}")
    copy(path, out)
    with TiffStack(path) as stack:
        planes = list(stack)
    with tifffile.TiffFile(out) as tif:
        np.testing.assert_array_equal(tif.asarray().reshape(-1, *planes[0].shape), planes)
        return np.stack(planes), stack, tif.series
