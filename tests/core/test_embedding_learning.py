"""What each embedding can learn: what its data hide from a linear map, and what is exactly known of them."""

import math
from functools import partial

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from tmnre.embedding import CNN1d, CompressedMLP, DeepSet, ResidualMLP, SetTransformer, UNet, UNetFeatures


def trained(make, draw, loss, steps, *, peak=1e-2):
    """The loss on 2,000 fresh rows of a network trained on fresh batches."""
    generator = torch.Generator().manual_seed(1)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        network = make(draw(512, generator)[0])
    optimiser = torch.optim.Adam(network.parameters(), peak)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, peak, steps)
    for _ in range(steps):
        value = loss(network, *draw(128, generator))
        optimiser.zero_grad()
        value.backward()
        optimiser.step()
        schedule.step()
    with torch.no_grad():
        return float(loss(network, *draw(2000, generator)))


class Regression(nn.Module):
    """A number (N,) from an embedding's features."""

    def __init__(self, make, x):
        super().__init__()
        self.embedding = make(x)
        self.out = nn.Linear(self.embedding(x).shape[1], 1)

    def forward(self, x):
        return self.out(self.embedding(x))[:, 0]


def left(network, x, target):
    """Mean squared error in units of the target's variance, which is what a constant leaves."""
    return F.mse_loss(network(x), target) / target.var()


def product(n, generator):
    x = torch.randn(n, 6, generator=generator)
    return {"x": x}, x[:, 0] * x[:, 1]


TEMPLATE = torch.sin(torch.arange(40) / 3)


def amplitude_squared(n, generator):
    amplitude = torch.randn(n, generator=generator)
    return {"x": amplitude[:, None] * TEMPLATE + torch.randn(n, 40, generator=generator)}, amplitude**2


def frequency(n, generator):
    frequency, phase = torch.rand(2, n, 1, generator=generator)
    wave = torch.sin(2 * math.pi * ((0.05 + 0.15 * frequency) * torch.arange(64) + phase))
    return {"x": wave + 0.3 * torch.randn(n, 64, generator=generator)}, frequency[:, 0]


def sum_over_members(n, generator):
    mask = torch.rand(n, 12, generator=generator) < torch.rand(n, 1, generator=generator)
    members = (torch.randn(n, 12, 2, generator=generator) + 0.5) * mask[..., None]
    return {"x": members, "mask": mask}, members[..., 0].sum(1)


def companion_of_the_largest(n, generator):
    x, _ = sum_over_members(n, generator)
    x["mask"][:, 0] = True  # a member at the origin where there was none: no set is empty
    largest = x["x"][..., 0].masked_fill(~x["mask"], -torch.inf).argmax(1)
    return x, x["x"][torch.arange(n), largest, 1]


SIDE, HEIGHT = 15, 4.0
OFFSET = torch.arange(-2, 3)
BLOB = torch.exp(-0.5 * (OFFSET[:, None] ** 2 + OFFSET**2))[None, None]


def place(n, generator):
    """Images of one blob in white noise, and the number of its pixel."""
    pixel = torch.randint(SIDE**2, (n,), generator=generator)
    there = F.one_hot(pixel, SIDE**2).view(n, 1, SIDE, SIDE).float()
    blobs = HEIGHT * F.conv2d(there, BLOB, padding=2)
    return {"image": blobs + torch.randn(n, 1, SIDE, SIDE, generator=generator)}, pixel


def row(n, generator):
    x, pixel = place(n, generator)
    return x, (pixel // SIDE).float()


def amplitudes(x):
    return CompressedMLP(x, {"x": torch.linspace(-2, 2, 50)[:, None] * TEMPLATE}, most=4)


@pytest.mark.parametrize(
    ("make", "draw", "steps"),
    [
        (ResidualMLP, product, 100),
        (amplitudes, amplitude_squared, 150),
        (CNN1d, frequency, 60),
        (UNetFeatures, row, 100),
        (DeepSet, sum_over_members, 60),
        (SetTransformer, sum_over_members, 60),
        (SetTransformer, companion_of_the_largest, 100),
    ],
)
def test_networks_learn_a_statistic_of_their_data(make, draw, steps):
    # the noise leaves at best 0.09 of the squared amplitude, 1e-4 of the frequency, and nothing where there is none;
    # a constant leaves 1
    assert trained(partial(Regression, make), draw, left, steps) < 0.25


@pytest.mark.parametrize("draw", [product, amplitude_squared, frequency, companion_of_the_largest])
def test_a_linear_map_would_not_have_learned_it(draw):
    x, target = draw(4000, torch.Generator().manual_seed(0))
    design = torch.cat([torch.ones(4000, 1), *(array.flatten(1) for array in x.values())], dim=1).double()
    fit = torch.linalg.lstsq(design, target.double()[:, None], driver="gelsd").solution
    assert left(lambda _: (design @ fit)[:, 0], x, target.double()) > 0.6


def test_a_u_net_learns_the_posterior_of_a_place():
    def surprise(network, x, pixel):
        return F.cross_entropy(network(x).flatten(1), pixel)

    def exact(x):
        """Log likelihood of every pixel but for a constant: the matched filter."""
        power = F.conv2d(torch.ones(1, 1, SIDE, SIDE), BLOB**2, padding=2)
        return HEIGHT * F.conv2d(x["image"], BLOB, padding=2) - HEIGHT**2 / 2 * power

    with torch.no_grad():
        best = float(surprise(exact, *place(20_000, torch.Generator().manual_seed(2))))
    constant = math.log(SIDE**2)
    assert best < 0.1 * constant
    assert trained(UNet, place, surprise, 80) < best + 0.1 * (constant - best)
