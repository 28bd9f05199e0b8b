"""Random fields for tmnre: exponentiated Gaussian fields, spectrum embeddings and recipes."""

__version__ = "0.1.0"
