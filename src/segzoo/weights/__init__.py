"""Weights: the catalog of trained ones, where files are, what they hold, and what other libraries' files mean.

Nothing here is imported with the package, so that the catalog needs no torch.
"""
