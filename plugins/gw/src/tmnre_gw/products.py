"""What other programs read: a bilby result of joint posterior draws, and a sky map."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from bilby.core.prior import Constraint, DeltaFunction, PriorDict
from bilby.core.prior import Prior as BilbyPrior
from bilby.gw.result import CBCResult
from pandas import DataFrame

from tmnre.files import write_whole
from tmnre.result import MarginalPosterior
from tmnre_gw.skymap import SkyMap, sky_map

DRAWS = 20_000
FEWEST = 300
"""draws in a sky map, whatever they are worth"""


@dataclass(frozen=True)
class About:
    """What a product says of the analysis it comes from."""

    event: str
    detectors: tuple[str, ...]
    trigger_gps_s: float
    priors: Mapping[str, BilbyPrior] = field(default_factory=dict)
    """bilby's, as given; geocent_time relative to the trigger or in GPS seconds"""
    fixed: Mapping[str, float] = field(default_factory=dict)
    log_noise_evidence: float = np.nan
    waveform: Mapping[str, object] = field(default_factory=dict)


def bilby_result(
    joint: MarginalPosterior,
    about: About,
    *,
    log_likelihood: np.ndarray | None = None,
    log_bayes_factor: float = np.nan,
    log_bayes_factor_sd: float = np.nan,
    sampler: str = "tmnre",
    evaluations: int | None = None,
) -> CBCResult:
    """bilby's result of one joint marginal, at most DRAWS of its draws; `geocent_time` in GPS seconds, as bilby has it.

    Only a joint marginal has rows that belong together; of one-dimensional marginals bilby would make a joint that was
    never inferred.  log_likelihood (S,): relative to noise alone, of the joint's samples where they have equal weights.
    """
    if len(joint.names) < 2:
        raise ValueError(f"a bilby result needs a joint marginal, got {joint.names}")
    w, rng = joint.weights, np.random.default_rng(0)
    if np.ptp(w) < 1e-3 * w.max():
        rows = rng.permutation(len(w))[:DRAWS]
    else:
        rows = rng.choice(len(w), DRAWS, p=w)
    posterior = DataFrame(joint.samples[rows], columns=list(joint.names))
    if "geocent_time" in posterior:
        posterior["geocent_time"] += about.trigger_gps_s
    priors = PriorDict({name: prior for name, prior in about.priors.items() if name in joint.names})
    if "geocent_time" in priors and priors["geocent_time"].maximum < 1e6:
        priors["geocent_time"] = shifted(priors["geocent_time"], about.trigger_gps_s)
    if log_likelihood is not None:
        # bilby counts from no signal and no noise model
        posterior["log_likelihood"] = log_likelihood[rows] + np.nan_to_num(about.log_noise_evidence)
    free = {name: prior for name, prior in priors.items() if not isinstance(prior, Constraint | DeltaFunction)}
    posterior["log_prior"] = sum(
        (prior.ln_prob(posterior[name].to_numpy()) for name, prior in free.items()), np.zeros(len(posterior))
    )
    return CBCResult(
        label=about.event,
        outdir=".",
        sampler=sampler,
        search_parameter_keys=[name for name in joint.names if name in free],
        fixed_parameter_keys=list(about.fixed),
        constraint_parameter_keys=[name for name, prior in about.priors.items() if isinstance(prior, Constraint)],
        priors=priors,
        posterior=posterior.assign(**about.fixed),
        log_evidence=log_bayes_factor + about.log_noise_evidence,
        log_evidence_err=log_bayes_factor_sd,
        log_noise_evidence=about.log_noise_evidence,
        log_bayes_factor=log_bayes_factor,
        num_likelihood_evaluations=evaluations,
        meta_data={
            "likelihood": {
                "waveform_arguments": dict(about.waveform),
                "waveform_approximant": about.waveform.get("waveform_approximant"),
                "reference_frequency": about.waveform.get("reference_frequency"),
                "frequency_domain_source_model": "lal_binary_black_hole",
                "interferometers": {name: {} for name in about.detectors},
                "trigger_time": about.trigger_gps_s,
            },
            "loaded_modules": {},
        },
    )


def write_bilby(result: CBCResult, folder: Path, name: str = "bilby_result") -> None:
    """name.json and name.hdf5 in the folder, whole or not at all."""
    for extension in ("json", "hdf5"):
        write_whole(
            folder / f"{name}.{extension}",
            lambda path, extension=extension: result.save_to_file(
                filename=path.name, outdir=str(path.parent), extension=extension, overwrite=True
            ),
        )


def shifted(prior: BilbyPrior, by: float) -> BilbyPrior:
    """A uniform prior or a fixed value moved along."""
    if isinstance(prior, DeltaFunction):
        return DeltaFunction(prior.peak + by)
    from bilby.core.prior import Uniform

    return Uniform(prior.minimum + by, prior.maximum + by, name=prior.name)


def sky_map_of(joint: MarginalPosterior, independent: float) -> SkyMap | None:
    """The map of a joint marginal that holds ra, dec and luminosity_distance, else None.

    independent: how many of the draws are worth counting: with their neighbours on a chain kernels come out too narrow.
    """
    needed = ("ra", "dec", "luminosity_distance")
    if not set(needed) <= set(joint.names):
        return None
    # the last ones: particles that have been moved the longest, one snapshot of all after the other
    draws = joint.samples[-max(FEWEST, round(independent)) :]
    return sky_map(*(draws[:, joint.names.index(name)] for name in needed))
