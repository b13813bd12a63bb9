"""Entry points and profiles."""
