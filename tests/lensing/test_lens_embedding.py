"""The network of wide regions: what the multipoles of rings see."""

from __future__ import annotations

import math

import pytest
import torch

from tmnre_lensing.embedding import ORDER, RINGS, ImageNet, multipoles


def test_multipoles_tell_a_ring_s_radius_and_the_direction_of_its_quadrupole():
    n = 41
    axis = torch.arange(n) - (n - 1) / 2
    r, phi = torch.hypot(axis, axis[:, None]), torch.atan2(axis[:, None], axis.expand(n, n))
    rows = multipoles(n, n).unflatten(0, (RINGS, 2 * ORDER + 1))
    # the few pixels of the innermost ring all lie where sin 4 phi is zero
    torch.testing.assert_close(rows[1:].square().sum(-1), torch.ones(RINGS - 1, 2 * ORDER + 1))
    for radius, angle in ((8.0, 0.3), (14.0, 1.1)):
        image = torch.exp(-0.5 * (r - radius) ** 2) * (1 + 0.5 * torch.cos(2 * (phi - angle)))
        found = rows @ image.flatten()
        # brightest on the ring that is nearest, in units of the rows' own norm, which grows with the root of the radius
        nearest = int(found[:, 0].argmax())
        assert abs((nearest + 0.5) * n / 2 / RINGS - radius) < 1.0
        cosine, sine = found[nearest, 2], found[nearest, ORDER + 2]
        assert 0.5 * math.atan2(sine, cosine) == pytest.approx(angle, abs=0.05)
        assert found[nearest, [1, 3, 4, ORDER + 1, ORDER + 3]].abs().max() < 0.05 * found[nearest, 0]


def test_large_and_oblong_images_are_seen_too():
    for shape in ((120, 120), (30, 40)):
        x = {"image": torch.randn(4, *shape)}
        features = ImageNet(x, 1.0)(x)
        assert features.shape == (4, 128) and torch.isfinite(features).all()
