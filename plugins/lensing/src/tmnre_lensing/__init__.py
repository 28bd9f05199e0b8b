"""Strong gravitational lensing for tmnre: deflections, a batched image simulator and recipes."""

__version__ = "0.1.0"
