"""What people look at: plots, panels of images, tables in words, summaries, and the HTML report."""
