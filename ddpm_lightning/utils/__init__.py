"""The ground floor: atomic files, locks, errors, signals, progress. Standard library and torch only."""
