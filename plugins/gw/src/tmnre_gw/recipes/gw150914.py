"""GW150914: all fifteen parameters from the public strain of Hanford and Livingston; `bbh` with its settings."""

from __future__ import annotations

from dataclasses import dataclass, field

from tmnre import Recipe
from tmnre_gw.papers import BILBY, GW150914, GWOSC, PEREGRINE, PHENOM_PV2
from tmnre_gw.recipes import bbh


@dataclass(frozen=True)
class PriorSettings(bbh.PriorSettings):
    """Prior of the published analysis; a bilby .prior file replaces all of it."""

    luminosity_distance_mpc: tuple[float, float] = (10.0, 1000.0)
    """Mpc; uniform in volume"""


@dataclass(frozen=True)
class Settings(bbh.Settings):
    """Settings of gw/gw150914; nothing here is tuned to the event but its time."""

    event: str | None = "GW150914"
    """event name, for the files"""
    trigger_gps_s: float | None = 1126259462.4
    """GPS s of the trigger; the segment ends 2 s after it"""
    prior: PriorSettings = field(default_factory=PriorSettings)
    """prior"""


recipe = Recipe(
    settings=Settings,
    build=bbh.build,
    papers=(GW150914, PEREGRINE, PHENOM_PV2, BILBY, GWOSC),
    also=bbh.also,
    presets={"learned": bbh.LEARNED, "gpu": bbh.GPU, "smoke": bbh.SMOKE},
    summary="GW150914: the posterior of all fifteen parameters from the public strain of Hanford and Livingston",
)
