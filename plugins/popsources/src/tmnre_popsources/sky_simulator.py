"""A HEALPix sky with a population of point sources and diffuse templates, photon by photon.

Every source draws a Poisson number of photons, every photon its own way through the point spread function, so that any
profile, any mask and any leakage over a region's edge is exact, at the cost of some 100 ns a photon.  Sources are
drawn in a margin about the region as well, by pixels of a template or evenly; within a pixel evenly.
"""

from __future__ import annotations

import healpy
import numpy as np
import torch
from torch import Tensor

from tmnre import Prior, Simulator
from tmnre_popsources import template_errors
from tmnre_popsources.fluxes import BrokenPowerLaw
from tmnre_popsources.patch import Summary
from tmnre_popsources.poisson import poisson
from tmnre_popsources.psf import PSF, Gaussian
from tmnre_popsources.sky import Sky, degrade
from tmnre_popsources.template_errors import TemplateErrors

FINE = 7
"""sources sit at the centres of pixels finer by 2^FINE along each side"""


class SkySimulator(Simulator):
    """Data {"counts": (N, P)}, or what `summary` makes of them, of a population and norms of templates.

    Parameters of theta: those of the flux law, fluxes in counts at the mean exposure and numbers per steradian, then
    one norm for every template.

    exposure (12 nside^2,) RING, any unit; templates {parameter: (P,) expected counts at norm one}; psf None: none;
    density (12 m^2,) RING: sources in proportion to it, with mean one over the region, at the sky's nside or, where it
        changes within a pixel, at an m that is 2, 4, ... up to 2^FINE times as large; None: evenly
    sources_at : fluxes F at which log10 of F^2 dN/dF is a derived quantity "log10_s2dnds_<F>"
    redraw_noise : draw the templates' photons anew at every use, those of sources are stored; False: store the summary
    uncertain : templates, by name, that are only known to a factor that varies over the sky, see `template_errors`; its
        scatter is the last parameter of theta then
    """

    derive_from = ()

    def __init__(
        self,
        sky: Sky,
        prior: Prior,
        *,
        law: BrokenPowerLaw,
        exposure: np.ndarray,
        templates: dict[str, np.ndarray],
        psf: PSF | None,
        density: np.ndarray | None = None,
        summary: Summary | None = None,
        sources_at: tuple[float, ...] = (),
        redraw_noise: bool = False,
        uncertain: tuple[str, ...] = (),
    ) -> None:
        self.sky, self.prior, self.law, self.psf, self.summary = sky, prior, law, psf, summary
        expected = (*self.parameters(tuple(templates)), *((template_errors.NAME,) if uncertain else ()))
        if prior.names != expected:
            raise ValueError(f"this sky needs a prior of {list(expected)}, got {list(prior.names)}")
        for name, values in templates.items():
            if np.shape(values) != (len(sky),) or not (np.isfinite(values).all() and np.min(values) >= 0):
                raise ValueError(
                    f"template {name!r} must hold {len(sky)} finite counts >= 0, one for each pixel of the region, got "
                    f"shape {np.shape(values)} with least {np.min(values):.3g}"
                )
        self.templates = torch.from_numpy(np.stack(list(templates.values()))).float()
        self._uncertain = torch.tensor([name in uncertain for name in templates])
        self._errors = TemplateErrors(sky) if uncertain else None
        self.sources_at, self._redraw = sources_at, redraw_noise
        self.derived = tuple(derived_name(flux) for flux in sources_at)
        if len(exposure) != 12 * sky.nside**2:
            raise ValueError(f"the exposure has {len(exposure)} pixels, the sky {12 * sky.nside**2}")
        wide = sky.ring_of_nest[sky.wide]
        self.relative_exposure = (exposure[wide] / sky.of_ring(exposure).mean()).astype(np.float32)
        share = np.ones(len(wide)) if density is None else self._shares(density)
        self.even = density is None
        """sources are spread evenly"""
        self.levels = 0 if density is None else _levels(density, sky.nside)
        """places of sources are pixels finer than the sky's by 2^levels"""
        self.solid_angle_sr = sky.pixel_sr / 4**self.levels * share.sum()
        self._upper = None if density is None else np.cumsum(share) / share.sum()

    def parameters(self, templates: tuple[str, ...]) -> tuple[str, ...]:
        """Names that the prior needs, in order."""
        return (*self.law.names, *templates)

    def split(self, theta: Tensor) -> tuple[Tensor, Tensor]:
        """Parameters of the flux law (N, k) and norms of the templates (N, T) of theta (N, D)."""
        k = len(self.law.names)
        return theta[:, :k], theta[:, k : k + len(self.templates)]

    def _shares(self, density: np.ndarray) -> np.ndarray:
        """Density of sources at every place, with mean one over the region."""
        levels = _levels(density, self.sky.nside)
        if not (np.isfinite(density).all() and np.min(density) >= 0):
            raise ValueError(f"a density of sources must be finite and >= 0, its least value is {np.min(density):.3g}")
        mean = self.sky.of_ring(degrade(density, self.sky.nside, "mean")).mean()
        places = (self.sky.wide[:, None] << 2 * levels) + np.arange(4**levels)
        return density[healpy.nest2ring(self.sky.nside << levels, places.ravel())] / mean

    @property
    def redraws_noise(self) -> bool:
        return self._redraw

    @property
    def any_device(self) -> bool:
        """What is stored can go anywhere; noise and summary are made on the processor."""
        return not self._redraw

    def derive(self, theta: Tensor, stored=None) -> dict[str, Tensor]:
        """log10 of F^2 dN/dF at the fluxes asked for, in counts per steradian."""
        p, _ = self.split(theta)
        log_flux = torch.tensor(self.sources_at, dtype=torch.float64, device=theta.device).log()
        return {
            derived_name(flux): (self.law.log_dn_dlogf(t, p) + t) / np.log(10.0)
            for flux, t in zip(self.sources_at, log_flux, strict=True)
        }

    def simulate(self, theta: np.ndarray, rng: np.random.Generator) -> dict[str, np.ndarray]:
        """Photons of sources {"photons": (N, P)}; the data themselves where noise is not redrawn."""
        generator = torch.Generator().manual_seed(int(rng.integers(2**62)))
        parts = []
        for some in np.array_split(theta, -(-len(theta) // 16)):
            photons = torch.from_numpy(np.stack([self.photons(row, rng) for row in some]))
            parts.append(
                {"photons": photons} if self._redraw else self._data(photons, torch.from_numpy(some), generator)
            )
        return {name: torch.cat([part[name] for part in parts]).numpy() for name in parts[0]}

    def observe(self, stored: dict[str, Tensor], theta: Tensor, generator: torch.Generator) -> dict[str, Tensor]:
        """Data with new photons of the templates, or as they are stored."""
        return self._data(stored["photons"], theta, generator) if self._redraw else stored

    def _data(self, photons: Tensor, theta: Tensor, generator: torch.Generator) -> dict[str, Tensor]:
        return self.summarised(photons + self.diffuse(theta, generator))

    def diffuse(self, theta: Tensor, generator: torch.Generator) -> Tensor:
        """Photons (N, P) of the templates, of theta (N, D)."""
        return poisson(self.expected(theta, generator), generator)

    def expected(self, theta: Tensor, generator: torch.Generator) -> Tensor:
        """Counts (N, P) expected of the templates, with new errors where they have some."""
        norms = self.split(theta)[1].float()
        expected = norms @ self.templates
        if self._errors is not None:
            some = norms[:, self._uncertain] @ self.templates[self._uncertain]
            expected += some * (self._errors.factors(theta[:, -1], generator) - 1)
        return expected

    def summarised(self, counts: Tensor) -> dict[str, Tensor]:
        """Counts (N, P) as the data that `observe` returns."""
        return {"counts": counts} if self.summary is None else self.summary(counts)

    def photons(self, theta: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """Photons (P,) float32 of newly drawn sources of one population theta (D,)."""
        return self.drawn(theta, rng)[0]

    def drawn(self, theta: np.ndarray, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """The same photons (P,), and the sources behind them: places (S,), ln F (S,).

        Places are NESTED pixels of nside 2^FINE times the sky's.  Where within its own pixel a source without photons,
        or one without scatter, sits makes no difference: in the middle.
        """
        p = self.split(torch.from_numpy(theta)[None])[0][0].float()
        number = rng.poisson(float(self.law.number(p)) * self.solid_angle_sr)
        log_flux = self.law.log_flux(torch.from_numpy(rng.random(number, dtype=np.float32)), p).numpy()
        where = self._where(number, rng)
        coarse = where >> 2 * self.levels
        within = 2 * (FINE - self.levels)
        first = ((self.sky.wide[coarse] << 2 * self.levels) + (where & (4**self.levels - 1))) << within
        at = first + (3 << within >> 2)
        photons = rng.poisson(np.exp(log_flux) * self.relative_exposure[coarse])
        seen = photons > 0
        if self.psf is None:
            place, weights = self.sky.place[self.sky.wide[coarse[seen]]], photons[seen]
        else:
            at[seen] = first[seen] + rng.integers(1 << within, size=seen.sum())
            place, weights = self.sky.place[self._scattered(at[seen], photons[seen], rng)], None
        on = place >= 0
        found = np.bincount(place[on], None if weights is None else weights[on], minlength=len(self.sky))
        return found.astype(np.float32), at, log_flux

    def _where(self, number: int, rng: np.random.Generator) -> np.ndarray:
        """Places among the pixels with sources, or among their parts."""
        if self._upper is None:
            return rng.integers(len(self.sky.wide), size=number)
        return np.searchsorted(self._upper, rng.random(number)).clip(max=len(self._upper) - 1)

    def _scattered(self, at: np.ndarray, photons: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """NESTED pixels (K,) of photons of sources at places (S,) as of `drawn`, `photons` (S,) of each.

        A step in the plane that touches the sphere at the source: it is tan r long, not r: 1e-4 of it at a degree.
        """
        nside = self.sky.nside
        x, y, z = healpy.pix2vec(nside << FINE, at, nest=True)
        # two directions across the line of sight; at the poles, where longitudes meet, any will do
        rho = np.maximum(np.hypot(x, y), 1e-12)
        east_x, east_y = -y / rho, x / rho
        north_x, north_y = -z * x / rho, -z * y / rho
        source = np.repeat(np.arange(len(at)), photons)
        east, north = self._step(len(source), rng)
        return healpy.vec2pix(
            nside,
            x[source] + east * east_x[source] + north * north_x[source],
            y[source] + east * east_y[source] + north * north_y[source],
            z[source] + north * rho[source],
            nest=True,
        )

    def _step(self, n: int, rng: np.random.Generator) -> np.ndarray:
        """Steps (2, n) in radians through the point spread function."""
        if isinstance(self.psf, Gaussian):
            return np.radians(self.psf.sigma_deg) * rng.standard_normal((2, n), dtype=np.float32)
        radius = np.radians(self.psf.radius_deg(torch.from_numpy(1 - rng.random(n))).numpy())
        angle = 2 * np.pi * rng.random(n)
        return radius * np.stack([np.cos(angle), np.sin(angle)])


def _levels(density: np.ndarray, nside: int) -> int:
    """By how many halvings of their sides a density's pixels are finer than those of nside."""
    levels = int(round(np.log2(len(density) / (12 * nside**2)) / 2))
    if not 0 <= levels <= FINE or len(density) != 12 * (nside << levels) ** 2:
        raise ValueError(
            f"a density of sources must be a HEALPix map at nside {nside} times 1, 2, 4, ... {2**FINE}, got "
            f"shape {np.shape(density)}"
        )
    return levels


def derived_name(flux: float) -> str:
    """Name of the derived quantity log10 of F^2 dN/dF at a flux."""
    return f"log10_s2dnds_{flux:g}"
