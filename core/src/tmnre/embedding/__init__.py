"""Embedding networks: data x, a dict of batched tensors, to features (N, F), once per x.

Each is made from a batch x {"name": (N, ...)}, which tells the shapes and fits the normalisation, and keyword settings.
Statistics are buffers, and no shape depends on the data's values: weights of one round load into the network of the
next.  Row i of the output follows from row i of x alone.

    ResidualMLP                vectors, and whatever else is flattened; the default
    CNN1d                      series
    UNetFeatures               images; UNet makes maps (N, C, H, W) of them
    DeepSet, SetTransformer    sets of varying length
    LinearCompression          coefficients on what noise-free signals span; CompressedMLP reads them
"""

from tmnre.embedding.cnn1d import CNN1d
from tmnre.embedding.convolution import pool
from tmnre.embedding.linear import CompressedMLP, LinearCompression, signal_basis
from tmnre.embedding.mlp import ResidualBlock, ResidualMLP
from tmnre.embedding.sets import DeepSet, SetTransformer
from tmnre.embedding.standardise import Standardise, Whiten, flat
from tmnre.embedding.unet import UNet, UNetFeatures

__all__ = [
    "CNN1d",
    "CompressedMLP",
    "DeepSet",
    "LinearCompression",
    "ResidualBlock",
    "ResidualMLP",
    "SetTransformer",
    "Standardise",
    "UNet",
    "UNetFeatures",
    "Whiten",
    "flat",
    "pool",
    "signal_basis",
]
