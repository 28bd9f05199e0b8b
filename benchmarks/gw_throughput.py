"""Training examples of a binary per second: stored waveforms redrawn in batches, against bilby sample by sample.

    python benchmarks/gw_throughput.py [--approximants IMRPhenomPv2 IMRPhenomXPHM] [--seconds 5] [--repeats 5]

Both make the same thing: whitened strain of H1 and L1 (8 s, 20-512 Hz) of a binary from the prior of gw/bbh in fresh
noise, with its parameters; one thread, one process.  bilby's path is what a simulator without a split would do: a
waveform, projected, noise added, whitened, for every example.  Ours makes a waveform once and redraws distance, sky,
polarisation, time and noise at every use, in full or through the compression that training reads.  An example is worth
the same in both as long as a waveform is not used so often that the network learns it by heart: rounds use one 10 to
40 times.  Ours and bilby's take turns; ratios are of neighbours.
"""

from __future__ import annotations

import argparse
import statistics
import time

import bilby
import numpy as np
import torch
from stored import stamp, store

from tmnre.draws import Draws
from tmnre.plugin import find_recipe
from tmnre.region import Box
from tmnre.rows import InMemory
from tmnre_gw.recipes.bbh import Settings

BATCH, WAVEFORMS = 512, 1024


def bilby_per_second(settings: Settings, simulator, seconds: float) -> float:
    """Examples per second through bilby's waveform generator and interferometers."""
    band, gps = simulator.band, simulator.network.reference_gps_s
    rate = 2048.0
    start = gps + 2.0 - band.duration_s
    generator = bilby.gw.WaveformGenerator(
        duration=band.duration_s,
        sampling_frequency=rate,
        frequency_domain_source_model=bilby.gw.source.lal_binary_black_hole,
        parameter_conversion=bilby.gw.conversion.convert_to_lal_binary_black_hole_parameters,
        waveform_arguments={
            "waveform_approximant": settings.approximant,
            "reference_frequency": settings.reference_frequency_hz,
            "minimum_frequency": band.f_min_hz,
            "maximum_frequency": band.f_max_hz,
        },
    )
    ifos = bilby.gw.detector.InterferometerList(list(settings.detectors))
    for ifo in ifos:
        ifo.minimum_frequency, ifo.maximum_frequency = band.f_min_hz, band.f_max_hz
    rng = np.random.default_rng(0)
    ours = simulator.prior.sample(4096, rng)
    derived = simulator.derive(torch.from_numpy(ours), {"inner": torch.zeros(len(ours), len(ifos), 4)})
    made, started = 0, time.perf_counter()
    while time.perf_counter() - started < seconds:
        i = made % len(ours)
        parameters = {**simulator.fixed, **dict(zip(simulator.prior.names, ours[i].tolist(), strict=True))}
        parameters |= {name: float(derived[name][i]) for name in ("ra", "dec")}
        parameters["geocent_time"] = gps + float(derived["geocent_time"][i])
        ifos.set_strain_data_from_power_spectral_densities(rate, band.duration_s, start)
        polarisations = generator.frequency_domain_strain(parameters)
        for ifo in ifos:
            ifo.strain_data.frequency_domain_strain += ifo.get_detector_response(polarisations, parameters)
            ifo.whitened_frequency_domain_strain  # noqa: B018 - computed when read
        made += 1
    return made / (time.perf_counter() - started)


def ours_per_second(simulator, seconds: float) -> dict[str, float]:
    """Waveforms per second, and examples per second from stored ones: in full, and as training reads them."""
    rng = np.random.default_rng(0)
    region = Box.full(simulator.prior, simulator.constraints)
    u = region.sample(WAVEFORMS, rng)
    started = time.perf_counter()
    stored = simulator.simulate(simulator.prior.from_cube(u), rng)
    found = {"waveforms": WAVEFORMS / (time.perf_counter() - started)}
    found["bytes_a_waveform"] = sum(array.nbytes for array in stored.values()) / WAVEFORMS
    tensors = {k: torch.from_numpy(v) for k, v in stored.items()}
    reduced = simulator.reduced(simulator.fit_reduction(tensors, torch.from_numpy(simulator.prior.from_cube(u))))
    for name, form in (("examples_in_full", simulator), ("examples_compressed", reduced)):
        draws = Draws(form, region, u, InMemory(stored), [*simulator.prior.names, "ra", "dec"], seed=0)
        generator = torch.Generator().manual_seed(0)
        draws.batch(torch.arange(BATCH), generator)
        made, started = 0, time.perf_counter()
        while time.perf_counter() - started < seconds:
            draws.batch(torch.randint(WAVEFORMS, (BATCH,), generator=generator), generator)
            made += BATCH
        found[name] = made / (time.perf_counter() - started)
    return found


def repeated(settings: Settings, seconds: float, repeats: int) -> dict[str, object]:
    """Rates of every repeat, and ratios of examples per second: from stored waveforms, and with their making."""
    simulator = find_recipe("gw/bbh").build(settings).simulator
    rates: dict[str, list[float]] = {}
    ratios: dict[str, list[float]] = {"compressed": [], "with_waveforms": []}
    for _ in range(repeats):
        ours = ours_per_second(simulator, seconds)
        peer = bilby_per_second(settings, simulator, seconds)
        for name, value in {"bilby": peer, **ours}.items():
            rates.setdefault(name, []).append(value)
        # what a round costs in all, where every waveform serves twenty times
        with_waveforms = 1 / (1 / ours["examples_compressed"] + 1 / (20 * ours["waveforms"]))
        ratios["compressed"].append(ours["examples_compressed"] / peer)
        ratios["with_waveforms"].append(with_waveforms / peer)
        rates.setdefault("examples_with_waveforms", []).append(with_waveforms)
    (size,) = set(rates.pop("bytes_a_waveform"))
    found: dict[str, object] = {**rates, "bytes_a_waveform": size}
    for name, values in ratios.items():
        found[f"ratio_{name}"] = {"median": statistics.median(values), "range": [min(values), max(values)]}
    return found


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--approximants", nargs="+", default=["IMRPhenomPv2", "IMRPhenomXPHM"])
    parser.add_argument("--seconds", type=float, default=5.0)
    parser.add_argument("--repeats", type=int, default=5)
    options = parser.parse_args()
    torch.set_num_threads(1)
    table = {}
    for approximant in options.approximants:
        settings = Settings(approximant=approximant, exact=False)
        table[approximant] = {**stamp(), **repeated(settings, options.seconds, options.repeats)}
        print(approximant, table[approximant], flush=True)
        store("gw_throughput", table)


if __name__ == "__main__":
    main()
