"""Mbegu's data pipeline: documents in, training examples for text embedders out."""
