r"""Apparent magnitudes of standardised type Ia supernovae in a flat universe with constant w.

m_i = mu(z_i; Omega_m, w) + M + s_i.  The distance modulus mu comes from astropy.cosmology, for H0 = 70 km/s/Mpc; the
zero point M ~ N(0, 0.1 mag) takes up H0 and the absolute magnitude, the scatter is s_i ~ N(0, 0.15 mag).  Redshifts are
known.  After SICRET (2209.06733), without its selection effects, dust and redshift errors.
"""

from __future__ import annotations

import numpy as np
import torch
from astropy.cosmology import FlatwCDM
from torch import Tensor

from tmnre import Prior, Simulator, Uniform

LABELS = {"omega_m": r"$\Omega_m$", "w": "$w$"}
SCATTER_MAG, ZERO_POINT_MAG, HUBBLE = 0.15, 0.1, 70.0


class HubbleDiagram(Simulator):
    """Magnitudes {"magnitude": (N, n)} at n redshifts, given without the zero point's mean."""

    prior = Prior(omega_m=Uniform(0.05, 0.95), w=Uniform(-2.0, -0.3))

    def __init__(self, redshifts: np.ndarray) -> None:
        if redshifts.ndim != 1 or (redshifts <= 0).any():
            raise ValueError(f"redshifts must be one row of positive numbers, got shape {redshifts.shape}")
        self.redshifts = redshifts

    def moduli(self, omega_m: float, w: float) -> np.ndarray:
        """Distance moduli (n,) in mag."""
        return FlatwCDM(H0=HUBBLE, Om0=omega_m, w0=w).distmod(self.redshifts).value

    def simulate(self, theta: np.ndarray, rng: np.random.Generator) -> dict[str, np.ndarray]:
        """Distance moduli (N, n) for theta (N, 2)."""
        return {"modulus": np.array([self.moduli(*row) for row in theta], dtype=np.float32)}

    def observe(self, stored: dict[str, Tensor], theta: Tensor, generator: torch.Generator) -> dict[str, Tensor]:
        """Scatter of every supernova, and a zero point they share."""
        modulus = stored["modulus"]
        scatter = SCATTER_MAG * torch.randn(modulus.shape, generator=generator)
        return {"magnitude": modulus + scatter + ZERO_POINT_MAG * torch.randn(len(modulus), 1, generator=generator)}

    def log_likelihood(self, theta: np.ndarray, magnitude: np.ndarray) -> np.ndarray:
        """Log likelihood (N,) of magnitudes (n,), the zero point integrated out; but for a constant."""
        difference = magnitude - np.array([self.moduli(*row) for row in theta])
        # (s^2 1 + t^2 11^T)^-1 by the Sherman-Morrison formula
        ratio = ZERO_POINT_MAG**2 / (SCATTER_MAG**2 + len(magnitude) * ZERO_POINT_MAG**2)
        squares = (difference**2).sum(1) - ratio * difference.sum(1) ** 2
        return -0.5 * squares / SCATTER_MAG**2
