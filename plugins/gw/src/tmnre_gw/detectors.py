"""Detector network, batched in torch: antenna response, arrival times, and the sky in the frame of two detectors.

Formulas as in bilby.gw.utils and bilby.gw.detector (checked to 1e-6 in the tests); angles in rad, times in seconds
relative to the network's reference GPS time, because GPS seconds do not fit into single precision.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from tmnre_gw.bilby_side import baseline_frame, detector_geometry, detector_label, sidereal_angle

SPEED_OF_LIGHT_M_S = 299792458.0
SIDEREAL_RATE_RAD_S = 7.292115855e-5
EARTH_RADIUS_S = 0.0213
"""light travel time over the Earth's radius: no detector is further from the geocentre"""


@dataclass(frozen=True)
class Network:
    """Detectors at a reference GPS time.

    tensors (n, 3, 3), vertices (n, 3) in light-seconds, `frame` (3, 3): columns are the axes of the baseline frame,
    whose z axis points along the baseline between the first two detectors.
    """

    names: tuple[str, ...]
    reference_gps_s: float
    tensors: Tensor
    vertices: Tensor
    frame: Tensor
    sidereal_rad: float

    @classmethod
    def at(cls, names: tuple[str, ...], reference_gps_s: float) -> Network:
        """Network of detectors, by bilby's names or .interferometer files, for times near a GPS time."""
        if len(set(names)) != len(names) or not names:
            raise ValueError(f"expected distinct detector names such as ('H1', 'L1'), got {names}")
        tensors, vertices = zip(*(detector_geometry(name) for name in names), strict=True)
        frame = baseline_frame(vertices[0] - vertices[1]) if len(names) > 1 else np.eye(3)
        return cls(
            tuple(detector_label(name) for name in names),
            reference_gps_s,
            torch.from_numpy(np.array(tensors)),
            torch.from_numpy(np.array(vertices) / SPEED_OF_LIGHT_M_S),
            torch.from_numpy(frame),
            sidereal_angle(reference_gps_s),
        )

    def direction(self, ra: Tensor, dec: Tensor, time_s: Tensor) -> Tensor:
        """Unit vector (N, 3) to the source, Earth-fixed."""
        phi = ra - self.sidereal_rad - SIDEREAL_RATE_RAD_S * time_s
        return torch.stack([torch.cos(dec) * torch.cos(phi), torch.cos(dec) * torch.sin(phi), torch.sin(dec)], dim=1)

    def direction_in_frame(self, zenith: Tensor, azimuth: Tensor) -> Tensor:
        """Unit vector (N, 3), Earth-fixed, from the angle to the baseline of the first two detectors and about it."""
        local = torch.stack(
            [torch.sin(zenith) * torch.cos(azimuth), torch.sin(zenith) * torch.sin(azimuth), torch.cos(zenith)], dim=1
        )
        return local @ self.frame.T

    def sky(self, direction: Tensor, time_s: Tensor) -> tuple[Tensor, Tensor]:
        """ra in [0, 2 pi) and dec of a unit vector (N, 3) at times relative to the reference."""
        phi = torch.atan2(direction[:, 1], direction[:, 0])
        ra = torch.remainder(phi + self.sidereal_rad + SIDEREAL_RATE_RAD_S * time_s, 2 * torch.pi)
        return ra, torch.asin(direction[:, 2].clamp(-1, 1))

    def delays(self, direction: Tensor) -> Tensor:
        """Arrival time at each detector (N, n) less that at the geocentre, in seconds."""
        return -direction @ self.vertices.T

    def response(self, direction: Tensor, psi: Tensor) -> Tensor:
        """F+ and Fx (N, n, 2) for a source in `direction` (N, 3) with polarisation angle psi."""
        horizontal = torch.linalg.vector_norm(direction[:, :2], dim=1).clamp_min(1e-300)
        cos_phi, sin_phi = direction[:, 0] / horizontal, direction[:, 1] / horizontal
        cos_theta, sin_theta = direction[:, 2], horizontal
        u = torch.stack([cos_phi * cos_theta, sin_phi * cos_theta, -sin_theta], dim=1)
        v = torch.stack([-sin_phi, cos_phi, torch.zeros_like(cos_phi)], dim=1)
        cos_psi, sin_psi = torch.cos(psi)[:, None], torch.sin(psi)[:, None]
        m, n = -u * sin_psi - v * cos_psi, -u * cos_psi + v * sin_psi
        polarisations = torch.stack([_outer(m, m) - _outer(n, n), 2 * _outer(m, n)], dim=1)
        return (polarisations.flatten(2) @ self.tensors.flatten(1).T).transpose(1, 2)


def _outer(a: Tensor, b: Tensor) -> Tensor:
    return a[:, :, None] * b[:, None, :]
