"""Trains embedders on the examples that Mbegu makes. Of sdg it imports the schema alone."""
