import numpy as np
import pytest
import torch
from scipy import stats

from tmnre import Box, PowerLaw, Prior, ResidualMLP, Simulator, Training, Uniform
from tmnre.descent import Batches
from tmnre.draws import Draws
from tmnre.ratio import Quantiles, RatioEstimator
from tmnre.rows import InMemory
from tmnre.train import fit

BOUNDS = (4.0, 6.0)
# all p-values of a test together: a right implementation fails one test in a thousand seeds, and the seeds are fixed
P = 1e-3 / 8
GPU = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU of CUDA's kind")


class Distant(Simulator):
    """An amplitude a that is simulated and a distance d that is redrawn, tied by their ratio, snr = a / d."""

    prior = Prior(a=Uniform(1, 10), d=PowerLaw(2, 0.2, 5))
    redrawn = ("d",)
    derived = ("snr",)
    any_device = True

    def simulate(self, theta, rng):
        return {"a": theta[:, :1]}

    def observe(self, stored, theta, generator):
        signal = stored["a"] / theta[:, 1:].float()
        return {"x": signal + torch.randn(signal.shape, generator=generator, device=signal.device)}

    def derive(self, theta, stored=None):
        return {} if stored is None else {"snr": theta[:, 0] / theta[:, 1]}


def make(n=20_000, *, bounds=BOUNDS, seed=0, cube=None):
    simulator = Distant()
    region = Box(cube or {"a": (0.1, 0.9), "d": (0.0, 1.0)}, {"snr": bounds} if bounds else {})
    u = region.sample(n, np.random.default_rng(seed))
    theta = simulator.prior.from_cube(u)
    return Draws(simulator, region, u, InMemory({"a": theta[:, :1]}), ("a", "d", "snr"), seed=seed)


@pytest.fixture(scope="module")
def exact():
    """Brute force: theta from the prior in the box, kept where snr is within its bounds."""
    simulator = Distant()
    region = Box({"a": (0.1, 0.9), "d": (0.0, 1.0)})
    theta = simulator.prior.from_cube(region.sample(4_000_000, np.random.default_rng(99)))
    snr = theta[:, 0] / theta[:, 1]
    return theta[(snr >= BOUNDS[0]) & (snr <= BOUNDS[1])]


def p_values(theta, exact):
    """Two-sample KS tests of both parameters and two combinations that see their dependence."""
    views = (lambda t: t[:, 0], lambda t: t[:, 1], lambda t: t[:, 0] / t[:, 1], lambda t: t[:, 0] * t[:, 1])
    return [stats.ks_2samp(view(theta), view(exact)).pvalue for view in views]


def accepted(draws, seed=5):
    """Equally weighted, independent rows: each taken with probability weight / max weight, as in training."""
    rows = torch.arange(len(draws))
    return torch.cat(list(draws.epoch(rows, 512, torch.Generator().manual_seed(seed))))


def test_redrawn_parameters_follow_the_exact_conditional(exact):
    draws = make(100_000)
    rows = accepted(draws)
    assert len(rows) > 500
    assert min(p_values(draws.theta[rows].numpy(), exact)) > P
    # the same test refuses rows whose weights are left out: it can see the error that weights correct
    possible = draws.weight > 0
    assert min(p_values(draws.theta[possible].numpy(), exact)) < 1e-6


@pytest.mark.parametrize("device", ["cpu", pytest.param("cuda", marks=GPU)])
def test_distribution_stays_right_over_many_batches(exact, device):
    draws = make(100_000).on(torch.device(device))
    rows = accepted(draws)
    before = draws.theta[rows].clone()
    generator = torch.Generator().manual_seed(1)
    for _ in range(30):
        x, z = draws.batch(rows, generator)
    assert x["x"].device.type == z.device.type == device
    z = z.cpu()
    after = draws.theta[rows]
    assert min(p_values(after.numpy(), exact)) > P
    assert (after[:, 0] == before[:, 0]).all()
    # with an acceptance above 1% (weight 1/16 seen), 30 x 4 proposals leave few distances as they were
    assert (after[:, 1] != before[:, 1]).double().mean() > 0.5
    np.testing.assert_allclose(z[:, 2], after[:, 0] / after[:, 1])
    np.testing.assert_allclose(z[:, :2], draws.simulator.prior.to_cube(after), rtol=0, atol=1e-12)


def test_weight_is_the_acceptance():
    draws = make(200_000)
    # P(4 <= a / d <= 6 | a) under the prior of d
    a = draws.theta[:, 0].numpy()
    d = draws.simulator.prior["d"]
    exact = d.cdf(a / BOUNDS[0]) - d.cdf(a / BOUNDS[1])
    shares = draws.weight.numpy()
    for part in np.array_split(np.argsort(a), 10):
        error = np.sqrt(np.mean(exact[part] * (1 - exact[part])) / 16 / len(part))
        # five standard deviations of 16 binomial tries a row
        assert abs(shares[part].mean() - exact[part].mean()) < 5 * error
    w = draws.weight
    assert draws.effective_size == pytest.approx(float(w.sum() ** 2 / (w**2).sum()))


def test_targets_of_the_region_are_exact(exact):
    draws = make(100_000)
    z = draws.sample_targets(4000, torch.Generator().manual_seed(2))
    # rows are drawn with replacement: keep each simulation once
    _, first = np.unique(z[:, 0].numpy(), return_index=True)
    theta = draws.simulator.prior.from_cube(z[:, :2].numpy()[first])
    assert len(first) > 1000
    assert min(p_values(theta, exact)) > P


def test_without_ties_redrawn_parameters_follow_the_box():
    draws = make(20_000, bounds=None, cube={"a": (0.0, 1.0), "d": (0.3, 0.5)})
    assert (draws.weight == 1).all() and draws.effective_size == len(draws)
    rows, generator = torch.arange(len(draws)), torch.Generator().manual_seed(7)
    before = draws.theta.clone()
    _, z = draws.batch(rows, generator)
    assert stats.kstest(z[:, 1].numpy(), "uniform", (0.3, 0.2)).pvalue > P
    assert (draws.theta[:, 1] != before[:, 1]).all()


def test_every_use_has_fresh_noise_and_only_redraw_moves_parameters():
    draws = make(1000)
    rows, generator = torch.arange(100, 200), torch.Generator().manual_seed(0)
    theta = draws.theta.clone()
    (x1, z1), (x2, z2) = (draws.batch(rows, generator, redraw=False) for _ in range(2))
    assert (x1["x"] != x2["x"]).all()
    torch.testing.assert_close(z1, z2, rtol=0, atol=0)
    torch.testing.assert_close(draws.theta, theta, rtol=0, atol=0)


def test_batches_of_a_simulator_for_the_processor_stay_there():
    draws = make(100)
    there = draws.on(torch.device("meta"))
    assert there is not draws and there.theta is draws.theta and there.simulator is not draws.simulator
    draws.simulator.any_device = False
    assert draws.on(torch.device("meta")) is draws


def test_same_seed_same_draws():
    def run(seed):
        draws, generator = make(2000, seed=seed), torch.Generator().manual_seed(seed)
        return draws.batch(torch.arange(500), generator)

    for one, two in zip(run(1), run(1), strict=True):
        assert all((one[k] == two[k]).all() for k in one) if isinstance(one, dict) else (one == two).all()
    assert (run(1)[1] != run(2)[1]).any()


def estimator_for(draws):
    generator = torch.Generator().manual_seed(0)
    x, _ = draws.batch(torch.arange(50), generator, redraw=False)
    quantiles = Quantiles.of(draws.sample_targets(2000, generator))
    return RatioEstimator.new(ResidualMLP(x, 8, 1), 8, quantiles, draws.targets, [("a",), ("d", "snr")])


def quick_fit(draws, **settings):
    training = Training(**{"batch_size": 64, "candidates": 7, "accelerator": "cpu", **settings})
    return fit([estimator_for(draws)], draws, training, steps=4, seed=0, progress=_silent)


def _silent(**settings):
    from tqdm import tqdm

    return tqdm(**settings, disable=True)


def test_validation_rows_never_train(monkeypatch):
    draws = make(600, bounds=None)
    estimator = estimator_for(draws)
    seen = {True: set(), False: set()}
    batch = Draws.batch

    def spy(self, rows, generator, *, redraw=True):
        seen[redraw] |= set(rows.tolist())
        return batch(self, rows, generator, redraw=redraw)

    monkeypatch.setattr(Draws, "batch", spy)
    settings = Training(batch_size=64, candidates=7, validation_fraction=0.2, accelerator="cpu")
    fit([estimator], draws, settings, steps=40, seed=0, progress=_silent)
    train, validation = draws.split(0.2, 0)
    assert len(validation) == 120 and seen[False] == set(validation.tolist())
    assert len(seen[True]) > 400 and not seen[True] & seen[False]
    assert set(train.tolist()) | set(validation.tolist()) == set(range(600))


def test_a_validation_batch_of_one_row_does_not_stop_training():
    # 650 simulations leave 65 for validation: a batch of 64 and one of a single row
    _, curve = quick_fit(make(650, bounds=None))
    assert curve


def test_few_accepted_rows_still_make_batches():
    class Picky:
        """20 of 1000 rows pass an epoch."""

        passes = 0

        def epoch(self, rows, batch_size, generator):
            self.passes += 1
            assert self.passes < 100, "100 passes over the rows did not make a single batch"
            yield from rows[:20].split(batch_size)

        def batch(self, rows, generator, *, redraw=True):
            return {"x": rows}, rows

    _, (_, z) = next(iter(Batches(Picky(), torch.arange(1000), 512, 0, endless=True)))
    assert len(z) > 1


def test_duplicate_rows_keep_their_constraint():
    draws = make(20_000)
    rows = torch.multinomial(draws.weight, 4000, replacement=True, generator=torch.Generator().manual_seed(0))
    _, z = draws.batch(rows, torch.Generator().manual_seed(1))
    assert ((z[:, 2] >= BOUNDS[0]) & (z[:, 2] <= BOUNDS[1])).all()
