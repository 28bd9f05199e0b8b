"""Radioactive decay for tmnre."""
