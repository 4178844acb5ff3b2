"""A run, or two, as one HTML file that works offline."""
