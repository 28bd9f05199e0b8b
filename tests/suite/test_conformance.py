"""Every check of the conformance kit passes what is sound and finds what is wrong, and says what to do."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from tmnre import Analysis, MarginalPosterior, Prior, Procedure, Recipe, Result, Simulator, Stage, Training, Uniform
from tmnre.conformance.embeddings import EMBEDDING_CHECKS
from tmnre.conformance.recipes import RECIPE_CHECKS
from tmnre.conformance.simulators import SIMULATOR_CHECKS
from tmnre.conformance.smoke import smoke_runs

T = np.linspace(-1, 1, 5)


@dataclass(frozen=True)
class Noise:
    """Noise."""

    sd: float = 0.1
    """standard deviation"""


@dataclass(frozen=True)
class Settings:
    """Settings."""

    noise: Noise = field(default_factory=Noise)
    """noise"""
    simulations: tuple[int, ...] = (300, 300)
    """simulations of each round"""
    seed: int = 0
    """seed"""


class Line(Simulator):
    """Sound; noise in `observe`."""

    prior = Prior(a=Uniform(-1, 1), b=Uniform(-1, 1), c=Uniform(0, 1))
    redrawn = ("c",)
    derived = ("total",)

    def simulate(self, theta, rng):
        return {"y": theta[:, :1] + theta[:, 1:2] * T}

    def observe(self, stored, theta, generator):
        y = stored["y"] + theta[:, 2:3].float()
        return {"y": y + 0.1 * torch.randn(y.shape, generator=generator)}

    def derive(self, theta, stored=None):
        return {"total": theta[:, 0] + theta[:, 1]}


class NoisyLine(Line):
    """Sound; noise in `simulate`, drawn so that the other rows move a row's random numbers."""

    def simulate(self, theta, rng):
        n = rng.poisson(50 * (1.5 + theta[:, 0]))
        noise = np.split(rng.standard_normal(n.sum()), np.cumsum(n)[:-1])
        return {"y": theta[:, :1] + theta[:, 1:2] * T + np.array([part.mean() for part in noise])[:, None]}

    def observe(self, stored, theta, generator):
        return {"y": stored["y"].float()}


class Features(nn.Module):
    """Sound."""

    def __init__(self, x):
        super().__init__()
        self.register_buffer("mean", x["y"].mean(0))
        self.layer = nn.Linear(5, 4)

    def forward(self, x):
        return torch.tanh(self.layer(x["y"] - self.mean))


def analysis(simulator: Any = None, **changes: Any) -> Analysis:
    how = {
        "observation": {"y": np.full(5, 0.2, "f4")},
        "marginals": ["a", "b", ("a", "b"), "total"],
        "stages": [Stage(300, 20), Stage(300, 20)],
        "training": Training(batch_size=64, threads=1),
        "embedding": Features,
        "truth": {"a": 0.1},
    }
    return Analysis(simulator or Line(), **{**how, **changes})


def build(settings: Settings) -> Analysis:
    return analysis(stages=[Stage(n, 20) for n in settings.simulations], seed=settings.seed)


PAPER = "@misc{a, author = {A, B}, title = {T}, year = 2020}"
RECIPE = Recipe(Settings, build, (PAPER,), {"smoke": {"simulations": (200, 200)}}, "a line")


class Settled(Line):
    """Says that it works on any device, and draws its noise on the processor."""

    any_device = True


def simulator(**methods: Any) -> Any:
    """Line with other methods or attributes."""
    return type("Changed", (Line,), methods)()


def simulating(make: Callable[..., Any]) -> Analysis:
    return analysis(simulator(simulate=lambda self, theta, rng: make(theta, rng)))


def observing(make: Callable[..., Any]) -> Analysis:
    return analysis(simulator(observe=lambda self, stored, theta, generator: make(stored, generator)))


def embedding(**methods: Any) -> Analysis:
    return analysis(embedding=type("Changed", (Features,), methods))


def line(theta: np.ndarray) -> np.ndarray:
    return theta[:, :1] + theta[:, 1:2] * T


def noise(stored: Any, generator: torch.Generator) -> torch.Tensor:
    return stored["y"].float() + 0.1 * torch.randn(stored["y"].shape, generator=generator)


@dataclass
class Thawed(Settings.__mro__[1]):
    """Not frozen."""

    seed: int = 0
    """seed"""


@dataclass(frozen=True)
class Reserved:
    """A setting with an option's name."""

    quiet: bool = False
    """no noise"""


@dataclass(frozen=True)
class Bare:
    """No docstring under the field."""

    seed: int = 0


@dataclass(frozen=True)
class Lossy:
    """A value that YAML does not give back."""

    seed: Any = field(default_factory=lambda: frozenset({1}))
    """seed"""


class Wandering(Features):
    """Statistics outside the state_dict."""

    def __init__(self, x):
        super().__init__(x)
        self.mean = None
        del self._buffers["mean"]
        self.__dict__["mean"] = x["y"].mean(0)


class Shapely(nn.Module):
    """A shape that depends on the data's values."""

    def __init__(self, x):
        super().__init__()
        self.layer = nn.Linear(5, 2 + int(x["y"].abs().max() > 3))

    def forward(self, x):
        return self.layer(x["y"])


class Normed(Features):
    """Normalised over the batch."""

    def forward(self, x):
        features = super().forward(x)
        return (features - features.mean(0)) / (features.std(0, correction=0) + 1e-3)


class Extra(Features):
    """A layer that is not used."""

    def __init__(self, x):
        super().__init__(x)
        self.other = nn.Linear(2, 2)


def drift(theta: np.ndarray, rng: np.random.Generator) -> dict[str, np.ndarray]:
    return {"y": line(theta) + 0.5 * theta[:, :1].mean() + 0.1 * rng.standard_normal((len(theta), 5))}


def scribble(theta: np.ndarray, rng: np.random.Generator) -> dict[str, np.ndarray]:
    y = line(theta)
    theta += 1
    return {"y": y}


def overwrite(stored: Any, generator: torch.Generator) -> Any:
    stored["y"] += 0.1 * torch.randn(stored["y"].shape, generator=generator)
    return {"y": stored["y"].clone().float()}


unseeded = torch.Generator()
SEED, GEN = "different results for the same seed", "different data for the same generator"
WRONG = {
    "settings are frozen and documented": [
        (replace(RECIPE, settings=Thawed), "must be a frozen dataclass"),
        (replace(RECIPE, settings=Reserved), "has the name of an option"),
        (replace(RECIPE, settings=Bare), "seed has no docstring"),
    ],
    "presets parse and survive YAML": [
        (replace(RECIPE, presets={"smoke": {"simulation": 1}}), "unknown setting 'simulation'"),
        (replace(RECIPE, settings=Lossy, presets={}), "raised RepresenterError"),
    ],
    "papers are given": [
        (replace(RECIPE, papers=()), "at least one BibTeX entry"),
        (replace(RECIPE, papers=("Smith 2020",)), "at least one BibTeX entry"),
        (replace(RECIPE, papers=("@misc{a, title={A}, author={B}}",)), "lacks year"),
        (replace(RECIPE, papers=("@misc{a, title={A}, year={2000}}",)), "lacks author"),
    ],
    "prior maps both ways": [
        (
            analysis(
                simulator(
                    prior=Prior(**{**Line.prior, "a": type("Odd", (Uniform,), {"cdf": lambda s, t: t * 0})(0, 1)})
                )
            ),
            "prior of 'a': cdf(quantile(u)) is off",
        ),
    ],
    "simulate is sound": [
        (simulating(lambda theta, rng: line(theta)), "must return a dict"),
        (simulating(lambda theta, rng: {}), "must return a dict"),
        (simulating(lambda theta, rng: {"y": np.array([[1], [1, 2], [], [], []], dtype=object)}), "of type object"),
        (simulating(lambda theta, rng: {"y": line(theta)[:3]}), "with 5 rows"),
        (simulating(lambda theta, rng: {"y": line(theta) * np.nan}), "NaN or infinite"),
        (simulating(lambda theta, rng: {"y": line(theta) + np.random.rand(5)}), SEED),
        (simulating(scribble), "changes the theta it is given"),
        (simulating(lambda theta, rng: {"y": np.squeeze(line(theta))}), "for a single row of theta"),
        (simulating(lambda theta, rng: {"y": line(theta) / (len(theta) > 1 or int("x"))}), "fails for a single row"),
    ],
    "simulated rows are independent": [
        (simulating(lambda theta, rng: {"y": line(theta) - line(theta).mean(0)}), "row 0 changes with the other rows"),
        (simulating(lambda theta, rng: {"y": line(theta) * len(theta)}), "a row alone differs"),
        (analysis(type("Drifting", (NoisyLine,), {"simulate": lambda self, theta, rng: drift(theta, rng)})()), "row 0"),
    ],
    "redrawn parameters are not simulated": [
        (simulating(lambda theta, rng: {"y": line(theta) + theta[:, 2:]}), "which are declared redrawn"),
    ],
    "observe is sound": [
        (analysis(observation={"z": np.zeros(5, "f4")}), "give the same names"),
        (analysis(observation={"y": np.full(5, np.nan, "f4")}), "holds NaN"),
        (analysis(observation={"y": np.zeros(4, "f4")}), "must look like one row of observe"),
        (observing(lambda stored, generator: {"y": noise(stored, generator).double()}), "as float32 or complex64"),
        (observing(lambda stored, generator: {"y": noise(stored, generator) / 0}), "NaN or infinite values in 'y'"),
        (observing(overwrite), "changes the stored arrays"),
        (observing(lambda stored, generator: {"y": noise(stored, unseeded)}), GEN),
        (observing(lambda stored, generator: {"y": stored["y"].float()}), "there is no noise in simulate"),
        (analysis(type("Silent", (Line,), {"observe": Simulator.observe})()), "add it in observe"),
    ],
    "observed rows are independent": [
        (
            observing(lambda stored, generator: {"y": (y := noise(stored, generator)) * y.abs().max()}),
            "observe: row 0 changes with the other rows",
        ),
        (observing(lambda stored, generator: {"y": noise(stored, generator).squeeze(0)}), "observe changes shape"),
        (
            observing(lambda stored, generator: {"y": noise(stored, generator) * len(stored["y"])}),
            "observe: a row alone differs",
        ),
    ],
    "derived quantities are sound": [
        (analysis(simulator(derive=lambda self, theta, stored=None: {"sum": theta[:, 0]})), "make them agree"),
        (analysis(simulator(derive=lambda self, theta, stored=None: {"total": theta[:, :1]})), "must be finite"),
        (
            analysis(simulator(derive=lambda self, theta, stored=None: {"total": theta[:, 0] - theta[:, 0].mean()})),
            "changes with the other rows",
        ),
    ],
    "any_device is true": [(analysis(Settled()), "observe mixes devices")],
    "marginals exist": [
        (analysis(marginals=["a", "d"]), "marginal d names ['d']"),
        (analysis(truncated=[("a", "e")]), "names ['e']"),
        (analysis(truth={"f": 1.0}), "truth names ['f']"),
    ],
    "features are sound": [
        (analysis(embedding=lambda x: lambda y: y), "must return a torch.nn.Module"),
        (embedding(forward=lambda self, x: self.layer(x["y"])[:, :, None]), "must return features (24, F)"),
        (embedding(forward=lambda self, x: self.layer(x["y"]) / 0), "NaN or infinite features"),
        (embedding(forward=lambda self, x: self.layer(x["y"]).squeeze(0)), "keep the batch axis"),
        (analysis(embedding=Normed), "LayerNorm in place of BatchNorm"),
    ],
    "gradients are finite": [
        (embedding(forward=lambda self, x: (0 * self.layer(x["y"])).sqrt()), "is not finite"),
        (analysis(embedding=Extra), "takes no part in the features"),
    ],
    "the network's state is whole": [
        (analysis(embedding=Wandering), "register_buffer"),
        (analysis(embedding=Shapely), "let shapes follow"),
    ],
}
CHECKS = {title: test for checks in (RECIPE_CHECKS, SIMULATOR_CHECKS, EMBEDDING_CHECKS) for title, test in checks}
CASES = [(title, subject, message) for title, cases in WRONG.items() for subject, message in cases]


def problems(found: Iterator[str]) -> list[str]:
    """What a check yields, until it fails itself; the kit reports that in these words."""
    said = []
    try:
        for problem in found:
            said.append(problem)
    except Exception as error:
        said.append(f"raised {type(error).__name__}: {error}")
    return said


def test_every_check_has_a_negative_test():
    assert set(WRONG) == set(CHECKS)


@pytest.mark.parametrize(("title", "subject", "message"), CASES, ids=[f"{t}: {m}" for t, _, m in CASES])
def test_what_is_wrong_is_found(title, subject, message):
    found = problems(CHECKS[title](subject))
    assert any(message in problem for problem in found), found


@pytest.mark.parametrize("title", CHECKS)
def test_what_is_sound_passes(title):
    if title in dict(RECIPE_CHECKS):
        assert list(CHECKS[title](RECIPE)) == []
    else:
        for subject in (analysis(), analysis(NoisyLine()), analysis(embedding=None)):
            assert list(CHECKS[title](subject)) == []


class Steps(Procedure):
    """A procedure that returns what it is given."""

    def __init__(self, result):
        self.result = result

    def run(self, place):
        return self.result


DRAWS = np.random.default_rng(0).normal(size=(2000, 1))
SOUND = MarginalPosterior(("a",), DRAWS, np.zeros(2000))


def test_smoke_runs_what_is_sound():
    assert list(smoke_runs(("toy/line", RECIPE, build(Settings())))) == []
    sound = Result({("a",): SOUND}, extra={"found": 1}, further_simulations=1)
    assert list(smoke_runs(("toy/steps", RECIPE, Steps(sound)))) == []


class Leaving(Uniform):
    """A prior whose quantiles leave its support."""

    support = property(lambda self: (0.5, 1.0))


@pytest.mark.parametrize(
    ("work", "message"),
    [
        (Steps(None), "must return a tmnre.Result, got NoneType"),
        (Steps(Result({("a",): SOUND}, extra={"found": {1, 2}})), "which cannot hold it"),
        (Steps(Result({("a",): SOUND}, extra={"found": float("nan")})), "which is no JSON"),
        (Steps(Result({})), "neither marginals nor anything else"),
        (Steps(Result({("a",): SOUND})), "counts no simulations"),
        (Steps(Result({("a",): replace(SOUND, samples=DRAWS * np.inf)})), "are not finite"),
        (analysis(simulator(prior=Prior(**{**Line.prior, "a": Leaving(-1, 1)}))), "outside its prior 0.5 to 1"),
    ],
)
def test_smoke_finds_what_is_wrong(work, message):
    found = problems(smoke_runs(("toy/line", RECIPE, work)))
    assert any(message in problem for problem in found), found
