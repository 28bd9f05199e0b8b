"""What is a detection, and what it stands for: the rule, the truth it is trained on, the prior it is compared with."""

from __future__ import annotations

import numpy as np
import torch

from tmnre import Prior, Uniform
from tmnre_popsources import catalogue, detection
from tmnre_popsources.detection import LEAST_SD, DetectionNet, Threshold
from tmnre_popsources.patch import PRIOR, Patch, Scene, Sources

SCENE = Scene.of(Patch(pixels=16))
THRESHOLD = Threshold(flux=20.0, log_r1=3.0, probability=0.5, ladder=3)


def sources_of(n: int, seed: int = 0) -> Sources:
    theta = torch.from_numpy(PRIOR.sample(n, np.random.default_rng(seed)))
    return SCENE.draw(theta, torch.Generator().manual_seed(seed))


def test_the_brightest_source_near_every_pixel_against_a_search():
    sources = sources_of(3)
    found = detection.brightest_near(SCENE, sources, 3)
    rows, columns = SCENE.pixel_of(sources)
    inside = SCENE.inside(sources)
    for map_, i, j in np.random.default_rng(1).integers(0, (3, 16, 16), (60, 3)):
        near = inside & (sources.row == map_) & ((rows - i).abs() <= 1) & ((columns - j).abs() <= 1)
        best = int(torch.where(near, sources.log_flux, -torch.inf).argmax()) if near.any() else -1
        assert int(found[map_, i, j]) == best


def test_the_priors_probability_is_the_frequency_of_what_is_trained_on():
    prior = Prior(expected_sources=Uniform(10, 500), flux_width=Uniform(1, 3), height_deg=Uniform(5, 20))
    maps = detection.MapsWithTruth(SCENE, prior, THRESHOLD.log_fluxes, rows=2000, seed=3)
    _, truth = maps.batch(torch.arange(2000), torch.Generator().manual_seed(4))
    before = detection.prior_probability(SCENE, prior, THRESHOLD.log_fluxes, draws=4000)
    # sources of one map share a population: the scatter of the mean is that between maps, not that of single pixels
    number = truth.present.sum((2, 3))
    error = number.std(0) / 2000**0.5
    # the average over the prior has a scatter of its own, of 4000 draws against 2000 maps
    assert (((number.mean(0) - before.sum((1, 2))) / error).abs() < 5 * (1 + 0.5) ** 0.5).all()
    # what is measured points at the source: pixel centre plus offset is its place
    offsets = truth.measured[:, :2][truth.near[:, None].expand(-1, 2, -1, -1)]
    assert offsets.abs().max() <= 1.5 + 1e-4


class Says(torch.nn.Module):
    """A network that says what it is told: logits (K, n, n) and measured maps (6, n, n)."""

    def __init__(self, logits, maps) -> None:
        super().__init__()
        self.logits, self.maps = logits, maps

    def forward(self, x):
        return self.logits[None], self.maps[None]


def test_one_detection_for_pixels_that_touch_at_a_corner():
    logits = torch.full((3, 16, 16), -12.0)
    logits[:, 3, 3], logits[:, 4, 4] = 2.0, 1.0  # one source: neighbours over a corner
    logits[:, 9, 2] = 0.5  # another
    logits[:, 12, 12] = -1.0  # 0.27: above the ratio's threshold, too improbable for a detection
    logits[:, 12, 5], logits[:, 12, 6] = -0.5, -0.5  # 0.38 each: together one
    maps = torch.zeros(6, 16, 16)
    maps[0], maps[1], maps[2], maps[3:] = 0.25, -0.5, 4.0, 0.1
    before = torch.full((3, 16, 16), 1e-3, dtype=torch.float64)
    found = detection.find(Says(logits, maps), SCENE, torch.zeros(1, 16, 16), before, THRESHOLD)
    assert sorted(found.peak.tolist()) == [3 * 16 + 3, 9 * 16 + 2, 12 * 16 + 5]
    first = found.peak.tolist().index(3 * 16 + 3)
    centre = -40 + 3.5 * 5.0
    assert float(found.b_deg[first]) == centre + 0.25 * 5 and float(found.l_deg[first]) == centre - 0.5 * 5
    assert float(found.sd_l_deg[first]) == 0.1 * torch.tensor(5.0) and float(found.log_flux[first]) == 4.0
    expected = torch.sigmoid(torch.tensor([2.0, 1.0])).sum()
    torch.testing.assert_close(found.probability[first], expected)
    # a detection stands for the brightest source within a pixel of its peak
    l_deg, b_deg = torch.tensor([centre, centre + 5, 30.0]), torch.tensor([centre, centre, 30.0])
    there = Sources(torch.zeros(3, dtype=torch.long), l_deg, b_deg, torch.tensor([2.0, 5.0, 9.0]))
    matched = detection.match(SCENE, there, found, 1)
    assert int(matched[first]) == 1 and sorted(matched.tolist()) == [-1, -1, 1]


def test_a_network_starts_from_the_priors_odds_and_falls_with_flux():
    before = detection.prior_probability(SCENE, PRIOR, THRESHOLD.log_fluxes)
    torch.manual_seed(0)
    x = {"counts": torch.poisson(torch.ones(8, 16, 16))}
    logits, maps = DetectionNet(x, before)(x)
    assert (logits.diff(dim=1) <= 0).all() and (maps[:, 3:] >= LEAST_SD).all()
    assert (logits.mean((0, 2, 3)) - torch.logit(before.mean((1, 2)))).abs().max() < 1.0


def test_catalogue_against_known_coordinates(tmp_path):
    """The Galactic centre at RA 266.405, Dec -28.936 degrees (J2000); a 95% ellipse is 2.448 sd."""
    one = torch.tensor([1.0])
    found = detection.Detections(
        torch.zeros(1, dtype=torch.long), 0 * one, 0 * one, np.log(50.0) * one, 0.1 * one, 0.2 * one, 0.05 * one,
        8 * one, 0.9 * one, torch.zeros(1, dtype=torch.long), torch.tensor([[1.0, 0.9, 0.1]]),
    )  # fmt: skip
    catalogue.write(tmp_path / "c.fits", catalogue.table(found, flux_unit="counts", log_fluxes=THRESHOLD.log_fluxes))
    from astropy.table import Table

    (row,) = table = Table.read(tmp_path / "c.fits")
    np.testing.assert_allclose([row["RAJ2000"], row["DEJ2000"]], [266.405, -28.936], atol=2e-3)
    np.testing.assert_allclose([row["Conf_95_SemiMajor"], row["Conf_95_SemiMinor"]], [0.4895, 0.2448], rtol=1e-3)
    assert row["Signif_Avg"] == 4.0 and row["Conf_95_PosAng"] == 0.0
    np.testing.assert_allclose([row["Flux"], row["Unc_Flux"]], [50.0, 2.5], rtol=1e-5)
    assert table.meta["FLUXUNIT"] == "counts" and round(table.meta["F_2"], 6) == 20.0
