"""A flat patch of sky with a population of point sources: parameters to expected and observed counts, batched.

Sources of all maps of a batch lie in one list, `row` saying whose each is, so that nothing is padded.  The patch is
flat: longitudes are not foreshortened by cos b, which is 0.77 at the corners of 2211.04291's; that is part of the toy.

The number of sources is Poisson, where the paper draws exactly N: only then is any selection of sources independent of
the others, which is what detection-aware models rest on.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from tmnre import Prior, Simulator, Uniform
from tmnre_popsources.fluxes import FluxLaw, LogNormal
from tmnre_popsources.places import Disk
from tmnre_popsources.poisson import poisson
from tmnre_popsources.psf import PSF, Gaussian, Sampled

LOST = 1e-6
"""share of a source's photons that may fall outside of its stamp; as far out sources off the patch are followed"""
MAPS_AT_ONCE, AT_ONCE = 16, 128
"""maps whose stamps stay in the cache; maps of one batch of the simulator"""

PRIOR = Prior(
    expected_sources=Uniform(10.0, 500.0),
    flux_width=Uniform(1.0, 3.0),
    height_deg=Uniform(1.0, 20.0),
)
LABELS = {"expected_sources": r"$\lambda$", "flux_width": r"$\Sigma$", "height_deg": "$h$ [deg]"}


@dataclass(frozen=True)
class Patch:
    """The patch, the instrument and what is fixed of the population."""

    pixels: int = 64
    """pixels along each side"""
    half_width_deg: float = 40.0
    """half of the patch's side in degrees, as in 2211.04291; a pixel is then 1.25 degrees"""
    psf_deg: float = 0.94
    """standard deviation of the Gaussian point spread function in degrees; 2211.04291's 1.5 px of 0.625 degrees"""
    exposure: float = 1.0
    """counts expected of a source of unit flux"""
    background_counts: float = 1.0
    """expected counts per pixel from a known isotropic background; the median source (e counts) then hides in it"""
    mean_log_flux: float = 1.0
    """mean of ln flux, as in 2211.04291"""
    spread_l_deg: float = 20.0
    """standard deviation of longitude in degrees, as in 2211.04291"""
    as_published: bool = False
    """draw maps as the public code of 2211.04291 does: sources at pixel centres, none from off the patch, and what the
    blur carries over an edge reflected back in"""


class Sources(NamedTuple):
    """S sources of a batch of maps: whose each is, positions in degrees, ln flux; each (S,)."""

    row: Tensor
    l_deg: Tensor
    b_deg: Tensor
    log_flux: Tensor

    def of(self, keep: Tensor) -> Sources:
        """Those where keep (S,) is true, or at the places keep."""
        return Sources(*(column[keep] for column in self))

    def and_(self, other: Sources) -> Sources:
        """Both."""
        return Sources(*(torch.cat(columns) for columns in zip(self, other, strict=True)))


class Scene:
    """A population on a patch: law of fluxes, law of places, point spread function, exposure and diffuse emission.

    Columns of theta are the parameters of `fluxes`, then those of `places`.

    exposure : counts per unit flux, a number or an image (n, n); diffuse : expected counts of it, the same;
    closed : sources off the patch are dropped and the blur is reflected at its edges
    """

    def __init__(
        self,
        pixels: int,
        half_width_deg: float,
        *,
        fluxes: FluxLaw,
        places: Any,
        psf: PSF,
        exposure: float | Tensor = 1.0,
        diffuse: float | Tensor = 0.0,
        closed: bool = False,
    ) -> None:
        self.pixels, self.half_width_deg = pixels, half_width_deg
        self.pixel_deg = 2 * half_width_deg / pixels
        self.fluxes, self.places, self.psf, self.closed = fluxes, places, psf, closed
        self.exposure, self.diffuse = (
            torch.as_tensor(q, dtype=torch.float32).expand(pixels, pixels) for q in (exposure, diffuse)
        )
        self.reach = int(np.ceil(psf.reach_deg(LOST) / self.pixel_deg))
        self.names = (*fluxes.names, *places.names)
        self.edges = torch.linspace(-half_width_deg, half_width_deg, pixels + 1, dtype=torch.float64)

    @classmethod
    def of(cls, patch: Patch) -> Scene:
        """The toy of 2211.04291 on a patch."""
        psf = (Sampled if patch.as_published else Gaussian)(patch.psf_deg)
        return cls(
            *(patch.pixels, patch.half_width_deg),
            fluxes=LogNormal(patch.mean_log_flux),
            places=Disk(patch.spread_l_deg),
            psf=psf,
            exposure=patch.exposure,
            diffuse=patch.background_counts,
            closed=patch.as_published,
        )

    def split(self, theta: Tensor) -> tuple[Tensor, Tensor]:
        """Parameters of fluxes and of places, from theta (..., D)."""
        k = len(self.fluxes.names)
        return theta[..., :k], theta[..., k:]

    def draw(self, theta: Tensor, generator: torch.Generator) -> Sources:
        """All sources, on the patch or off it, of populations theta (N, D)."""
        p, _ = self.split(theta)
        numbers = torch.poisson(self.fluxes.number(p).double(), generator).long()
        row = torch.arange(len(theta)).repeat_interleave(numbers)
        p, q = self.split(theta[row].float())
        log_flux = self.fluxes.log_flux(torch.rand(len(row), generator=generator), p)
        return Sources(row, *self.places.draw(q, generator), log_flux)

    def log_intensity(self, sources: Sources, theta: Tensor) -> Tensor:
        """ln of the expected number of sources per d ln F dl db, at S sources under theta, which broadcasts."""
        p, q = self.split(theta)
        density = self.fluxes.log_density(sources.log_flux, p) + self.places.log_density(*sources[1:3], q)
        return self.fluxes.number(p).log() + density

    def pixel_of(self, sources: Sources) -> tuple[Tensor, Tensor]:
        """Row and column (S,) of the pixel every source is in; outside of [0, n) where it is off the patch."""
        places = ((x + self.half_width_deg) / self.pixel_deg for x in (sources.b_deg, sources.l_deg))
        rows, columns = (q.floor().long() for q in places)
        return rows, columns

    def inside(self, sources: Sources) -> Tensor:
        """Which sources (S,) are on the patch."""
        return torch.maximum(sources.l_deg.abs(), sources.b_deg.abs()) < self.half_width_deg

    def expected(self, sources: Sources, n: int) -> Tensor:
        """Counts expected from the sources (n, pixels, pixels) of n maps; rows are latitude, columns longitude."""
        image = torch.zeros(n, self.pixels, self.pixels)
        margin = self.half_width_deg + (0.0 if self.closed else self.reach * self.pixel_deg)
        near = torch.maximum(sources.l_deg.abs(), sources.b_deg.abs()) < margin
        sources = sources.of(near)
        for part in sources.row.div(MAPS_AT_ONCE, rounding_mode="floor").unique():
            self._add(image, sources.of(sources.row.div(MAPS_AT_ONCE, rounding_mode="floor") == part))
        return image * self.exposure

    def _add(self, image: Tensor, sources: Sources) -> None:
        places = torch.stack([sources.b_deg, sources.l_deg]).add(self.half_width_deg).div(self.pixel_deg)
        pixel = places.floor()
        stamp = self.psf.stamp(places - pixel - 0.5, self.pixel_deg, self.reach) * sources.log_flux.exp()[:, None, None]
        around = pixel.int()[..., None] + torch.arange(-self.reach, self.reach + 1, dtype=torch.int32)
        n = self.pixels
        if self.closed:
            around = torch.where(around < 0, -1 - around, around)
            around = torch.where(around >= n, 2 * n - 1 - around, around)
        else:
            # a margin of the stamp's width about every map takes what falls off it
            around = around + 2 * self.reach
            n += 4 * self.reach
        target = image if self.closed else torch.zeros(int(sources.row.max() - sources.row.min()) + 1, n, n)
        first = 0 if self.closed else sources.row.min()
        rows = (sources.row - first).int()[:, None] * n + around[0]
        place = rows[:, :, None] * n + around[1][:, None]
        target.view(-1).index_add_(0, place.view(-1), stamp.reshape(-1))
        if not self.closed:
            inner = slice(2 * self.reach, 2 * self.reach + self.pixels)
            image[first : first + len(target)] += target[:, inner, inner]

    def counts(self, expected: Tensor, generator: torch.Generator) -> Tensor:
        """Poisson counts of expected counts of sources (N, n, n) and the diffuse emission."""
        return poisson(expected + self.diffuse, generator)


Summary = Callable[[Tensor], dict[str, Tensor]]
"""counts (N, n, n) -> {"name": (N, ...)}, what networks are trained on"""


class PatchSimulator(Simulator):
    """Data of maps of populations theta: {"counts": (N, n, n)}, or what `summary` makes of them.

    redraw_noise : store the counts expected and draw Poisson noise and summary anew at every use; False: store the
        summary.  Drawing a map and summarising it takes as long as ten uses of it in training, so that for the same
        time there may be several times as many populations with False, whose scatter is larger than the noise's.
    """

    def __init__(
        self,
        scene: Scene | Patch = Patch(),  # noqa: B008 - frozen
        prior: Prior = PRIOR,
        *,
        summary: Summary | None = None,
        redraw_noise: bool = True,
    ) -> None:
        self.scene = Scene.of(scene) if isinstance(scene, Patch) else scene
        if prior.names != self.scene.names:
            raise ValueError(f"this scene needs a prior of {list(self.scene.names)}, got {list(prior.names)}")
        self.prior, self.summary, self._redraw = prior, summary, redraw_noise

    @property
    def redraws_noise(self) -> bool:
        return self._redraw

    @property
    def any_device(self) -> bool:
        """What is stored can go anywhere; noise and summary are made on the processor."""
        return not self._redraw

    def sources(self, theta: Tensor, generator: torch.Generator) -> Sources:
        """Newly drawn sources of maps of theta (N, D)."""
        return self.scene.draw(theta, generator)

    def simulate(self, theta: np.ndarray, rng: np.random.Generator) -> dict[str, np.ndarray]:
        """{"expected": (N, n, n)}, counts expected of the sources; the data themselves where noise is not redrawn."""
        generator = torch.Generator().manual_seed(int(rng.integers(2**62)))
        parts: list[dict[str, Tensor]] = []
        for some in torch.from_numpy(theta).split(AT_ONCE):
            expected = self.scene.expected(self.sources(some, generator), len(some))
            parts.append({"expected": expected} if self._redraw else self.data(expected, generator))
        return {name: torch.cat([part[name] for part in parts]).numpy() for name in parts[0]}

    def observe(self, stored: dict[str, Tensor], theta: Tensor, generator: torch.Generator) -> dict[str, Tensor]:
        """Data with new Poisson noise, or as they are stored."""
        return self.data(stored["expected"], generator) if self._redraw else stored

    def data(self, expected: Tensor, generator: torch.Generator) -> dict[str, Tensor]:
        """Noise and summary of expected counts of sources (N, n, n)."""
        return self.summarised(self.scene.counts(expected, generator))

    def summarised(self, counts: Tensor) -> dict[str, Tensor]:
        """Counts (N, n, n) as the data that `observe` returns."""
        return {"counts": counts} if self.summary is None else self.summary(counts)
