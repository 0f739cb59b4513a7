"""Trained weights by name, and files from anywhere: the catalog, the cache, the hub.

Floor 0: what there is can be listed, and fetched, without torch.
"""

from segzoo.catalog.entries import Entry, catalog, default, find, list_weights

__all__ = ["Entry", "catalog", "default", "find", "list_weights"]
