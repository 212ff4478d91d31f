"""Training runs: run folder, provenance, two-stage runs, learning-rate schedules, checks before a start."""
