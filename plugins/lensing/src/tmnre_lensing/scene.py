"""A lens scene: components with named parameters, put together; rays are shot through its mass onto its light.

    Scene(masses=(EPL(), Shear()), sources=(Sersic("source"),), lights=(Sersic("light"),), fixed={"lens_slope": 2.0})

A component called `lens` has parameters `lens_theta_e_arcsec`, `lens_e1`, ...; what is not among the free parameters
has to be in `fixed`.  Everything is batched torch, differentiable, in the dtype of theta.  Adding a component is adding
a class.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor

from tmnre_lensing import deflection, halo, light
from tmnre_lensing.cosmology import Planes

Values = Mapping[str, Tensor]
"""of one component's parameters by their short names, each (N, 1)"""
CENTRE = ("x_arcsec", "y_arcsec")


@dataclass(frozen=True)
class EPL:
    """Elliptical power law (`deflection.epl`); slope 2 is isothermal."""

    name: str = "lens"
    parameters = (*CENTRE, "theta_e_arcsec", "e1", "e2", "slope")

    def deflection(self, x: Tensor, y: Tensor, p: Values) -> tuple[Tensor, Tensor]:
        """alpha_x, alpha_y (N, P) at rays x, y."""
        at = (x - p["x_arcsec"], y - p["y_arcsec"])
        return deflection.epl(*at, p["theta_e_arcsec"], p["e1"], p["e2"], slope=p["slope"])


@dataclass(frozen=True)
class Shear:
    """External shear about the origin."""

    name: str = "shear"
    parameters = ("gamma1", "gamma2")

    def deflection(self, x: Tensor, y: Tensor, p: Values) -> tuple[Tensor, Tensor]:
        """alpha_x, alpha_y (N, P) at rays x, y."""
        return deflection.shear(x, y, p["gamma1"], p["gamma2"])


@dataclass(frozen=True)
class Multipole:
    """Multipole of an isothermal lens (`deflection.multipole`), a and b as fractions of its convergence."""

    order: int
    name: str = "multipole"
    parameters = (*CENTRE, "theta_e_arcsec", "a", "b")

    def deflection(self, x: Tensor, y: Tensor, p: Values) -> tuple[Tensor, Tensor]:
        """alpha_x, alpha_y (N, P) at rays x, y."""
        at = (x - p["x_arcsec"], y - p["y_arcsec"])
        return deflection.multipole(*at, p["theta_e_arcsec"], p["a"], p["b"], order=self.order)


@dataclass(frozen=True)
class Halo:
    """NFW halo of log10_m200 in Msun, truncated at `tau` scale radii (Baltz et al. 2009) where that is given."""

    planes: Planes
    concentration: float = 15.0
    """r200 / r_s; 15 as in the group's papers, what the mass-concentration relation has for 1e9 Msun"""
    tau: float | None = None
    name: str = "subhalo"
    parameters = (*CENTRE, "log10_m200")

    def deflection(self, x: Tensor, y: Tensor, p: Values) -> tuple[Tensor, Tensor]:
        """alpha_x, alpha_y (N, P) at rays x, y."""
        scales = halo.scales(p["log10_m200"], self.concentration, self.planes)
        at = (x - p["x_arcsec"], y - p["y_arcsec"])
        return halo.nfw(*at, *scales) if self.tau is None else halo.tnfw(*at, *scales, self.tau)


@dataclass(frozen=True)
class Sersic:
    """Elliptical Sersic profile (`light.sersic`); brightness per square arcsec at r_eff."""

    name: str = "source"
    parameters = (*CENTRE, "e1", "e2", "n", "r_eff_arcsec", "brightness")

    def brightness(self, x: Tensor, y: Tensor, p: Values) -> Tensor:
        """Surface brightness (N, P) at rays x, y."""
        at = (x - p["x_arcsec"], y - p["y_arcsec"])
        return light.sersic(*at, p["brightness"], p["r_eff_arcsec"], p["n"], p["e1"], p["e2"])


@dataclass(frozen=True, eq=False)
class Pixels:
    """A source given as an image (H, W), row 0 at the bottom, bilinear between its pixels, zero outside.

    Its brightness is that of a pixel of value one, `size_arcsec` the side of the square from middle to middle of the
    outermost pixels.
    """

    values: np.ndarray
    name: str = "source"
    parameters = (*CENTRE, "size_arcsec", "brightness")

    def brightness(self, x: Tensor, y: Tensor, p: Values) -> Tensor:
        """Surface brightness (N, P) at rays x, y."""
        at_x, at_y = torch.broadcast_tensors(x - p["x_arcsec"], y - p["y_arcsec"])
        at_x, at_y = (at[None] if at.ndim == 1 else at for at in (at_x, at_y))
        values = torch.as_tensor(self.values, dtype=at_x.dtype, device=at_x.device).expand(len(at_x), -1, -1)
        return p["brightness"] * light.pixels(at_x, at_y, values, p["size_arcsec"])


@dataclass(frozen=True)
class Scene:
    """Masses in one plane, sources behind them and light in front, and the values of parameters that are not free."""

    masses: Sequence = (EPL(), Shear())
    sources: Sequence = (Sersic(),)
    lights: Sequence = ()
    fixed: Mapping[str, float] = field(default_factory=dict)

    @property
    def parameters(self) -> tuple[str, ...]:
        """Full names of all parameters, fixed ones included."""
        components = (*self.masses, *self.sources, *self.lights)
        return tuple(f"{c.name}_{parameter}" for c in components for parameter in c.parameters)

    def check(self, free: Sequence[str]) -> None:
        """Raises ValueError where parameters are neither free nor fixed, or are not the scene's."""
        known = (*free, *self.fixed)
        missing = [name for name in self.parameters if name not in known]
        strange = [name for name in known if name not in self.parameters]
        if missing or strange or len(set(self.parameters)) < len(self.parameters):
            raise ValueError(
                f"a scene with parameters {list(self.parameters)} lacks values of {missing} and does not know "
                f"{strange}; every component needs a name of its own, every parameter a prior or a fixed value"
            )

    def values(self, theta: Tensor, names: Sequence[str]) -> dict[str, Tensor]:
        """{full name: (N, 1)} of theta (N, D) and of what is fixed."""
        values = {name: theta[:, i : i + 1] for i, name in enumerate(names)}
        return values | {name: theta.new_full((1, 1), value) for name, value in self.fixed.items()}

    def deflection(self, x: Tensor, y: Tensor, values: Values) -> tuple[Tensor, Tensor]:
        """alpha_x, alpha_y (N, P) of all masses at rays x, y (P,) or (N, P)."""
        each = [mass.deflection(x, y, _of(mass, values)) for mass in self.masses] or [(0 * x, 0 * y)]
        alpha_x, alpha_y = each[0]
        for more_x, more_y in each[1:]:
            alpha_x, alpha_y = alpha_x + more_x, alpha_y + more_y
        return alpha_x, alpha_y

    def source_plane(self, x: Tensor, y: Tensor, values: Values) -> tuple[Tensor, Tensor]:
        """Where rays at x, y (P,) or (N, P) meet the source plane: beta_x, beta_y (N, P)."""
        alpha_x, alpha_y = self.deflection(x, y, values)
        return x - alpha_x, y - alpha_y

    def brightness(self, x: Tensor, y: Tensor, values: Values, at: tuple[Tensor, Tensor] | None = None) -> Tensor:
        """Surface brightness (N, P) that rays at x, y show: sources behind the lens and light of the lens itself.

        at: where the rays meet the source plane, if other than by this scene's masses alone.
        """
        at = self.source_plane(x, y, values) if at is None else at
        parts = [source.brightness(*at, _of(source, values)) for source in self.sources]
        parts += [part.brightness(x, y, _of(part, values)) for part in self.lights]
        return torch.stack(parts).sum(0) if len(parts) > 1 else parts[0]


def _of(component, values: Values) -> dict[str, Tensor]:
    return {parameter: values[f"{component.name}_{parameter}"] for parameter in component.parameters}
