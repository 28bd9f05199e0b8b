"""Checks of a simulator: shapes, types, seeds, and that every row stands for itself.

Whether one row depends on the others is exact where nothing random is drawn.  Where it is, the other rows may move the
random numbers about without doing harm; then the row's data under many seeds, in two companies, are compared by
Kolmogorov-Smirnov tests of some projections, which fail at p < 1e-6 in all.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping

import numpy as np
import torch
from scipy import stats

from tmnre.analysis import Analysis
from tmnre.device import moved
from tmnre.simulate import finite_rows
from tmnre.simulator import Simulator, Tensors, adopt, as_tensors

ROWS = 5
SEEDS, FEWEST_SEEDS = 64, 24
"""of a comparison of distributions; fewer for slow simulators.  24 against 24 can reach p = 6e-14"""
PATIENCE_S = 20.0
PROJECTIONS = 4
SURE = 1e-6
Arrays = Mapping[str, np.ndarray]


def rows_of(simulator: Simulator, n: int, seed: int) -> tuple[np.ndarray, dict[str, np.ndarray]]:
    """theta (n, D), the same for every seed, and what is stored of it."""
    theta = simulator.prior.sample(n, np.random.default_rng(0))
    return theta, _simulated(simulator, theta, seed)


def _simulated(simulator: Simulator, theta: np.ndarray, seed: int) -> dict[str, np.ndarray]:
    return {k: np.asarray(v) for k, v in simulator.simulate(theta, np.random.default_rng(seed)).items()}


def observed(simulator: Simulator, seed: int, n: int = ROWS) -> tuple[torch.Tensor, Tensors, Tensors]:
    """theta (n, D), what is stored, and data."""
    theta, stored = rows_of(simulator, n, 1)
    tensors = as_tensors(stored)
    at = torch.from_numpy(theta)
    return at, tensors, simulator.observe(tensors, at, torch.Generator().manual_seed(seed))


def _simulate_is_sound(analysis: Analysis) -> Iterator[str]:
    simulator = adopt(analysis.simulator)
    theta = simulator.prior.sample(ROWS, np.random.default_rng(0))
    plain = simulator.simulate(theta, np.random.default_rng(1))
    if not isinstance(plain, dict) or not plain:
        yield f'simulate must return a dict of arrays, for example {{"x": x}}, got {type(plain).__name__}'
    stored = {name: np.asarray(array) for name, array in plain.items()}
    for name, array in stored.items():
        if array.dtype.kind not in "biufc":
            yield f"simulate must return numbers, got {name!r} of type {array.dtype}; fill ragged arrays up with zeros"
        if array.shape[:1] != (ROWS,):
            yield f"simulate must return {name!r} with {ROWS} rows, one per row of theta, got shape {array.shape}"
    if not finite_rows(stored).all():
        yield "simulate returned NaN or infinite values within the prior; mend it or narrow the prior"
    again = _simulated(simulator, theta, 1)
    if any(not np.array_equal(stored[k], again[k]) for k in stored):
        yield "simulate gives different results for the same seed; draw all randomness from the rng it is given"
    if not np.array_equal(theta, simulator.prior.sample(ROWS, np.random.default_rng(0))):
        yield "simulate changes the theta it is given; work on a copy"
    try:
        one = simulator.simulate(theta[:1], np.random.default_rng(1))
    except Exception as error:  # typically an axis squeezed away
        yield f"simulate fails for a single row of theta ({type(error).__name__}: {error}); keep the batch axis"
        return
    if any(np.shape(one[k]) != (1, *stored[k].shape[1:]) for k in stored):
        yield "simulate changes shape for a single row of theta; keep the batch axis"


def _rows_are_independent(analysis: Analysis) -> Iterator[str]:
    simulator = adopt(analysis.simulator)
    theta = simulator.prior.sample(ROWS, np.random.default_rng(0))
    other = simulator.prior.sample(ROWS, np.random.default_rng(5))
    other[0] = theta[0]

    def first_row(rows: np.ndarray) -> Callable[[int], Arrays]:
        return lambda seed: {k: v[0] for k, v in _simulated(simulator, rows, seed).items()}

    if _differ(first_row(theta), first_row(other)):
        yield "simulate: row 0 changes with the other rows of theta; compute every row from its own theta only"
    if _differ(first_row(theta), first_row(theta[:1])):
        yield "simulate: a row alone differs from the same row in a batch; a batch must equal a loop over its rows"


def _observe_rows_are_independent(analysis: Analysis) -> Iterator[str]:
    simulator = adopt(analysis.simulator)
    at, stored, x = observed(simulator, 1)

    def first_row(rows: list[int]) -> Callable[[int], Arrays]:
        part = {k: v[rows] for k, v in stored.items()}
        return lambda seed: {
            k: v[0].numpy() for k, v in simulator.observe(part, at[rows], torch.Generator().manual_seed(seed)).items()
        }

    if _differ(first_row([*range(ROWS)]), first_row([0] * ROWS)):
        yield "observe: row 0 changes with the other rows of the batch; compute every row from its own only"
    alone = simulator.observe({k: v[:1] for k, v in stored.items()}, at[:1], torch.Generator().manual_seed(1))
    if any(alone[k].shape != (1, *v.shape[1:]) for k, v in x.items()):
        yield "observe changes shape for a single row; keep the batch axis"
    if _differ(first_row([*range(ROWS)]), first_row([0])):
        yield "observe: a row alone differs from the same row in a batch; a batch must equal a loop over its rows"


def _differ(one: Callable[[int], Arrays], other: Callable[[int], Arrays]) -> bool:
    """Whether two ways of making the same row's data, from a seed, give other data: exactly, or in distribution."""
    started = time.monotonic()
    a, b, repeated = one(1), other(1), one(2)
    if all(_close(a[k], b[k]) for k in a):
        return False
    if all(_close(a[k], repeated[k]) for k in a):  # nothing random in it, and yet not the same
        return True
    each = (time.monotonic() - started) / 3
    seeds = int(np.clip(PATIENCE_S / max(each, 1e-6) / 2, FEWEST_SEEDS, SEEDS))
    samples = [[_flat(make(seed)) for seed in range(10 + k * seeds, 10 + (k + 1) * seeds)] for k, make in
               enumerate((one, other))]  # fmt: skip
    first, second = (np.array(sample) for sample in samples)
    rng = np.random.default_rng(0)
    directions = [np.ones(first.shape[1]), *rng.standard_normal((PROJECTIONS, first.shape[1]))]
    scale = np.concatenate([first, second]).std(0) + 1e-300
    p = [stats.ks_2samp(first / scale @ d, second / scale @ d).pvalue for d in directions]
    return bool(min(p) * len(p) < SURE)


def _close(a: np.ndarray, b: np.ndarray) -> bool:
    """Equal but for the order of floating-point sums, which differs with the size of a batch."""
    size = float(np.abs(a).max()) if a.size else 0.0
    return a.shape == b.shape and bool(np.allclose(a, b, rtol=1e-4, atol=1e-5 * size))


def _flat(arrays: Arrays) -> np.ndarray:
    parts = [np.asarray(v).ravel() for _, v in sorted(arrays.items())]
    return np.concatenate([np.concatenate([p.real, p.imag]) if p.dtype.kind == "c" else p for p in parts]).astype(float)


def _redrawn_are_not_simulated(analysis: Analysis) -> Iterator[str]:
    simulator = adopt(analysis.simulator)
    theta, stored = rows_of(simulator, ROWS, 1)
    other = simulator.prior.sample(ROWS, np.random.default_rng(5))
    columns = simulator.prior.columns(simulator.redrawn)
    moved = theta.copy()
    moved[:, columns] = other[:, columns]
    again = simulator.simulate(moved, np.random.default_rng(1))
    if any(not np.array_equal(stored[k], again[k]) for k in stored):
        yield f"simulate depends on {simulator.redrawn}, which are declared redrawn; use them in observe only"


def _observe_is_sound(analysis: Analysis) -> Iterator[str]:
    simulator = adopt(analysis.simulator)
    _, stored, x = observed(simulator, 1)
    observation = as_tensors(analysis.observation)
    if set(observation) != set(x):
        yield f"the observation has arrays {sorted(observation)}, observe returns {sorted(x)}; give the same names"
    for name, array in observation.items():
        if not _finite(array):
            yield f"the observation {name!r} holds NaN or infinite values; mask or fill them in build"
    for name, array in x.items():
        if len(array) != ROWS or array.dtype not in (torch.float32, torch.complex64, torch.int64, torch.int32):
            found = f"{array.dtype} {tuple(array.shape)}"
            yield f"observe must return {name!r} as float32 or complex64 with {ROWS} rows, got {found}"
        if observation[name].shape != array.shape[1:]:
            shapes = f"{tuple(observation[name].shape)}, not {tuple(array.shape[1:])}"
            yield f"the observation {name!r} has shape {shapes}; it must look like one row of observe, no batch axis"
        if not _finite(array):
            yield f"observe returned NaN or infinite values in {name!r}"
    fresh = as_tensors(rows_of(simulator, ROWS, 1)[1])
    if any(not torch.equal(stored[k], fresh[k]) for k in stored):
        yield "observe changes the stored arrays it is given; work on a copy, they are used again"
    same, other = observed(simulator, 1)[2], observed(simulator, 2)[2]
    if any(not torch.equal(x[k], same[k]) for k in x):
        yield "observe gives different data for the same generator; draw all noise from it"
    same_noise = all(torch.equal(x[k], other[k]) for k in x)
    another = _simulated(simulator, rows_of(simulator, ROWS, 1)[0], 2)
    if same_noise and all(np.array_equal(stored[k].numpy(), as_tensors(another)[k].numpy()) for k in stored):
        yield "two seeds give the same data: there is no noise in simulate, and observe adds none; add it in observe"


def _finite(array: torch.Tensor) -> bool:
    return bool(torch.isfinite(torch.view_as_real(array) if array.is_complex() else array).all())


def _derived_are_sound(analysis: Analysis) -> Iterator[str]:
    simulator = adopt(analysis.simulator)
    at, stored, _ = observed(simulator, 1)
    derived = simulator.derive(at, stored)
    if set(derived) != set(simulator.derived):
        yield f"derive returns {sorted(derived)}, but `derived` declares {sorted(simulator.derived)}; make them agree"
    if not derived:
        return
    single = simulator.derive(at[2:3], {k: v[2:3] for k, v in stored.items()})
    for name, values in derived.items():
        if values.shape != (ROWS,) or not torch.isfinite(values).all():
            yield f"derived {name!r} must be finite with shape ({ROWS},), got {tuple(values.shape)}"
        elif not torch.allclose(values[2:3], single[name], rtol=1e-5):
            yield f"derived {name!r} of one row changes with the other rows of the batch; use its own row only"
    early = simulator.derive(at)
    if unknown := set(early) - set(simulator.derived):
        yield f"derive(theta) without simulations returns {sorted(unknown)}, which `derived` does not declare"


def _any_device_is_true(analysis: Analysis) -> Iterator[str]:
    """Torch's device without data refuses, as a GPU does, what mixes its tensors with the processor's."""
    simulator = adopt(analysis.simulator)
    if not simulator.any_device:
        return
    at, stored, _ = observed(simulator, 1)
    there, at, stored = moved((simulator, at, stored), torch.device("meta"))
    for name, arguments in (("observe", (stored, at, torch.Generator())), ("derive", (at, stored))):
        try:
            getattr(there, name)(*arguments)
        except NotImplementedError:
            pass  # depends on the data, which only a GPU can tell
        except Exception as error:
            yield f"{name} mixes devices ({error}); make new tensors on theta.device, or leave any_device out"


def _marginals_exist(analysis: Analysis) -> Iterator[str]:
    simulator = adopt(analysis.simulator)
    known = {*simulator.prior.names, *simulator.derived}
    for marginal in (*analysis.marginals, *(analysis.truncated or ())):
        unknown = {marginal} - known if isinstance(marginal, str) else set(marginal) - known
        if unknown:
            yield f"marginal {marginal} names {sorted(unknown)}, but the simulator has {sorted(known)}"
    if unknown := set(analysis.truth) - known:  # labels may be those of all simulators of a plugin
        yield f"truth names {sorted(unknown)}, but the simulator has {sorted(known)}"


def _prior_inverts(analysis: Analysis) -> Iterator[str]:
    prior = adopt(analysis.simulator).prior
    u = np.random.default_rng(0).uniform(0.01, 0.99, (64, len(prior)))
    error = np.abs(prior.to_cube(prior.from_cube(u)) - u).max(axis=0)
    for name, wrong in zip(prior.names, error, strict=True):
        if not wrong < 1e-6:
            yield f"prior of {name!r}: cdf(quantile(u)) is off by {wrong:.1g}; the two must be each other's inverse"


SIMULATOR_CHECKS: tuple[tuple[str, Callable[[Analysis], Iterator[str]]], ...] = (
    ("prior maps both ways", _prior_inverts),
    ("simulate is sound", _simulate_is_sound),
    ("simulated rows are independent", _rows_are_independent),
    ("redrawn parameters are not simulated", _redrawn_are_not_simulated),
    ("observe is sound", _observe_is_sound),
    ("observed rows are independent", _observe_rows_are_independent),
    ("derived quantities are sound", _derived_are_sound),
    ("any_device is true", _any_device_is_true),
    ("marginals exist", _marginals_exist),
)
