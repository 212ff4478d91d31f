"""From a checkpoint and a data set to numbers and pictures: run, then tables and figures."""
