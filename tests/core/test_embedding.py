"""Whitening of a network's inputs."""

import torch

from tmnre.embedding import Whiten


def test_whitened_columns_are_uncorrelated_and_copies_are_one():
    generator = torch.Generator().manual_seed(0)
    independent = torch.randn(4000, 3, generator=generator) * torch.tensor([1.0, 5.0, 0.2]) + 7
    batch = torch.cat([independent, independent[:, :1] * 2, independent[:, :1] - 1], dim=1)
    found = Whiten(batch, most=5)(batch)
    torch.testing.assert_close(torch.cov(found.T), torch.diag(torch.tensor([1.0, 1, 1, 0, 0])), atol=1e-3, rtol=0)
    # however few rows it is fitted to
    assert Whiten(batch[:2], most=5).matrix.shape == (5, 5) and Whiten(batch, most=2).matrix.shape == (5, 2)
