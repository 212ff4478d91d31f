"""Image files plane by plane: TIFF in its dialects, and OME-Zarr. Read image, stacks, then a reader and its writer."""
