import json

import numpy as np
import pytest
import torch
from scipy import stats

from tmnre import Box, Normal, Prior, Uniform
from tmnre.region import relative


@pytest.fixture
def box():
    return Box({"a": (0.2, 0.6), "b": (0.0, 1.0), "c": (0.5, 0.51)}, {"snr": (8.0, np.inf)})


def test_samples_are_uniform_in_the_box(box):
    u = box.sample(20_000, np.random.default_rng(0))
    assert box.contains(u).all()
    for column, (low, high) in zip(u.T, box.cube.values(), strict=True):
        assert stats.kstest(column, "uniform", (low, high - low)).pvalue > 1e-3


def test_volume_is_the_share_of_prior_draws_inside(box):
    inside = box.contains(np.random.default_rng(0).random((200_000, 3)))
    volume = np.exp(box.log_volume)
    assert volume == pytest.approx(0.4 * 1.0 * 0.01, rel=1e-12)
    # binomial, five standard deviations
    assert abs(inside.mean() - volume) < 5 * np.sqrt(volume / len(inside))


def test_contains_looks_at_named_parameters_only(box):
    u = np.array([[0.3, 0.5, 0.505], [0.3, 0.5, 0.9], [0.7, 0.5, 0.505]])
    assert box.contains(u).tolist() == [True, False, False]
    assert box.contains(u, ("a", "b")).tolist() == [True, True, False]


def test_allows_tests_the_quantities_it_is_given(box):
    snr = torch.tensor([7.9, 8.0, 1e6])
    assert box.allows({"snr": snr, "other": -snr}).tolist() == [False, True, True]
    assert box.allows({"other": snr}) is True


def test_tightened_is_never_larger(box):
    cut = box.tightened({"a": (0.1, 0.5), "b": (0.3, 0.4)}, {"snr": (1.0, 20.0), "mass": (2.0, 3.0)})
    assert dict(cut.cube) == {"a": (0.2, 0.5), "b": (0.3, 0.4), "c": (0.5, 0.51)}
    assert dict(cut.derived) == {"snr": (8.0, 20.0), "mass": (2.0, 3.0)}


def test_full_region_is_the_prior():
    region = Box.full(Prior(a=Uniform(0, 1), b=Normal(0, 1)), {"snr": (5.0, 9.0)})
    assert region.log_volume == 0.0
    assert region.contains(np.array([[0.0, 1.0]])).all()
    assert dict(region.derived) == {"snr": (5.0, 9.0)}


def test_json_round_trip(box):
    assert Box.from_dict(json.loads(json.dumps(box.to_dict()))) == box


@pytest.mark.parametrize("bounds", [(0.5, 0.5), (0.6, 0.4), (-0.1, 0.5), (0.5, 1.1), (float("nan"), 1.0)])
def test_impossible_bounds_are_refused(bounds):
    with pytest.raises(ValueError, match="region of 'a'"):
        Box({"a": bounds})
    if not 0 < bounds[1] - bounds[0]:
        with pytest.raises(ValueError, match="derived 'snr' is empty"):
            Box({"a": (0.0, 1.0)}, {"snr": bounds})


def test_gaps_are_left_out():
    box = Box({"a": (0.1, 0.9), "b": (0.0, 1.0)}, gaps={"a": ((0.2, 0.4), (0.5, 0.8))})
    u = box.sample(20_000, np.random.default_rng(0))
    assert box.contains(u).all()
    assert not box.contains(np.array([[0.3, 0.5], [0.6, 0.5], [0.05, 0.5]])).any()
    assert box.contains(np.array([[0.3, 0.5]]), ("b",)).all()
    counts = np.histogram(u[:, 0], [0.1, 0.2, 0.4, 0.5, 0.8, 0.9])[0]
    assert counts[1] == counts[3] == 0
    assert stats.chisquare(counts[[0, 2, 4]]).pvalue > 1e-3
    # within an interval as well
    assert stats.kstest(u[(u[:, 0] > 0.4) & (u[:, 0] < 0.5), 0], "uniform", (0.4, 0.1)).pvalue > 1e-3
    assert np.exp(box.log_volume) == pytest.approx(0.3)
    assert Box.from_dict(json.loads(json.dumps(box.to_dict()))) == box


def test_gaps_of_a_derived_quantity_are_left_out():
    box = Box({"a": (0.0, 1.0)}, {"angle": (-3.0, np.inf)}, gaps={"angle": ((-1.0, 2.0),)})
    angle = torch.tensor([-3.5, -2.0, 0.0, 2.0, 3.0])
    assert box.allows({"angle": angle}).tolist() == [False, True, False, True, True]
    assert box.contains(np.array([[0.5]])).all() and box.log_volume == 0.0
    assert Box.from_dict(json.loads(json.dumps(box.to_dict()))) == box
    tightened = box.tightened({}, {"angle": (-2.5, 3.0)}, gaps={"angle": [(-1.5, 0.0)]})
    assert tightened.derived == {"angle": (-2.5, 3.0)} and tightened.gaps == {"angle": ((-1.5, 2.0),)}


def test_what_is_drawn_of_a_region():
    first = Box({"a": (0.0, 1.0)}, {"angle": (-2.0, np.inf)})
    second = Box({"a": (0.0, 1.0)}, {"angle": (-2.0, 2.0)})
    last = Box({"a": (0.25, 1.0)}, {"angle": (-1.0, 2.0)}, gaps={"a": ((0.5, 0.75),), "angle": ((0.0, 1.0),)})
    regions = [box.to_dict() for box in (first, second, last)]
    assert relative(regions, "a") == ([(0, 1), (0, 1), (0.25, 1)], [[], [], [(0.5, 0.75)]])
    assert relative(regions, "angle") == ([(0, 1), (0, 1), (0.25, 1)], [[], [], [(0.5, 0.75)]])
    assert relative(regions[:1], "angle") == ([], [])


def test_gaps_add_up_and_follow_the_bounds():
    box = Box({"a": (0.0, 1.0)}, gaps={"a": ((0.2, 0.4), (0.85, 0.9))})
    tightened = box.tightened({"a": (0.1, 0.88)}, {}, gaps={"a": [(0.35, 0.5), (0.6, 0.7)]})
    assert tightened.gaps == {"a": ((0.2, 0.5), (0.6, 0.7))}
    # a gap in which a new bound lies: the bound is enough
    assert box.tightened({"a": (0.3, 0.8)}, {}).gaps == {}
