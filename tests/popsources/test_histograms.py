"""Histograms by zone against numpy."""

from __future__ import annotations

import numpy as np
import torch

from tmnre_popsources.histograms import ZoneHistograms, bin_edges, patch_neighbours, patch_zones


def test_histograms_against_numpy():
    rng = np.random.default_rng(0)
    maps = rng.poisson(rng.gamma(0.5, 8.0, (3, 12, 12))).astype(np.float32)
    maps[0, 3, 4] = 3e4
    near = np.zeros((12, 12), dtype=bool)
    near[2:5, 3:6] = True
    zones, edges = patch_zones(12, bands=3, near=near), bin_edges(16, 1e4)
    zones[5] = -1
    summary = ZoneHistograms(zones, patch_neighbours(12), edges)
    above = summary(torch.from_numpy(maps))["histograms"].square().numpy().reshape(3, 3, -1, 16)
    np.testing.assert_allclose(above[:, :, -1], above[:, :, :-1].sum(2), atol=1e-3)
    # numbers of at least so many, to numbers in bins
    found = -np.diff(above[:, :, :-1], axis=-1, append=0)
    bounds = [*edges.tolist(), np.inf]
    for image, parts in zip(maps, found, strict=True):
        padded = np.pad(image, 1)
        around = np.lib.stride_tricks.sliding_window_view(padded, (3, 3))
        sums = around.sum((2, 3)).ravel()
        for zone in range(int(zones.max()) + 1):
            here = (zones == zone).numpy()
            for part, values in zip(parts[:2], (image.ravel(), sums), strict=True):
                np.testing.assert_allclose(part[zone], np.histogram(values[here], bounds)[0], atol=1e-2)
    # peaks: no two of them touch, and every strict maximum of the sums is one
    assert (found[:, 2] <= found[:, 1] + 1e-3).all()
    surface = np.lib.stride_tricks.sliding_window_view(np.pad(maps[1], 1), (3, 3)).sum((2, 3))
    bare = np.lib.stride_tricks.sliding_window_view(np.pad(surface, 1, constant_values=-1), (3, 3)).reshape(12, 12, 9)
    strict = (bare.max(2) == surface) & ((bare == surface[..., None]).sum(2) == 1)
    counted = found[1, 2].sum()
    assert strict.ravel()[(zones >= 0).numpy()].sum() <= counted + 1e-3
    assert (zones == -1).any() and found.sum() < 3 * 3 * 144  # the masked pixel is in no histogram
