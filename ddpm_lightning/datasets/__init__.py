"""The data sets: pairs in a folder, the four published sets, the simulated ones; and the audit of each."""
