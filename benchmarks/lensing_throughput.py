"""Lens images per second beside caustics (vmap) and lenstronomy: same lens, same image, one thread, alternating.

    pip install -r benchmarks/peers/lensing-requirements.txt
    python benchmarks/lensing_throughput.py [--repeats 7]

64 x 64 pixels: elliptical power law, shear, NFW subhalo, Sersic source, 11 x 11 point spread function; float32 in
batches of 128 (lenstronomy: float64, one by one).  How far images are apart is told beside: lenstronomy's b_n differs,
and light from beyond the field is seen by ours alone, so the outermost eight pixels do not count.  Processor time is
what counts.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time

import numpy as np
import torch
from stored import stamp, store

from tmnre_lensing import halo
from tmnre_lensing.cosmology import Planes
from tmnre_lensing.optics import Grid, Optics
from tmnre_lensing.scene import EPL, Halo, Scene, Sersic, Shear

N, PIXELS, PIXEL = 128, 64, 0.0625
LINE = np.exp(-0.5 * (np.arange(-5, 6) / 1.5) ** 2)
PSF = np.outer(LINE, LINE) / LINE.sum() ** 2
Z_LENS, Z_SOURCE = 0.5, 2.0
CENTRE = {
    **{"lens_x_arcsec": 0.05, "lens_y_arcsec": -0.03, "lens_theta_e_arcsec": 1.2, "lens_e1": 0.1, "lens_e2": -0.08},
    **{"lens_slope": 2.05, "shear_gamma1": 0.03, "shear_gamma2": 0.02, "subhalo_x_arcsec": 0.8},
    **{"subhalo_y_arcsec": 0.9, "subhalo_log10_m200": 9.5, "source_x_arcsec": 0.05, "source_y_arcsec": 0.08},
    **{"source_e1": 0.1, "source_e2": 0.05, "source_n": 1.5, "source_r_eff_arcsec": 0.2, "source_brightness": 1.0},
}


def lenses() -> dict[str, np.ndarray]:
    """Parameters of N lenses that differ."""
    rng = np.random.default_rng(0)
    return {name: value + 0.01 * rng.standard_normal(N) for name, value in CENTRE.items()}


def ours(lens: dict[str, np.ndarray]):
    """A function that makes all images."""
    scene = Scene((EPL(), Shear(), Halo(Planes.at(Z_LENS, Z_SOURCE))), (Sersic(),))
    optics = Optics(Grid(PIXELS, PIXELS, PIXEL), PSF)
    theta = torch.from_numpy(np.stack([lens[name] for name in scene.parameters], 1)).float()
    x, y = optics.rays(torch.float32)

    def images() -> torch.Tensor:
        parts = [scene.values(part, scene.parameters) for part in theta.split(16)]
        return torch.cat([optics.image(scene.brightness(x, y, values)) for values in parts])

    return images


def axis_angle(e1: np.ndarray, e2: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Axis ratio and position angle from +x, in radians."""
    e = np.hypot(e1, e2)
    return (1 - e) / (1 + e), 0.5 * np.arctan2(e2, e1) + np.pi / 2


def caustics_vmap(lens: dict[str, np.ndarray]):
    """The same with caustics, all lenses in one vmap."""
    import caustics

    cosmology = caustics.FlatLambdaCDM(name="cosmology")
    z = {"z_l": Z_LENS, "z_s": Z_SOURCE}
    masses = [
        caustics.EPL(cosmology=cosmology, name="epl", **z),
        caustics.ExternalShear(cosmology=cosmology, name="shear", x0=0.0, y0=0.0, **z),
        caustics.NFW(cosmology=cosmology, name="nfw", **z),
    ]
    plane = caustics.SinglePlane(cosmology=cosmology, name="plane", lenses=masses, **z)
    simulator = caustics.LensSource(
        lens=plane,
        source=caustics.Sersic(name="source"),
        pixelscale=PIXEL,
        pixels_x=PIXELS,
        psf=torch.from_numpy(PSF).float(),
        name="sim",
    )
    simulator.to(dtype=torch.float32)
    q, phi = axis_angle(lens["lens_e1"], lens["lens_e2"])
    q_s, phi_s = axis_angle(lens["source_e1"], lens["source_e2"])
    # their effective radius lies on the major axis
    values = {
        "epl": {"x0": lens["lens_x_arcsec"], "y0": lens["lens_y_arcsec"], "q": q, "phi": phi}
        | {"Rein": lens["lens_theta_e_arcsec"], "t": lens["lens_slope"] - 1},
        "shear": {"gamma_1": -lens["shear_gamma1"], "gamma_2": -lens["shear_gamma2"]},
        "nfw": {"x0": lens["subhalo_x_arcsec"], "y0": lens["subhalo_y_arcsec"]}
        | {"mass": 10 ** lens["subhalo_log10_m200"], "c": np.full(N, 15.0)},
        "source": {"x0": lens["source_x_arcsec"], "y0": lens["source_y_arcsec"], "q": q_s, "phi": phi_s}
        | {"n": lens["source_n"], "Re": lens["source_r_eff_arcsec"] / np.sqrt(q_s), "Ie": lens["source_brightness"]},
    }
    parts = {"epl": masses[0], "shear": masses[1], "nfw": masses[2], "source": simulator.source}
    order = [name for name in ("epl", "shear", "nfw", "source")]
    # the flat order of parameters is the simulator's own
    index = {id(getattr(parts[k], name)): values[k][name] for k in order for name in values[k]}
    flat = np.stack([index[id(p)] for p in simulator.dynamic_params], 1)
    theta = torch.from_numpy(flat).float()
    batched = torch.vmap(simulator)
    return lambda: batched(theta) * PIXEL**2


def lenstronomy_loop(lens: dict[str, np.ndarray], power_law: str):
    """The same with lenstronomy, one after the other."""
    from lenstronomy.Data import psf
    from lenstronomy.Data.imaging_data import ImageData
    from lenstronomy.ImSim.image_model import ImageModel
    from lenstronomy.LensModel.lens_model import LensModel
    from lenstronomy.LightModel.light_model import LightModel

    first = -(PIXELS - 1) / 2 * PIXEL
    data = ImageData(
        image_data=np.zeros((PIXELS, PIXELS)),
        ra_at_xy_0=first,
        dec_at_xy_0=first,
        transform_pix2angle=np.eye(2) * PIXEL,
    )
    model = ImageModel(
        data,
        psf.PSF("PIXEL", kernel_point_source=PSF),
        lens_model_class=LensModel([power_law, "SHEAR", "NFW"]),
        source_model_class=LightModel(["SERSIC_ELLIPSE"]),
    )
    r_s, alpha_s = halo.scales(torch.from_numpy(lens["subhalo_log10_m200"]), 15.0, Planes.at(Z_LENS, Z_SOURCE))
    arguments = []
    for i in range(N):
        v = {name: float(column[i]) for name, column in lens.items()}
        epl = {"theta_E": v["lens_theta_e_arcsec"], "gamma": v["lens_slope"], "e1": -v["lens_e1"], "e2": -v["lens_e2"]}
        nfw = {"Rs": float(r_s[i]), "alpha_Rs": float(alpha_s[i]) * (1 - np.log(2))}
        source = {"amp": v["source_brightness"], "R_sersic": v["source_r_eff_arcsec"], "n_sersic": v["source_n"]}
        arguments.append(
            (
                [
                    epl | {"center_x": v["lens_x_arcsec"], "center_y": v["lens_y_arcsec"]},
                    {"gamma1": -v["shear_gamma1"], "gamma2": -v["shear_gamma2"], "ra_0": 0, "dec_0": 0},
                    nfw | {"center_x": v["subhalo_x_arcsec"], "center_y": v["subhalo_y_arcsec"]},
                ],
                [
                    source
                    | {"e1": -v["source_e1"], "e2": -v["source_e2"]}
                    | {"center_x": v["source_x_arcsec"], "center_y": v["source_y_arcsec"]}
                ],
            )
        )
    return lambda: np.stack([model.image(*pair) for pair in arguments])


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--repeats", type=int, default=7)
    options = parser.parse_args()
    torch.set_num_threads(1)
    lens = lenses()
    contestants = {
        "tmnre": ours(lens),
        "caustics": caustics_vmap(lens),
        "lenstronomy EPL": lenstronomy_loop(lens, "EPL"),
        "lenstronomy EPL_NUMBA": lenstronomy_loop(lens, "EPL_NUMBA"),
    }
    with torch.no_grad():
        first = {name: np.asarray(images(), dtype=float) for name, images in contestants.items()}
        reference = first["tmnre"][:, 8:-8, 8:-8]
        apart = {
            name: float(np.abs(found[:, 8:-8, 8:-8] * (reference.sum() / found[:, 8:-8, 8:-8].sum()) - reference).max())
            / reference.max()
            for name, found in first.items()
        }
        seconds: dict[str, list[float]] = {name: [] for name in contestants}
        for _ in range(options.repeats):
            for name, images in contestants.items():
                started = time.process_time()
                images()
                seconds[name].append(time.process_time() - started)
    found = {"made": stamp(), "largest difference over peak": apart}
    for name, each in seconds.items():
        ratios = [a / b for a, b in zip(each, seconds["tmnre"], strict=True)]
        found[name] = {
            "ms_per_image": [round(1e3 * s / N, 3) for s in each],
            "best_ms": round(1e3 * min(each) / N, 3),
            "ratio_median": round(statistics.median(ratios), 2),
            "ratio_of_best": round(min(each) / min(seconds["tmnre"]), 2),
        }
    print(json.dumps(found, indent=1))
    store("lensing_throughput", found)


if __name__ == "__main__":
    main()
