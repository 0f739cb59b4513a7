"""Converters: one file per library, plus the reader of Caffe's format."""
