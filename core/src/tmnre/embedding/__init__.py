"""Embedding networks: data x, a dict of batched tensors, to features (N, F), once per x.

Each is made from a batch x {"name": (N, ...)}, which tells the shapes and fits the normalisation, and keyword settings.
Statistics are buffers, and no shape depends on the data's values: weights of one round load into the network of the
next.  Row i of the output follows from row i of x alone.
"""

from tmnre.embedding.mlp import ResidualBlock, ResidualMLP
from tmnre.embedding.standardise import Standardise, Whiten, flat

__all__ = ["ResidualBlock", "ResidualMLP", "Standardise", "Whiten", "flat"]
