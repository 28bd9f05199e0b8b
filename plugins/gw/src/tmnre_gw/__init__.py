"""Gravitational-wave plugin of tmnre: binary black holes in the strain of a detector network."""

__version__ = "0.1.0"
