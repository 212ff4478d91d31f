"""From a method and a data set to numbers: run, summary, statistics, comparison."""
