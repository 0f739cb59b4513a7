"""Trained weights: the catalog, downloads, segzoo's own checkpoint format, and converters for other libraries' files.

Nothing is imported here, so that the catalog needs no torch.
"""
