"""A lens model as a COOLEST file: plain JSON, with the images it speaks of as FITS files beside it.

COOLEST (Galan et al. 2023, JOSS 8, 5567; https://coolest.readthedocs.io) fixes conventions: lengths in arcsec, x to the
right and y upwards, angles in degrees in (-90, 90] counter-clockwise from +y, radii on the intermediate axis sqrt(a b),
images in e-/s.  The simulator has the same; only components become axis ratio and angle:

    PEMD            q = (1 - |e|) / (1 + |e|),  phi = atan2(e2, e1) / 2;  theta_E and gamma as they are
    ExternalShear   gamma_ext = |gamma|,  phi_ext = atan2(gamma2, gamma1) / 2, the direction that images stretch along
    Sersic          b_n = 1.9992 n - 0.3271 there; theta_eff and I_eff are changed so that the profile is the same
    NFW             r_s and rho_c of M200c and the concentration; round

Point estimates are the medians of the marginal posteriors, those of components before they become q, phi and so on, so
that they do not depend on where an angle jumps.  Statistics of what depends on several parameters are of draws of the
smallest marginal that has them all, and null where none was learned.  Those of an angle are taken within 90 degrees of
its point estimate and so may lie outside (-90, 90].

Verified with the package `coolest` 0.1.11: its reader takes the file with all its checks, the deflections of its PEMD
and ExternalShear are the simulator's to 1e-8 arcsec, and its model image, from the files written here, is the
simulator's to 1e-6 of the peak (`tests/lensing/test_coolest.py`, where the package is installed; where it is not, the
same against the formulas of its documentation).  Not verified by it, as it cannot compute with them: NFW, of which
COOLEST does not say the unit of rho_c.  Here that is Msun / arcsec^3 of the lens plane, and said so in `meta`; lens
equations need rho_c / Sigma_crit.  A truncated halo and a multipole have no name in COOLEST.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import numpy as np
import torch
from astropy.cosmology import Planck18
from astropy.io import fits
from torch import Tensor

from tmnre import Result, Uniform
from tmnre.files import write_json, write_whole
from tmnre.result import weighted_quantile
from tmnre_lensing import deflection, figures, halo
from tmnre_lensing.light import sersic_b
from tmnre_lensing.scene import EPL, Halo, Scene, Sersic, Shear
from tmnre_lensing.simulator import LensSimulator

Profile = dict[str, tuple[tuple[str, ...], Callable[..., Tensor]]]
"""{parameter of COOLEST: (the component's parameters that it depends on, how)}"""
ANGLES = ("phi", "phi_ext")
STATISTICS = ("mean", "median", "percentile_16th", "percentile_84th")


def write(
    folder: Path,
    result: Result,
    *,
    simulator: LensSimulator,
    image: np.ndarray,
    scene: Scene | None = None,
    redshifts: tuple[float | None, float | None] = (None, None),
    meta: Mapping[str, Any] | None = None,
) -> None:
    """Write coolest.json to folder, and coolest_image.fits, coolest_psf.fits and so on, which it names.

    image (ny, nx) : the observation in e-/s
    scene : what is written, where not the simulator's whole scene
    redshifts : of lens and source; with them goes the cosmology that made distances, Planck 2018
    meta : more to be said, in what JSON knows

    Raises KeyError where a free parameter of the scene has no marginal, ValueError where COOLEST has no profile like a
    component of the scene.
    """
    scene = scene or simulator.scene
    grid, optics, noise = simulator.optics.grid, simulator.optics, simulator.noise
    pixels = _grid(folder, "image", image, grid.pixel_arcsec)
    psf: dict[str, Any] = {"type": None}
    if optics.psf is not None:
        kernel = _grid(folder, "psf", optics.psf, grid.pixel_arcsec / optics.step)
        psf = {"type": "PixelatedPSF", "description": "as used in the analysis", "pixels": kernel}
    sd: dict[str, Any] = {"type": "UniformGaussianNoise", "std_dev": float(np.mean(noise.sd))}
    if np.ndim(noise.sd):
        sd = {"type": "NoiseMap", "noise_map": _grid(folder, "noise", np.asarray(noise.sd), grid.pixel_arcsec)}
    content: dict[str, Any] = {
        "standard": "COOLEST",
        "mode": "MAP",
        "coordinates_origin": {"ra": "00h00m00s", "dec": "+00d00m00s"},
        "lensing_entities": entities(scene, result, simulator, redshifts),
        "observation": {
            "pixels": pixels,
            "noise": sd,
            **dict.fromkeys(("exposure_time", "mag_zero_point", "mag_sky_brightness")),
        },
        "instrument": {"name": "", "band": "", "pixel_size": grid.pixel_arcsec, "readout_noise": 0.0, "psf": psf},
        "meta": _meta(scene, simulator) | dict(meta or {}),
    }
    if None not in redshifts:
        h0, omega_m = float(Planck18.H0.value), float(Planck18.Om0)
        content["cosmology"] = {"H0": h0, "Om0": omega_m, "astropy_name": "FlatLambdaCDM"}
    if not simulator.mask.all():
        mask = _grid(folder, "mask", simulator.mask.astype(np.uint8), grid.pixel_arcsec)
        content["likelihoods"] = [{"type": "ImagingDataLikelihood", "mask": mask}]
    write_json(folder / "coolest.json", content)


def beside_figures(result: Result, folder: Path, *, simulator: LensSimulator, image: np.ndarray) -> None:
    """lens.png in the folder of figures, and coolest.json in the run directory that holds it."""
    figures.lens(result, folder, simulator=simulator, image=image)
    write(folder.parent, result, simulator=simulator, image=image)


def entities(
    scene: Scene, result: Result, simulator: LensSimulator, redshifts: tuple[float | None, float | None]
) -> list[dict[str, Any]]:
    """Galaxies and mass fields of a scene: every mass and every source is one; lights belong to the first galaxy."""
    z_lens, z_source = redshifts
    known = _Known(scene, result, simulator)
    found: list[dict[str, Any]] = []

    def add(name: str, redshift: float | None, *, masses: Sequence[Any] = (), lights: Sequence[Any] = ()) -> None:
        field = bool(masses) and all(isinstance(mass, Shear) for mass in masses)
        kind, number = ("MassField" if field else "Galaxy"), len(found)
        models = {"mass": masses} if field else {"mass": masses, "light": lights}
        found.append(
            {
                "type": kind,
                "name": name,
                "redshift": redshift,
                **{
                    f"{model}_model": [
                        known.profile(part, f"{number}-{kind.lower()}-{model}-{i}") for i, part in enumerate(parts)
                    ]
                    for model, parts in models.items()
                },
            }
        )

    lights = scene.lights
    for mass in scene.masses:
        mine = () if isinstance(mass, Shear) else lights
        add(mass.name, z_lens, masses=(mass,), lights=mine)
        lights = lights[len(mine) :]
    for source in scene.sources:
        add(source.name, z_source, lights=(source,))
    return found


class _Known:
    """What is known of the parameters of a scene: medians, and draws of any few of them."""

    def __init__(self, scene: Scene, result: Result, simulator: LensSimulator) -> None:
        self.fixed, self.result, self.prior = scene.fixed, result, simulator.prior

    def profile(self, component: Any, number: str) -> dict[str, Any]:
        """A component as COOLEST has it; raises ValueError where it has not."""
        kind, table = _profile(component)
        name = f"{number}-{kind}"
        parameters = {
            parameter: {"id": f"{name}-{parameter}"}
            | self._parameter(parameter, [f"{component.name}_{need}" for need in needs], how)
            for parameter, (needs, how) in table.items()
        }
        return {"type": kind, "id": name, "parameters": parameters}

    def _parameter(self, parameter: str, needs: list[str], how: Callable[..., Tensor]) -> dict[str, Any]:
        point = float(how(*(_column(self._median(name)) for name in needs))[0])
        free = [name for name in needs if name not in self.fixed]
        drawn = self._draws(free) if free else None
        stats: dict[str, float | None] = dict.fromkeys(STATISTICS)
        if drawn is not None:
            values, weights = drawn
            of = (_column(self.fixed[name]) if name in self.fixed else torch.from_numpy(values[name]) for name in needs)
            z = how(*of).expand(len(weights)).numpy()
            if parameter in ANGLES:
                z = point + (z - point + 90) % 180 - 90
            numbers = (np.sum(weights * z), *weighted_quantile(z, weights, [0.5, 0.16, 0.84]))
            stats = dict(zip(STATISTICS, map(float, numbers), strict=True))
        return {
            "fixed": not free,
            "point_estimate": {"value": point},
            "posterior_stats": stats,
            "prior": self._prior(free) if how is _same else {"type": None},
        }

    def _median(self, name: str) -> float:
        if name in self.fixed:
            return float(self.fixed[name])
        drawn = self._draws([name])
        if drawn is None:
            raise KeyError(f"no marginal of {name} was learned, which the lens model needs")
        values, weights = drawn
        return float(weighted_quantile(values[name], weights, 0.5))

    def _draws(self, names: Sequence[str]) -> tuple[dict[str, np.ndarray], np.ndarray] | None:
        """{name: (S,)} and weights (S,), from the smallest marginal that has all of them; None where none has."""
        fitting = [key for key in self.result.marginals if set(names) <= set(key)]
        if not fitting:
            return None
        key = min(fitting, key=len)
        marginal = self.result.marginals[key]
        return {name: np.ascontiguousarray(marginal.samples[:, key.index(name)]) for name in names}, marginal.weights

    def _prior(self, names: list[str]) -> dict[str, Any]:
        if len(names) == 1 and isinstance(d := self.prior[names[0]], Uniform):
            return {"type": "UniformPrior", "min_value": d.low, "max_value": d.high}
        return {"type": None}


def _same(value: Tensor) -> Tensor:
    return value


CENTRE: Profile = {"center_x": (("x_arcsec",), _same), "center_y": (("y_arcsec",), _same)}
ELLIPSE: Profile = {
    "q": (("e1", "e2"), deflection.axis_ratio),
    "phi": (("e1", "e2"), deflection.position_angle_deg),
    **CENTRE,
}


def _profile(component: Any) -> tuple[str, Profile]:
    """Name of a component's profile, and its parameters."""
    if isinstance(component, EPL):
        return "PEMD", {"theta_E": (("theta_e_arcsec",), _same), "gamma": (("slope",), _same), **ELLIPSE}
    if isinstance(component, Shear):
        gamma = ("gamma1", "gamma2")
        return "ExternalShear", {"gamma_ext": (gamma, torch.hypot), "phi_ext": (gamma, deflection.position_angle_deg)}
    if isinstance(component, Sersic):
        return "Sersic", {
            "I_eff": (("brightness", "n"), lambda i, n: i * torch.exp(sersic_b(n) - _their_b(n))),
            "theta_eff": (("r_eff_arcsec", "n"), lambda r, n: r * (_their_b(n) / sersic_b(n)) ** n),
            "n": (("n",), _same),
            **ELLIPSE,
        }
    if isinstance(component, Halo) and component.tau is None:
        return "NFW", _halo(component)
    raise ValueError(
        f"COOLEST has no profile like {component.name}, {type(component).__name__}; leave it out of the scene"
    )


def _their_b(n: Tensor) -> Tensor:
    """b_n of COOLEST (Capaccioli 1989)."""
    return 1.9992 * n - 0.3271


def _halo(component: Halo) -> Profile:
    """r_s in arcsec and rho_c in Msun / arcsec^3, alpha_s = 4 rho_c r_s^2 / Sigma_crit (`halo`)."""
    planes, c = component.planes, component.concentration

    def rho_c() -> Tensor:
        # the same for all masses, as the concentration is
        r_s, alpha_s = halo.scales(_column(9.0), c, planes)
        return alpha_s * planes.sigma_crit_msun_arcsec2 / (4 * r_s**2)

    return {
        "r_s": (("log10_m200",), lambda m: halo.scales(m, c, planes)[0]),
        "rho_c": ((), rho_c),
        "q": ((), lambda: _column(1.0)),
        "phi": ((), lambda: _column(0.0)),
        **CENTRE,
    }


def _column(value: float) -> Tensor:
    return torch.tensor([value], dtype=torch.float64)


def _meta(scene: Scene, simulator: LensSimulator) -> dict[str, Any]:
    """Who wrote the file, and what the format has no room for."""
    try:
        code = f"tmnre-lensing {version('tmnre-lensing')}"
    except PackageNotFoundError:  # run from its sources
        code = "tmnre-lensing"
    notes = [
        "point estimates are medians of marginal posteriors, of ellipticity and shear component by component",
        "the origin of coordinates is the middle of the image, its right ascension and declination are not known",
    ]
    if any(isinstance(mass, Halo) for mass in scene.masses):
        notes.append("rho_c of NFW is in Msun / arcsec^3 of the lens plane")
    if simulator.noise.kernel is not None:
        notes.append("the noise is correlated between pixels, which its standard deviation does not show")
    if simulator.noise.exposure_s is not None:
        notes.append("the Poisson noise of the light comes on top of the noise")
    return {"code": code, "notes": notes}


def _grid(folder: Path, name: str, values: np.ndarray, pixel_arcsec: float) -> dict[str, Any]:
    """A regular grid about the origin, its values (ny, nx) written to coolest_NAME.fits."""
    path = folder / f"coolest_{name}.fits"
    write_whole(path, lambda temporary: fits.PrimaryHDU(values).writeto(temporary, overwrite=True))
    ny, nx = values.shape
    x, y = nx * pixel_arcsec / 2, ny * pixel_arcsec / 2
    return {
        "field_of_view_x": [-x, x],
        "field_of_view_y": [-y, y],
        "num_pix_x": nx,
        "num_pix_y": ny,
        "fits_file": {"path": path.name},
    }
