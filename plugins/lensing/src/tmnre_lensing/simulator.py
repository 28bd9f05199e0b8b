"""A strong-lens image: elliptical power-law mass and external shear bend the light of a Sersic source.

Image plane point (x, y) shows the source at (x, y) - alpha(x, y); the Gaussian point spread function blurs it, the
camera adds noise.  Lens light is taken as subtracted, the lens centre as known (the origin) and the source as round.
Conventions (axes, angles, radii, e-/s) are those of COOLEST, see `tmnre_lensing.deflection`.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch
from scipy import special
from torch import Tensor

from tmnre import Prior, Simulator, Uniform
from tmnre_lensing import deflection

IMAGES_AT_ONCE = 16
"""images in one batch of the ray shooting: all their arrays stay in the processor's cache"""


@dataclass(frozen=True)
class Camera:
    """What the image is taken with, and what is known of the source's light."""

    pixels: int = 40
    """pixels along each side; with the pixel scale a field of 5 arcsec, twice the largest Einstein ring"""
    pixel_arcsec: float = 0.125
    """pixel scale in arcsec; between Hubble's ACS (0.05) and Euclid's VIS (0.1) and the ground"""
    psf_fwhm_arcsec: float = 0.2
    """full width at half maximum of the Gaussian point spread function in arcsec"""
    noise_e_per_s: float = 0.3
    """standard deviation of the noise per pixel in e-/s, independent and Gaussian (sky-dominated exposure)"""
    oversampling: int = 2
    """rays per pixel side; the worst pixel of the smallest disc, 0.1 arcsec, is then off by less than half the noise"""
    lens_slope: float = 2.0
    """logarithmic slope of the lens's density; 2 is isothermal, the mean of observed lenses"""
    sersic_index: float = 1.0
    """Sersic index of the source; 1 is an exponential disc, as star-forming galaxies have"""
    source_e_per_s_arcsec2: float = 80.0
    """surface brightness of the source at its effective radius in e-/s/arcsec^2"""


PRIOR = Prior(
    theta_e_arcsec=Uniform(1.0, 2.0),
    # |e| <= 0.42, so the axis ratio stays above 0.4 and the series of the deflection converges to 1e-7
    e1=Uniform(-0.3, 0.3),
    e2=Uniform(-0.3, 0.3),
    gamma1=Uniform(-0.15, 0.15),
    gamma2=Uniform(-0.15, 0.15),
    source_x_arcsec=Uniform(-0.25, 0.25),
    source_y_arcsec=Uniform(-0.25, 0.25),
    source_r_eff_arcsec=Uniform(0.1, 0.5),
)

LABELS = {
    "theta_e_arcsec": r"$\theta_\mathrm{E}$ [arcsec]",
    "e1": "$e_1$",
    "e2": "$e_2$",
    "gamma1": r"$\gamma_1$",
    "gamma2": r"$\gamma_2$",
    "source_x_arcsec": r"$x_\mathrm{s}$ [arcsec]",
    "source_y_arcsec": r"$y_\mathrm{s}$ [arcsec]",
    "source_r_eff_arcsec": r"$\theta_\mathrm{eff}$ [arcsec]",
    "q": "$q$",
    "phi_deg": r"$\phi$ [deg]",
    "ring_shear1": r"$\gamma_1 - e_1/2$",
    "ring_shear2": r"$\gamma_2 - e_2/2$",
}


class LensSimulator(Simulator):
    """Images {"image": (N, pixels, pixels)} in e-/s per pixel, row 0 at the bottom; noise is drawn anew in `observe`.

    Derived quantities are the axis ratio `q` and the position angle `phi_deg` of the lens, and the shear of mass and
    surroundings together that the images see at the Einstein ring, `ring_shear` = gamma - e/2.  For small e the radial
    deflection of an isothermal lens there has the quadrupole of a shear -e/3, the tangential one that of -2e/3.  It is
    measured far better than e and gamma, which trade against each other: truncating it too keeps the region small.
    """

    derived = ("q", "phi_deg", "ring_shear1", "ring_shear2")

    def __init__(self, camera: Camera = Camera(), prior: Prior = PRIOR) -> None:  # noqa: B008 - frozen
        if prior.names != PRIOR.names:
            raise ValueError(f"the lens simulator needs a prior of {list(PRIOR.names)}, got {list(prior.names)}")
        self.camera = camera
        self.prior = prior
        rays = camera.pixel_arcsec / camera.oversampling
        sigma = camera.psf_fwhm_arcsec / math.sqrt(8 * math.log(2))
        # rays from outside the field too: their light is blurred into it
        margin = camera.oversampling * math.ceil(4 * sigma / camera.pixel_arcsec)
        n = camera.pixels * camera.oversampling + 2 * margin
        self.ray_arcsec = (np.arange(n) - (n - 1) / 2) * rays
        edges = (np.arange(camera.pixels + 1) - camera.pixels / 2) * camera.pixel_arcsec
        below = special.ndtr((edges[:, None] - self.ray_arcsec) / sigma)
        self.response = np.diff(below, axis=0)
        """share of the light of each ray that falls into each pixel, per axis (pixels, rays)"""

    @property
    def extent_arcsec(self) -> tuple[float, float, float, float]:
        """Edges of the field (left, right, bottom, top)."""
        half = self.camera.pixels * self.camera.pixel_arcsec / 2
        return (-half, half, -half, half)

    def source_plane(self, x: Tensor, y: Tensor, theta: Tensor) -> tuple[Tensor, Tensor]:
        """Where the image-plane points x, y (..., P) lie in the source plane, for theta (N, D): two tensors (N, P)."""
        theta_e, e1, e2, gamma1, gamma2 = theta[:, :5].T[..., None]
        mass = deflection.epl(x, y, theta_e, e1, e2, slope=self.camera.lens_slope)
        tide = deflection.shear(x, y, gamma1, gamma2)
        return x - mass[0] - tide[0], y - mass[1] - tide[1]

    def simulate(self, theta: np.ndarray, rng: np.random.Generator) -> dict[str, np.ndarray]:
        """Noise-free images (N, pixels, pixels) float32; does not use rng."""
        parts = torch.from_numpy(np.asarray(theta, dtype=np.float32)).split(IMAGES_AT_ONCE)
        return {"image": torch.cat([self._images(part) for part in parts]).numpy()}

    def _images(self, theta: Tensor) -> Tensor:
        camera = self.camera
        axis = torch.from_numpy(self.ray_arcsec).to(theta.dtype)
        x, y = axis.repeat(len(axis)), axis.repeat_interleave(len(axis))
        beta_x, beta_y = self.source_plane(x, y, theta)
        x_s, y_s, r_eff = theta[:, 5:8].T[..., None]
        radius = torch.hypot(beta_x - x_s, beta_y - y_s) / r_eff
        # half of a Sersic profile's light lies within r_eff
        b = float(special.gammaincinv(2 * camera.sersic_index, 0.5))
        brightness = torch.exp(-b * (radius ** (1 / camera.sersic_index) - 1))
        per_ray = camera.source_e_per_s_arcsec2 * (camera.pixel_arcsec / camera.oversampling) ** 2
        response = torch.from_numpy(self.response).to(theta.dtype)
        return response @ (per_ray * brightness.unflatten(1, (len(axis), len(axis)))) @ response.T

    def observe(self, stored: dict[str, Tensor], theta: Tensor, generator: torch.Generator) -> dict[str, Tensor]:
        """Images with new noise."""
        image = stored["image"]
        noise = torch.randn(image.shape, generator=generator, dtype=image.dtype).to(image.device)
        return {"image": image + self.camera.noise_e_per_s * noise}

    def derive(self, theta: Tensor, stored: dict[str, Tensor] | None = None) -> dict[str, Tensor]:
        """Axis ratio, position angle, and shear at the ring."""
        _, e1, e2, gamma1, gamma2, *_ = theta.T
        return {
            "q": deflection.axis_ratio(e1, e2),
            "phi_deg": deflection.position_angle_deg(e1, e2),
            "ring_shear1": gamma1 - e1 / 2,
            "ring_shear2": gamma2 - e2 / 2,
        }
