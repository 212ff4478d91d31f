"""Methods of restoration as plain torch modules, one per file. Read method, then sampling, then ddpm."""
