"""Populations of perturbing haloes, drawn and put into the light's way: subhaloes of the lens, and the line of sight.

A population is drawn as in cold dark matter; each halo is then kept with the probability warm / cold of its mass, which
leaves a Poisson process with the warm mass function.  The line of sight is cut into planes, whose haloes are spread
evenly over the field.  On its way back from the observer at theta a ray meets

    x_j = theta - sum_{i nearer than j} beta_ij alpha_i(x_i),        beta_ij = D_ij D_s / (D_j D_is)

alpha_i the deflection as seen from the source, D angular-diameter distances.  That haloes shift where other haloes are
met is neglected, being of second order in small deflections; that the lens shifts where haloes behind it are met, and
haloes in front of it where it is met, is not.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

import numpy as np
import torch
from astropy import units as u
from astropy.cosmology import Planck18
from scipy.integrate import cumulative_trapezoid
from torch import Tensor

from tmnre_lensing import halo, massfunction
from tmnre_lensing.cosmology import Planes, beta

AT_ONCE = 100_000
"""rays through haloes that are computed together: their arrays stay in the processor's cache"""
MASSES = 200
"""points of the mass function of a plane"""
Deflection = Callable[[Tensor, Tensor], tuple[Tensor, Tensor]]


class Drawn(NamedTuple):
    """Haloes (H,) of a batch of images: whose, where in arcsec on their plane, how heavy, how dense, on which plane."""

    image: np.ndarray
    x_arcsec: np.ndarray
    y_arcsec: np.ndarray
    log10_m200: np.ndarray
    concentration: np.ndarray
    plane: np.ndarray


@dataclass(frozen=True)
class Population:
    """Perturbers of a lens.

    Attributes
    ----------
    z_lens, z_source : redshifts
    log10_m200 : range of masses in Msun; lighter haloes are left out, heavier ones are not perturbers
    line_of_sight : haloes in front of and behind the lens, as a share of what the mass function has; 0: none
    tau : truncation radius of all haloes over their scale radius (Baltz et al. 2009)
    planes : planes in front of the lens, and as many behind it
    """

    z_lens: float
    z_source: float
    log10_m200: tuple[float, float] = (8.0, 10.3)
    line_of_sight: float = 1.0
    tau: float = 6.0
    planes: int = 8

    def __post_init__(self) -> None:
        Planes.at(self.z_lens, self.z_source)
        low, high = self.log10_m200
        if not (low < high and self.line_of_sight >= 0 and self.planes >= 1 and self.tau > 0):
            raise ValueError(
                f"a population needs a range of masses, line_of_sight >= 0, planes >= 1 and tau > 0, got {self}"
            )

    @cached_property
    def redshifts(self) -> np.ndarray:
        """Of all planes, nearest first, the lens's in the middle; between planes its slice of redshift is cut."""
        before, behind = self._edges
        middles = [(e[1:] + e[:-1]) / 2 for e in (before, behind)]
        return np.concatenate([middles[0], [self.z_lens], middles[1]])

    @property
    def lens_plane(self) -> int:
        """Number of the lens's plane."""
        return self.planes

    @property
    def _edges(self) -> tuple[np.ndarray, np.ndarray]:
        return (
            np.linspace(0.0, self.z_lens, self.planes + 1),
            np.linspace(self.z_lens, self.z_source, self.planes + 1),
        )

    @cached_property
    def _optics(self) -> dict[str, np.ndarray]:
        """Of every plane: critical densities, scale, and beta between it and the lens."""
        at = [Planes.at(z, self.z_source) for z in self.redshifts]
        names = ("sigma_crit_msun_arcsec2", "rho_crit_msun_mpc3", "mpc_per_arcsec")
        found = {name: np.array([getattr(p, name) for p in at]) for name in names}
        found["beta"] = np.array(
            [beta(min(z, self.z_lens), max(z, self.z_lens), self.z_source) for z in self.redshifts]
        )
        return found

    def subhaloes_per_arcsec2(self, f_sub: np.ndarray) -> np.ndarray:
        """Expected cold subhaloes, whose mean surface density is f_sub times half the critical one.

        Half the critical density is the lens's own at the Einstein radius, if it is isothermal.
        """
        low, high = (10.0**m for m in self.log10_m200)
        s = massfunction.SLOPE
        mean_mass = s / (1 - s) * (high ** (1 - s) - low ** (1 - s)) / (low**-s - high**-s)
        return np.asarray(f_sub) * 0.5 * self._optics["sigma_crit_msun_arcsec2"][self.lens_plane] / mean_mass

    @cached_property
    def _field(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Masses (M,), and of every plane expected haloes per square arcsec (P,) and their distribution (P, M)."""
        grid = np.linspace(*self.log10_m200, MASSES)
        density = massfunction.MassFunction().density(grid, self.redshifts)
        cumulative = cumulative_trapezoid(density, grid * np.log(10), initial=0)
        before, behind = self._edges
        # the lens's own plane is no slice of the line of sight: it has no volume
        near, far = (np.concatenate([before[s], [self.z_lens], behind[s]]) for s in (slice(-1), slice(1, None)))
        volume = (Planck18.comoving_volume(far) - Planck18.comoving_volume(near)).to_value(u.Mpc**3)
        per_arcsec2 = volume / (4 * np.pi) * u.arcsec.to(u.rad) ** 2
        number = self.line_of_sight * per_arcsec2 * cumulative[:, -1]
        return grid, number, cumulative / cumulative[:, -1:]

    def draw(
        self,
        log10_m_hm: np.ndarray,
        f_sub: np.ndarray,
        extent_arcsec: tuple[float, float, float, float],
        rng: np.random.Generator,
    ) -> Drawn:
        """Haloes of N images with half-mode masses (N,) in Msun and fractions (N,), over (left, right, bottom, top)."""
        left, right, bottom, top = extent_arcsec
        area, n = (right - left) * (top - bottom), len(log10_m_hm)
        grid, number, cumulative = self._field
        expected = np.tile(number * area, (n, 1))
        expected[:, self.lens_plane] = self.subhaloes_per_arcsec2(f_sub) * area
        counts = rng.poisson(expected)
        image, plane = (np.repeat(index, counts.ravel()) for index in map(np.ravel, np.indices(counts.shape)))
        log10_m = np.empty(len(image))
        for k in range(len(number)):
            here = np.flatnonzero(plane == k)
            v = rng.random(len(here))
            log10_m[here] = self._subhalo_mass(v) if k == self.lens_plane else np.interp(v, cumulative[k], grid)
        mine, m_hm = plane == self.lens_plane, np.asarray(log10_m_hm)[image]
        share = np.where(
            mine,
            massfunction.warm_share(log10_m, m_hm, massfunction.SUBHALOES),
            massfunction.warm_share(log10_m, m_hm, massfunction.FIELD),
        )
        x, y = rng.uniform(left, right, len(image)), rng.uniform(bottom, top, len(image))
        c = massfunction.concentration(log10_m, self.redshifts[plane], m_hm)
        keep = rng.random(len(image)) < share
        return Drawn(*(column[keep] for column in (image, x, y, log10_m, c, plane)))

    def _subhalo_mass(self, v: np.ndarray) -> np.ndarray:
        """log10 of masses with dN / d ln m ~ m^-SLOPE at cumulative probabilities v."""
        low, high = (10.0 ** (-massfunction.SLOPE * m) for m in self.log10_m200)
        return np.log10(low + v * (high - low)) / -massfunction.SLOPE

    def perturbers(self, drawn: Drawn, dtype: torch.dtype) -> Perturbers:
        """Drawn haloes as rays meet them."""
        optics = {name: torch.from_numpy(values[drawn.plane][:, None]) for name, values in self._optics.items()}
        planes = Planes(*(optics[n] for n in ("sigma_crit_msun_arcsec2", "rho_crit_msun_mpc3", "mpc_per_arcsec")))
        log10_m, c, x, y = (
            torch.from_numpy(column[:, None])
            for column in (drawn.log10_m200, drawn.concentration, drawn.x_arcsec, drawn.y_arcsec)
        )
        columns = (v.to(dtype) for v in (x, y, *halo.scales(log10_m, c, planes), optics["beta"]))
        side = torch.from_numpy(np.sign(drawn.plane - self.lens_plane))
        return Perturbers(torch.from_numpy(drawn.image), side, *columns, self.tau)


class Perturbers(NamedTuple):
    """Haloes of a batch of images: image and side (H,), the rest (H, 1).

    side: -1 in front of the lens, 0 in its plane, 1 behind it
    """

    image: Tensor
    side: Tensor
    x: Tensor
    y: Tensor
    r_s: Tensor
    alpha_s: Tensor
    beta: Tensor
    tau: float

    def of_image(self, number: int) -> Perturbers:
        """Those of one image of the batch."""
        mine = torch.nonzero(self.image == number)[:, 0]
        return Perturbers(*(v[mine] for v in self[:-1]), self.tau)

    def bend(self, x: Tensor, y: Tensor, deflection: Deflection) -> tuple[Tensor, Tensor]:
        """Where rays at x, y (P,) of one image meet the source plane (1, P), with the lens's own deflection(x, y)."""
        before, inside, behind = (torch.nonzero(self.side == side)[:, 0] for side in (-1, 0, 1))
        far, near = x.new_zeros(2, len(x)), x.new_zeros(2, len(x))  # what the source sees of deflections, and the lens
        for some in self._parts(before, len(x)):
            alpha = self._alpha(some, x, y)
            far, near = far + alpha.sum(1), near + (self.beta[some] * alpha).sum(1)
        at = x - near[0], y - near[1]
        lens = torch.cat(deflection(*at))
        far = far + lens
        for some in self._parts(inside, len(x)):
            far = far + self._alpha(some, *at).sum(1)
        for some in self._parts(behind, len(x)):
            far = far + self._alpha(some, x - self.beta[some] * lens[0], y - self.beta[some] * lens[1]).sum(1)
        return (x - far[0])[None], (y - far[1])[None]

    def _parts(self, rows: Tensor, rays: int) -> list[Tensor]:
        return list(rows.split(max(1, AT_ONCE // rays))) if len(rows) else []

    def _alpha(self, some: Tensor, x: Tensor, y: Tensor) -> Tensor:
        """alpha (2, h, P) of some haloes at rays (P,) or (h, P)."""
        at = (x - self.x[some], y - self.y[some])
        return torch.stack(halo.tnfw(*at, self.r_s[some], self.alpha_s[some], self.tau))
