"""Builds the images of `images/`: ``python -m tools.images``."""
