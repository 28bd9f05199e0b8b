"""Populations of point sources for tmnre: photon-count maps, their exact pixel statistics and recipes."""

__version__ = "0.1.0"
