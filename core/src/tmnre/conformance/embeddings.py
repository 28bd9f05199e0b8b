"""Checks of an embedding: features of the right shape, one row's from its own data, finite gradients, a whole state."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import torch
from torch import nn

from tmnre.analysis import Analysis
from tmnre.conformance.simulators import observed
from tmnre.embedding import ResidualMLP
from tmnre.simulator import Tensors, adopt

ROWS = 24


def _data(analysis: Analysis, seed: int) -> Tensors:
    """Data (ROWS, ...) in the form that training sees, reduced where the simulator reduces them."""
    simulator = adopt(analysis.simulator)
    at, stored, x = observed(simulator, seed, ROWS)
    reduction = simulator.fit_reduction(stored, at)
    if not reduction:
        return x
    return simulator.reduced(reduction).observe(stored, at, torch.Generator().manual_seed(seed))


def _embedding(analysis: Analysis, x: Tensors) -> nn.Module:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        network: nn.Module = (analysis.embedding or ResidualMLP)(x)
        return network


def _features_are_sound(analysis: Analysis) -> Iterator[str]:
    x = _data(analysis, 1)
    network = _embedding(analysis, x)
    if not isinstance(network, nn.Module):
        yield f"embedding(x) must return a torch.nn.Module, got {type(network).__name__}"
        return
    network.eval()
    with torch.no_grad():
        features = network(x)
        if features.ndim != 2 or len(features) != ROWS or not features.is_floating_point():
            found = f"{features.dtype} {tuple(features.shape)}"
            yield f"the embedding must return features ({ROWS}, F) for {ROWS} rows, got {found}"
        if not torch.isfinite(features).all():
            yield "the embedding returns NaN or infinite features; standardise the data, guard logarithms and roots"
        one = network({k: v[:1] for k, v in x.items()})
    if one.shape != (1, *features.shape[1:]):
        yield f"the embedding of one row has shape {tuple(one.shape)}; keep the batch axis"
    elif not torch.allclose(one[0], features[0], rtol=1e-3, atol=1e-4 * float(features.abs().max())):
        yield "the embedding of a row changes with the other rows of the batch; use LayerNorm in place of BatchNorm"


def _gradients_are_finite(analysis: Analysis) -> Iterator[str]:
    x = _data(analysis, 1)
    network = _embedding(analysis, x).train()
    features = network(x)
    weight = torch.randn(features.shape, generator=torch.Generator().manual_seed(0))
    if not features.requires_grad:
        return  # nothing in it is learned, which an embedding may choose
    (features * weight).sum().backward()
    learned = {name: p.grad for name, p in network.named_parameters() if p.requires_grad}
    wrong = [name for name, grad in learned.items() if grad is not None and not torch.isfinite(grad).all()]
    if wrong:
        yield f"the gradient of {wrong[0]} is not finite; guard roots, logarithms and divisions near zero"
    unused = [name for name, grad in learned.items() if grad is None]
    if unused:
        yield f"the parameter {unused[0]} takes no part in the features; use it in forward or remove it"


def _state_is_whole(analysis: Analysis) -> Iterator[str]:
    x, others = (
        _data(analysis, 1),
        {k: 3 * v + 1 if v.is_floating_point() else v for k, v in _data(analysis, 2).items()},
    )
    first = _embedding(analysis, x).eval()
    try:
        second = _embedding(analysis, others).eval()
        second.load_state_dict(first.state_dict())
    except Exception as error:  # shapes that follow from values
        yield (
            f"the weights do not fit a network made for other data of the same shape ({type(error).__name__}: "
            f"{' '.join(str(error).split())[:120]}); let shapes follow from the data's shapes only"
        )
        return
    with torch.no_grad():
        if not torch.equal(first(x), second(x)):
            yield (
                "a network with the same state_dict gives other features: something is kept outside it; make fitted "
                "arrays buffers with register_buffer"
            )


EMBEDDING_CHECKS: tuple[tuple[str, Callable[[Analysis], Iterator[str]]], ...] = (
    ("features are sound", _features_are_sound),
    ("gradients are finite", _gradients_are_finite),
    ("the network's state is whole", _state_is_whole),
)
