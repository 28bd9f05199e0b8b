"""The noise's level, from what two channels disagree on: one parameter, inferred before the fields.

    d = (x_1 - x_0) / sqrt(sd_1^2 + sd_0^2)         where both have data

What both channels see alike drops out of d; what their beams and their mixtures of components leave is in the
simulations.  Where nothing is left d is noise, and its mean square all there is to know.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from tmnre import Analysis, LogUniform, Prior, ResidualMLP, Simulator, Stage, Training
from tmnre.simulator import Tensors
from tmnre_fields.forward import FieldModel

PRIOR = Prior(noise_factor=LogUniform(0.5, 2.0))
BATCH = 64


class Disagreement(Simulator):
    """Differences of a model's first two channels: stores {"signal": (N, P)}, observes {"d": (N, P)}.

    Raises ValueError for a model of one channel, or of counts.
    """

    def __init__(self, model: FieldModel) -> None:
        if model.response.channels < 2 or model.exposure is not None:
            raise ValueError(
                "the noise's level is inferred from two channels with Gaussian noise; this model has others"
            )
        self.model, self.prior = model, PRIOR
        self.pixels = (model.observed[:2].min(0).values > 0).flatten().nonzero()[:, 0]
        sd = torch.as_tensor(model.noise, dtype=torch.float32).expand_as(model.observed)[:2]
        self.sd = sd.square().sum(0).sqrt().flatten()[self.pixels]

    def difference(self, x: Tensor) -> Tensor:
        """d (N, P) of data or signals x (N, V, *grid)."""
        return (x[:, 1] - x[:, 0]).flatten(1)[:, self.pixels] / self.sd

    def simulate(self, theta: np.ndarray, rng: np.random.Generator) -> dict[str, np.ndarray]:
        """Differences of signals, of fields from the prior."""
        generator = torch.Generator().manual_seed(int(rng.integers(2**62)))
        parts = [np.empty((0, len(self.pixels)), np.float32)]
        for start in range(0, len(theta), BATCH):
            n = min(BATCH, len(theta) - start)
            signal = self.model.signal(self.model.draw(n, generator))
            if self.model.nuisance is not None:
                signal = signal + self.model.nuisance(n, generator)
            parts.append(self.difference(signal).numpy())
        return {"signal": np.concatenate(parts)}

    def observe(self, stored: Tensors, theta: Tensor, generator: torch.Generator) -> Tensors:
        """Noise is drawn anew."""
        signal = stored["signal"]
        noise = torch.randn(signal.shape, generator=generator, dtype=signal.dtype)
        return {"d": signal + theta[:, :1].to(signal) * noise}


class Scatter(ResidualMLP):
    """Features (N, F) of {"d": (N, P)}: the logarithm of its mean square."""

    def __init__(self, x: Tensors, features: int = 16) -> None:
        super().__init__({"summaries": self.summaries(x)}, features, 1)

    @staticmethod
    def summaries(x: Tensors) -> Tensor:
        """(N, 1)."""
        return x["d"].square().mean(1, keepdim=True).log()

    def forward(self, x: Tensors) -> Tensor:
        return super().forward({"summaries": self.summaries(x)})


def analysis(model: FieldModel, x: Tensor, *, seed: int, simulations: int = 2000, steps: int = 800) -> Analysis:
    """Three rounds for the level of the noise in x (V, *grid)."""
    simulator = Disagreement(model)
    return Analysis(
        simulator=simulator,
        observation={"d": simulator.difference(x[None])[0].numpy()},
        marginals=["noise_factor"],
        stages=(Stage(simulations, steps),) * 3,
        training=Training(batch_size=128),
        embedding=Scatter,
        labels={"noise_factor": r"$\sigma / \sigma_0$"},
        seed=seed,
        workers=1,
    )
