"""gw/bbh with its defaults on events that nothing was tuned to: mocks of them, as files that are found by their name.

    python validation/gw_events.py [three light] [--runs DIR]

three: a binary like GW170814, seen by Hanford, Livingston and Virgo.  light: one like GW151226, of 15 and 8 Msun, 10 s
in the band; masses and duration have to be asked for.  bilby puts them into noise of GW150914's PSDs (Virgo: three
times Hanford's amplitude, smoothed).  The runs find strain and PSDs under $TMNRE_DATA/gw and know no truth; the
reference is the sampler of `gw_injections.py` inside the last region.  Writes to results/gw_exact.json.
"""

from __future__ import annotations

import argparse
import json
import os
from pathlib import Path
from typing import NamedTuple

import bilby
import numpy as np
from gw150914 import COMPARED
from gw_exact import analysed, found, independent, kept
from gw_injections import LENGTH_S, RATE_HZ, generator, write_strain
from scipy.ndimage import uniform_filter1d

from tmnre import settings as typed
from tmnre.plugin import find_recipe
from tmnre_gw import sources
from tmnre_gw.strain import SITES


class Event(NamedTuple):
    """A mock: GPS s of its trigger, detectors, parameters in bilby's names, and what has to be asked for."""

    name: str
    trigger_gps_s: float
    detectors: tuple[str, ...]
    truth: dict[str, float]
    options: tuple[str, ...] = ()


SPINS = {"phi_12": 1.0, "phi_jl": 2.0, "a_2": 0.4}
EVENTS = {
    "three": Event(
        *("GW170814", 1186741861.53, ("H1", "L1", "V1")),
        {
            **{"mass_1": 33.5, "mass_2": 27.5, "luminosity_distance": 600.0, "theta_jn": 0.6, "a_1": 0.4, **SPINS},
            **{"tilt_1": 1.2, "tilt_2": 1.7, "ra": 0.83, "dec": -0.77, "psi": 1.3, "phase": 2.0},
        },
    ),
    "light": Event(
        *("GW151226", 1135136350.65, ("H1", "L1")),
        {
            **{"mass_1": 15.0, "mass_2": 8.4, "luminosity_distance": 215.0, "theta_jn": 0.9, "a_1": 0.6, **SPINS},
            **{"tilt_1": 0.8, "tilt_2": 1.0, "ra": 2.3, "dec": 0.4, "psi": 0.7, "phase": 1.0},
        },
        ("--prior.component_mass_msun=[6.5,50]", "--prior.luminosity_distance_mpc=[10,1000]", "--duration_s=16"),
    ),
}


def write_files(event: Event, settings, psds: Path, folder: Path) -> dict[str, float]:
    """Strain of every detector and the table of PSDs, with the names that GWOSC gives them; the truth."""
    folder.mkdir(parents=True, exist_ok=True)
    bilby.core.utils.random.seed(1)
    table = np.loadtxt(psds)
    virgo = 9 * np.exp(uniform_filter1d(np.log(table[:, 1]), 41))
    columns = {"H1": table[:, 1], "L1": table[:, 2], "V1": virgo}
    names = [f"{SITES[detector]}_PSD (1/Hz)" for detector in event.detectors]
    np.savetxt(
        folder / f"GWTC1_{event.name}_PSDs.dat",
        np.column_stack([table[:, 0], *(columns[detector] for detector in event.detectors)]),
        header="\t".join(["Freq (Hz)", *names]),
    )
    ifos = bilby.gw.detector.InterferometerList(list(event.detectors))
    for ifo in ifos:
        ifo.minimum_frequency, ifo.maximum_frequency = settings.f_min_hz, 1024.0
        ifo.power_spectral_density = bilby.gw.detector.PowerSpectralDensity(
            frequency_array=table[:, 0], psd_array=columns[ifo.name]
        )
    start = int(event.trigger_gps_s) - LENGTH_S // 2
    ifos.set_strain_data_from_power_spectral_densities(RATE_HZ, LENGTH_S, start)
    placed = {**event.truth, "geocent_time": event.trigger_gps_s + 0.004}
    ifos.inject_signal(placed, waveform_generator=generator(settings))
    for ifo in ifos:
        write_strain(ifo, folder / f"{ifo.name[0]}-{ifo.name}_GWOSC_4KHZ_R1-{start}-{LENGTH_S}.hdf5", start)
    m1, m2 = event.truth["mass_1"], event.truth["mass_2"]
    chirp_mass = float(bilby.gw.conversion.component_masses_to_chirp_mass(m1, m2))
    snr = sum(ifo.meta_data["optimal_SNR"] ** 2 for ifo in ifos) ** 0.5
    return {
        **event.truth,
        **{"chirp_mass": chirp_mass, "mass_ratio": m2 / m1, "geocent_time": 0.004, "snr": float(snr)},
    }


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("events", nargs="*", help=f"some of {', '.join(EVENTS)}; none given: all")
    parser.add_argument("--particles", type=int, default=2000, help="of the independent sampler")
    parser.add_argument("--sweeps", type=int, default=50, help="of the independent sampler")
    parser.add_argument("--runs", type=Path, default=Path("runs/validation"))
    options = parser.parse_args()
    if unknown := set(options.events) - set(EVENTS):
        parser.error(f"unknown events {sorted(unknown)}, there are {list(EVENTS)}")
    recipe = find_recipe("gw/bbh")
    psds = sources.psd_file("GW150914", None)
    for key in options.events or EVENTS:
        event = EVENTS[key]
        asked = [f"--event={event.name}", f"--trigger_gps_s={event.trigger_gps_s}", *event.options]
        settings = typed.parse(recipe, [*asked, f"--detectors=[{','.join(event.detectors)}]"])
        data = options.runs / f"event-{key}"
        truth = write_files(event, settings, psds, data / "gw")
        os.environ[sources.DATA_VARIABLE] = str(data)
        result, learned = analysed("gw/bbh", settings, options.runs / f"exact-{key}")
        samples, record = independent(
            *(options.runs / f"independent-{key}.npz", recipe.build(settings).analysis, result),
            *(1, options.particles, options.sweeps),
        )
        ranks = {name: float(np.mean(samples[name] < truth[name])) for name in COMPARED if name in truth}
        entry = found(result, learned, samples, np.ones(len(samples["psi"])), options.particles)
        print(json.dumps({"ranks of the truth": ranks}))
        kept(f"{key}, like {event.name}", {**entry, "truth": truth, "ranks": ranks, "independent": record})


if __name__ == "__main__":
    main()
