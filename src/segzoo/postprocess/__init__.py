"""Refinement of masks after the network."""
