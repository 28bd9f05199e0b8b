"""What the log ratios of all bins say: is there a subhalo, where, how heavy; and how far that can be trusted."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from tmnre_lensing.subhalo.bins import Bins
from tmnre_lensing.subhalo.filters import Filters


def posterior(log_r: Tensor, bins: Bins) -> Tensor:
    """Probability (N, K) of every bin."""
    return torch.exp(log_r.double() + bins.log_prior)


def log10_bayes_factor(log_r: Tensor, bins: Bins) -> Tensor:
    """log10 of the Bayes factor (N,) of a subhalo against none."""
    within = bins.log_prior[1:] - torch.log1p(-torch.tensor(bins.p_none))
    return (torch.logsumexp(log_r[:, 1:].double() + within, 1) - log_r[:, 0].double()) / np.log(10)


def verdict(log_r: Tensor, bins: Bins) -> dict[str, object]:
    """Of one image's log_r (K,), in what JSON knows; position and mass given that there is a subhalo."""
    p = posterior(log_r[None], bins)[0]
    maps = bins.maps(p[None])[0] / p[1:].sum()
    x, y = (torch.from_numpy(axis) for axis in bins.grid.__class__(*bins.grid.shape, bins.grid.pixel_arcsec).axes())
    where, mass = maps.sum(0), maps.sum((1, 2))
    mean = [float((where * x).sum()), float((where * y[:, None]).sum())]
    spread = [
        float((where * (x - mean[0]) ** 2).sum().sqrt()),
        float((where * (y[:, None] - mean[1]) ** 2).sum().sqrt()),
    ]
    row, column = divmod(int(where.argmax()), bins.grid.nx)
    centres = torch.from_numpy(bins.centres)
    mean_mass = float((mass * centres).sum())
    return {
        "p_subhalo": float(p[1:].sum()),
        "log10_bayes_factor": float(log10_bayes_factor(log_r[None], bins)),
        "position_mean_arcsec": mean,
        "position_sd_arcsec": spread,
        "position_mode_arcsec": [float(x[column]), float(y[row])],
        "log10_m200_bins": bins.edges.tolist(),
        "log10_m200_posterior": mass.tolist(),
        "log10_m200_mean": mean_mass,
        "log10_m200_sd": float((mass * (centres - mean_mass) ** 2).sum().sqrt()),
    }


def draws(log_r: Tensor, bins: Bins, n: int, seed: int) -> np.ndarray:
    """Draws (n, 3) of x, y in arcsec and log10 M200, given that there is a subhalo, of one image's log_r (K,).

    Uniform within a bin, as bins are all that the network tells apart.
    """
    return draws_of(posterior(log_r[None], bins)[0, 1:].numpy(), bins, n, seed)


def draws_of(p: np.ndarray, bins: Bins, n: int, seed: int) -> np.ndarray:
    """The same from probabilities (K - 1,) of the bins, up to a factor."""
    rng = np.random.default_rng(seed)
    step = np.array([bins.grid.pixel_arcsec, bins.grid.pixel_arcsec, bins.edges[1] - bins.edges[0]])
    return bins.at_centres()[rng.choice(len(p), n, p=p / p.sum())] + step * (rng.random((n, 3)) - 0.5)


def reliability(p_subhalo: np.ndarray, there: np.ndarray, parts: int = 10) -> list[dict[str, float]]:
    """Of mocks in tenths of the probability: their number, mean probability, and the share that does hold a subhalo."""
    found = []
    for low in np.arange(parts) / parts:
        inside = (p_subhalo >= low) & ((p_subhalo < low + 1 / parts) | (low + 1 / parts >= 1))
        if inside.any():
            mean, share = float(p_subhalo[inside].mean()), float(there[inside].mean())
            found.append({"mocks": int(inside.sum()), "probability": mean, "share": share})
    return found


def shares(found: np.ndarray, log10_m: np.ndarray, there: np.ndarray, bins: Bins) -> dict[str, float]:
    """Of subhaloes (n,) that are there: the share found, by bin of mass."""
    return {
        f"{low:.1f} < log10 M < {high:.1f}": float(found[inside].mean())
        for low, high in zip(bins.edges, bins.edges[1:], strict=False)
        if (inside := there & (log10_m >= low) & (log10_m < high)).any()
    }


def sensitivity(filters: Filters, bins: Bins, sigma: float = 5.0) -> np.ndarray:
    """log10 M200 (ny, nx) of the lightest subhalo that is expected to stand out by so many sigma; NaN: none in range.

    From the linear filters, lens and source marginalised; the logarithm of the expected signal-to-noise ratio is
    interpolated linearly between the bins of mass.
    """
    snr = torch.sqrt(bins.maps(filters.squared_snr[None])[0].clamp_min(1e-12)).numpy()
    log_snr, centres = np.log(snr), bins.centres
    found = np.full(bins.grid.shape, np.nan)
    for i in range(bins.masses - 2, -1, -1):
        low, high = log_snr[i], log_snr[i + 1]
        share = (np.log(sigma) - low) / np.maximum(high - low, 1e-9)
        crossing = (share >= 0) & (share <= 1)
        found[crossing] = (centres[i] + share * (centres[i + 1] - centres[i]))[crossing]
    found[log_snr[0] > np.log(sigma)] = centres[0]
    return found
