"""Numbers that are measured in an image: counts, areas, lengths, distances, intensities."""
