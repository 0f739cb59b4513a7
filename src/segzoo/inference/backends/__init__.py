"""Engines that run a model on a batch of images."""
