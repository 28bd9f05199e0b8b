"""The contract of every embedding, invariances, and compression against closed forms."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import pytest
import torch
import torch.nn.functional as F

from tmnre.embedding import (
    CNN1d,
    CompressedMLP,
    DeepSet,
    LinearCompression,
    ResidualMLP,
    SetTransformer,
    UNet,
    UNetFeatures,
    Whiten,
    pool,
    signal_basis,
)


def vectors(n, generator):
    return {
        "a": torch.randn(n, 6, generator=generator),
        "b": torch.randn(n, 3, dtype=torch.complex64, generator=generator),
    }


def series(n, generator):
    return {
        "a": torch.randn(n, 2, 37, generator=generator),
        "b": torch.randn(n, 37, dtype=torch.complex64, generator=generator),
    }


def images(n, generator):
    return {"a": torch.randn(n, 2, 13, 22, generator=generator), "b": torch.randn(n, 13, 22, generator=generator)}


def sets(n, generator):
    mask = torch.rand(n, 9, generator=generator) < 0.6
    mask[0], mask[1] = False, True
    return {"members": torch.randn(n, 9, 3, generator=generator), "mask": mask}


def compressed(embedding, x, **settings):
    signals = vectors(40, torch.Generator().manual_seed(9))
    return embedding(x, signals, sd={"a": torch.tensor(0.5), "b": torch.rand(3) + 0.1}, most=8, **settings)


@dataclass(frozen=True)
class Case:
    make: Callable
    draw: Callable
    shape: tuple[int, ...]


CASES = {
    "ResidualMLP": Case(partial(ResidualMLP, features=16), vectors, (16,)),
    "LinearCompression": Case(partial(compressed, LinearCompression), vectors, (8,)),
    "CompressedMLP": Case(partial(compressed, CompressedMLP, features=16), vectors, (16,)),
    "CNN1d": Case(partial(CNN1d, features=16), series, (16,)),
    "UNet": Case(partial(UNet, out_channels=3), images, (3, 13, 22)),
    "UNetFeatures": Case(partial(UNetFeatures, features=16), images, (16,)),
    "DeepSet": Case(partial(DeepSet, features=16), sets, (16,)),
    "SetTransformer": Case(partial(SetTransformer, features=16, hidden=16), sets, (16,)),
}


@pytest.fixture(params=CASES, scope="module")
def case(request):
    return CASES[request.param]


def made(case, seed=0, n=24):
    """An embedding and the batch it was made from."""
    x = case.draw(n, torch.Generator().manual_seed(seed))
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return case.make(x), x


def rows(x, which):
    return {name: array[which] for name, array in x.items()}


def numbers(x):
    """The arrays that are not masks."""
    return {name: array for name, array in x.items() if array.dtype != torch.bool}


def test_shape_and_determinism_for_any_number_of_rows(case):
    network, x = made(case)
    for n in (1, 2, 24):
        found = network(rows(x, slice(n)))
        assert found.shape == (n, *case.shape) and found.dtype == torch.float32
        assert torch.equal(found, network(rows(x, slice(n))))


def test_rows_are_independent(case):
    network, x = made(case)
    whole = network(x)
    other = {name: array if array.dtype == torch.bool else 100 * array for name, array in x.items()}
    for row in (0, 5):
        mixed = {name: array.clone() for name, array in other.items()}
        for name, array in x.items():
            mixed[name][row] = array[row]
        # products of matrices of another height round otherwise
        torch.testing.assert_close(network(mixed)[row], whole[row], rtol=1e-4, atol=1e-5)
        torch.testing.assert_close(network(rows(x, [row]))[0], whole[row], rtol=1e-4, atol=1e-5)


def test_weights_load_into_the_network_of_another_batch(case):
    network, x = made(case)
    other, y = made(case, seed=1, n=5)
    other.load_state_dict(network.state_dict())
    for batch in (x, y):
        assert torch.equal(other(batch), network(batch))


def test_gradients_reach_every_parameter(case):
    network, x = made(case)
    found = network(x)
    if found.requires_grad:
        (found * torch.randn(found.shape, generator=torch.Generator().manual_seed(2))).sum().backward()
    for name, parameter in network.named_parameters():
        assert parameter.grad is not None and torch.isfinite(parameter.grad).all(), name
        assert parameter.grad.abs().max() > 1e-7, name


@pytest.mark.parametrize("constant", [0.0, 3.7, 1e6])
def test_columns_that_do_not_vary_are_harmless(case, constant):
    _, x = made(case)
    for everything in (False, True):
        y = {name: array.clone() for name, array in x.items()}
        for array in numbers(y).values():
            array[..., slice(None) if everything else 0] = constant
        with torch.random.fork_rng():
            torch.manual_seed(0)
            network = case.make(y)
        found = network(y)
        assert torch.isfinite(found).all()
        if found.requires_grad:
            found.square().sum().backward()
        assert all(torch.isfinite(p.grad).all() for p in network.parameters())


def test_half_precision_is_close(case):
    network, x = made(case)
    exact = network(x).detach()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        found = network(x)
        loss = found.float().square().sum()
    if loss.requires_grad:
        loss.backward()
    # eight bits in each of some ten layers
    assert float((found.detach() - exact).square().mean() / exact.square().mean()) < (10 * 2**-8) ** 2
    assert all(torch.isfinite(p.grad).all() for p in network.parameters())


def test_whitened_columns_are_uncorrelated_and_copies_are_one():
    generator = torch.Generator().manual_seed(0)
    independent = torch.randn(4000, 3, generator=generator) * torch.tensor([1.0, 5.0, 0.2]) + 7
    batch = torch.cat([independent, independent[:, :1] * 2, independent[:, :1] - 1], dim=1)
    found = Whiten(batch, most=5)(batch)
    torch.testing.assert_close(torch.cov(found.T), torch.diag(torch.tensor([1.0, 1, 1, 0, 0])), atol=1e-3, rtol=0)
    # with fewer rows than columns as well, each component on its own scale
    wide = torch.cat([batch[:40], batch[:40] @ torch.randn(5, 60, generator=generator)], dim=1)
    few = Whiten(wide, most=64)
    assert few.matrix.shape == (65, 64)
    variance = torch.cov(few(wide).T, correction=0).diagonal()
    torch.testing.assert_close(variance, (few.matrix != 0).any(0).float(), atol=1e-3, rtol=0)
    # however few rows it is fitted to
    assert Whiten(batch[:2], most=5).matrix.shape == (5, 5) and Whiten(batch, most=2).matrix.shape == (5, 2)


# --- convolutions


def test_pooled_are_mean_maximum_and_place():
    maps = torch.zeros(1, 2, 4, 5)
    maps[0, 0, 3, 1] = 80.0
    maps[0, 1, 0, 4] = 80.0
    # the centres of four pixels from -1 to 1 are at -3/4, -1/4, 1/4, 3/4
    expected = [80 / 20, 80 / 20, 80, 80, 0.75, -0.75, -0.4, 0.8]
    torch.testing.assert_close(pool(maps), torch.tensor([expected]))
    torch.testing.assert_close(pool(maps[:, :1, 3]), torch.tensor([[80 / 5, 80, -0.4]]))
    assert torch.equal(pool(torch.ones(2, 3, 1, 1))[:, 6:], torch.zeros(2, 6))


def test_a_shift_by_the_stride_shifts_the_maps_and_changes_only_the_place():
    generator = torch.Generator().manual_seed(0)
    pulse = torch.zeros(1, 512)
    pulse[0, 200:230] = torch.randn(30, generator=generator)
    network = CNN1d({"x": torch.randn(8, 512, generator=generator)})
    # 48 is three strides of all stages together
    before, after = (network.stages(network.standardise(y[:, None])) for y in (pulse, pulse.roll(48, dims=1)))
    # edges, where the series is padded, stay
    torch.testing.assert_close(after[..., 7:-4], before[..., 4:-7], rtol=1e-4, atol=1e-5)
    (before, there), (after, then) = (pool(maps).split((128, 64), dim=1) for maps in (before, after))
    torch.testing.assert_close(after, before, rtol=1e-4, atol=1e-5)
    assert (then - there).abs().max() > 1e-3


@pytest.mark.parametrize("size", [(1, 1), (2, 9), (16, 16), (17, 31)])
def test_one_u_net_maps_images_of_any_size_to_their_own(size):
    network, _ = made(CASES["UNet"])
    x = {"a": torch.randn(2, 2, *size), "b": torch.randn(2, *size)}
    assert network(x).shape == (2, 3, *size)
    assert pool(network.encode(x)[-1]).shape == (2, 4 * 64)


def test_a_series_may_be_as_short_as_one():
    assert CNN1d({"x": torch.randn(5, 1)})({"x": torch.randn(1, 1)}).shape == (1, 128)


def test_arrays_that_are_no_channels_of_one_network_are_refused():
    x = {"long": torch.zeros(4, 20), "short": torch.zeros(4, 2, 10), "scalars": torch.zeros(4)}
    with pytest.raises(ValueError, match=r"'scalars' must have shape \(N, T\)"):
        CNN1d(x)
    with pytest.raises(ValueError, match=r"must agree in \(T\).*set `names`"):
        CNN1d(x, names=("long", "short"))
    network = CNN1d(x, names=("short",))
    assert torch.equal(network(x), network({"short": x["short"]}))
    with pytest.raises(ValueError, match=r"'image' must have shape \(N, H, W\)"):
        UNet({"image": torch.zeros(4, 8)})


# --- sets


@pytest.fixture(params=["DeepSet", "SetTransformer"])
def of_sets(request):
    return made(CASES[request.param])


def test_order_of_members_does_not_matter(of_sets):
    network, x = of_sets
    order = torch.rand(24, 9, generator=torch.Generator().manual_seed(3)).argsort(1)
    shuffled = {
        "members": x["members"].gather(1, order[..., None].expand(-1, -1, 3)),
        "mask": x["mask"].gather(1, order),
    }
    torch.testing.assert_close(network(shuffled), network(x), rtol=1e-4, atol=1e-5)


def test_padding_does_not_matter(of_sets):
    network, x = of_sets
    exact = network(x)
    junk = {**x, "members": x["members"].masked_fill(~x["mask"][..., None], torch.nan)}
    assert torch.equal(network(junk), exact)
    longer = {"members": F.pad(x["members"], (0, 0, 0, 4), value=7.0), "mask": F.pad(x["mask"], (0, 4))}
    torch.testing.assert_close(network(longer), exact, rtol=1e-4, atol=1e-5)
    # nor when the statistics are fitted
    torch.testing.assert_close(type(network)(junk).members.standardise.mean, network.members.standardise.mean)


def test_members_and_their_number_do_matter(of_sets):
    network, x = of_sets
    exact = network(x)[1:]
    moved = {**x, "members": x["members"] + torch.tensor([0.0, 0.1, 0.0])}
    doubled = {name: torch.cat([array, array], dim=1) for name, array in x.items()}
    for other in (moved, doubled):
        assert ((network(other)[1:] - exact).abs().amax(1) > 1e-4).all()


def test_sets_may_be_empty(of_sets):
    network, x = of_sets
    assert not x["mask"][0].any() and torch.isfinite(network(x)).all()
    empty = {**x, "mask": torch.zeros_like(x["mask"])}
    assert torch.isfinite(type(network)(empty)(empty)).all()


def test_masks_may_be_missing_numbers_or_of_another_name(of_sets):
    made_of = type(of_sets[0])
    x = of_sets[1] | {"mask": torch.ones(24, 9, dtype=torch.bool)}
    network = made_of(x)
    for y in (
        {"members": x["members"]},
        {"members": x["members"], "mask": x["mask"].float()},
    ):
        other = made_of(y)
        other.load_state_dict(network.state_dict())
        assert torch.equal(other(y), network(x))
    y = {"members": x["members"], "valid": x["mask"], "other": torch.zeros(24)}
    other = made_of(y, name="members", mask="valid")
    other.load_state_dict(network.state_dict())
    assert torch.equal(other(y), network(x))
    single = {"members": x["members"][..., 0], "mask": x["mask"]}
    torch.testing.assert_close(made_of(single).members(single)[0][..., 0], network.members(x)[0][..., 0])


def test_arrays_that_are_no_set_are_refused():
    with pytest.raises(ValueError, match="set `name` and `mask`"):
        DeepSet({"a": torch.zeros(4, 3, 2), "b": torch.zeros(4, 3, 2)})
    with pytest.raises(ValueError, match=r"'mask' must have shape \(4, 3\), got \(4, 2\)"):
        DeepSet({"a": torch.zeros(4, 3, 2), "mask": torch.zeros(4, 2)})


# --- linear compression


@pytest.mark.parametrize("dtype", [torch.float32, torch.complex64])
def test_basis_spans_signals_of_low_rank_and_is_no_larger(dtype):
    generator = torch.Generator().manual_seed(0)
    # whatever the number of signals
    for number in (4, 300):
        signals, mixed = (torch.randn(*shape, dtype=dtype, generator=generator) for shape in ((number, 5), (5, 60)))
        signals = signals @ mixed
        basis = signal_basis(signals, most=20, lost=0)
        kept = min(number, 5)
        assert basis.shape == (20, 60) and basis.dtype == dtype
        torch.testing.assert_close(basis @ basis.mH, torch.eye(20, dtype=dtype) * (torch.arange(20) < kept)[:, None])
        torch.testing.assert_close(signals @ basis.mH @ basis, signals, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("lost", [0.3, 1e-2, 1e-5])
def test_basis_leaves_out_no_more_than_it_may_and_has_no_component_too_many(lost):
    generator = torch.Generator().manual_seed(0)
    t = torch.linspace(0, 1, 200)
    signals = torch.exp(-((t - 0.3 - 0.4 * torch.rand(500, 1, generator=generator)) ** 2) / (2 * 0.03**2))
    power = torch.linalg.svdvals(signals.double()).square()
    needed = int((power.flip(0).cumsum(0).flip(0) > lost * power.sum()).sum())
    basis = signal_basis(signals, most=100, lost=lost)
    assert int(basis.any(1).sum()) == needed
    compression = LinearCompression({"x": signals}, {"x": signals}, most=100, lost=lost)
    torch.testing.assert_close(compression.left_out.double(), power[needed:].sum() / power.sum(), rtol=1e-2, atol=1e-7)


def posterior(design, data, sd):
    """Mean (N, K) and covariance of amplitudes a ~ N(0, 1) from data (N, P) = a design + sd noise, design (K, P)."""
    white, data = design.double() / sd, data.double() / sd
    covariance = torch.linalg.inv(torch.eye(len(design), dtype=torch.float64) + white @ white.T)
    return data @ white.T @ covariance, covariance


def test_coefficients_hold_the_whole_posterior_of_linear_amplitudes():
    generator = torch.Generator().manual_seed(0)
    design = torch.randn(3, 50, generator=generator)
    sd = torch.rand(50, generator=generator) * 3 + 0.2
    signals = {"x": torch.randn(200, 3, generator=generator) @ design}
    data = signals["x"][:10] + sd * torch.randn(10, 50, generator=generator)
    mean, covariance = posterior(design, data, sd)
    compression = LinearCompression({"x": data}, signals, sd={"x": sd}, most=8, lost=1e-9)
    found, spread = posterior(compression.compress(design), compression({"x": data}), 1.0)
    torch.testing.assert_close(found, mean, rtol=0, atol=1e-4 * float(covariance.diagonal().sqrt().min()))
    torch.testing.assert_close(spread, covariance, rtol=1e-4, atol=0)
    # data of the signals' span come back; too few components, or the wrong noise, lose some of the posterior
    torch.testing.assert_close(
        compression.expand(compression.compress(signals["x"])), signals["x"], rtol=1e-4, atol=1e-4
    )
    for wrong in ({"most": 2}, {"sd": None, "most": 2}, {"lost": 0.3}):
        worse = LinearCompression({"x": data}, signals, **{"sd": {"x": sd}, "most": 8, "lost": 1e-9, **wrong})
        _, wider = posterior(worse.compress(design), worse({"x": data}), 1.0)
        assert wider.diagonal().sum() > 1.1 * covariance.diagonal().sum()


def test_complex_noise_is_white_in_the_coefficients():
    generator = torch.Generator().manual_seed(0)
    sd = torch.rand(30, generator=generator) + 0.1
    noise = torch.complex(*(sd * torch.randn(2, 20_000, 30, generator=generator)))
    signals = {"x": torch.randn(100, 30, dtype=torch.complex64, generator=generator)}
    found = LinearCompression({"x": noise}, signals, sd={"x": sd}, most=6)({"x": noise})
    # covariances of 20,000 draws scatter by 1 / sqrt(20,000), variances sqrt(2) as much; five sigma
    torch.testing.assert_close(torch.cov(found.T), torch.eye(6), rtol=0, atol=5 * (2 / 20_000) ** 0.5)


def test_signals_or_noise_of_another_form_are_refused():
    x = {"x": torch.zeros(4, 3)}
    with pytest.raises(ValueError, match=r"signals must have the form of x .*\(3,\).*got .*\(2,\)"):
        LinearCompression(x, {"x": torch.zeros(4, 2)})
    with pytest.raises(ValueError, match="got .*complex"):
        LinearCompression(x, {"x": torch.zeros(4, 3, dtype=torch.complex64)})
    with pytest.raises(ValueError, match="sd must name the arrays of x"):
        LinearCompression(x, x, sd={"y": torch.ones(3)})
    with pytest.raises(ValueError, match="sd must be positive"):
        LinearCompression(x, x, sd={"x": torch.zeros(3)})
