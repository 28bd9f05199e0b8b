"""What is asked of an analysis, in full: which marginals are learned, how, and what is truncated by them."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from tmnre.analysis import Analysis, Marginal, Stage
from tmnre.simulator import Simulator

JOINT = 3
"""marginals of so many quantities and more are learned by the chain rule"""

Names = tuple[str, ...]


@dataclass(frozen=True)
class Asked:
    """Marginals, and those of them that are joints; names truncated one by one, groups truncated by a contour, and the
    names of these groups that are cut one by one in stages that do not cut them together."""

    marginals: tuple[Names, ...]
    joints: tuple[Names, ...]
    truncated: Names
    groups: tuple[Names, ...]
    apart: Names

    @classmethod
    def of(cls, analysis: Analysis, simulator: Simulator) -> Asked:
        """Raises ValueError for names that the simulator does not have and for groups that cannot be cut."""
        if not analysis.stages:
            raise ValueError("an analysis needs at least one stage, for example Stage(simulations=10_000)")
        cut = _tuples(simulator.prior.names if analysis.truncated is None else analysis.truncated)
        groups = tuple(names for names in cut if len(names) > 1)
        apart = tuple(name for group in groups for name in group)
        if all(stage.together for stage in analysis.stages):
            apart = ()
        marginals = tuple(dict.fromkeys([*_tuples(analysis.marginals), *cut, *[(name,) for name in apart]]))
        asked = cls(
            marginals=marginals,
            joints=tuple(names for names in marginals if len(names) >= JOINT or names in groups),
            truncated=tuple(names[0] for names in cut if len(names) == 1),
            groups=groups,
            apart=apart,
        )
        known = (*simulator.prior.names, *simulator.derived)
        unknown = sorted({name for name in asked.targets if name not in known})
        if unknown:
            raise ValueError(f"marginals name {unknown}, but the simulator has {list(known)}")
        asked._check_groups(simulator)
        if apart and not analysis.stages[-1].together:
            raise ValueError("the last stage has to cut groups together, as the posterior is that of its region")
        return asked

    @property
    def targets(self) -> Names:
        """Every quantity that some marginal is of, once."""
        return tuple(dict.fromkeys(name for names in self.marginals for name in names))

    @property
    def alone(self) -> tuple[Names, ...]:
        """Marginals that are no joints."""
        return tuple(names for names in self.marginals if names not in self.joints)

    def joints_of(self, stage: Stage) -> tuple[Names, ...]:
        """The joints that are learned in a stage: groups only where it cuts them together."""
        return tuple(names for names in self.joints if stage.together or names not in self.groups)

    def _check_groups(self, simulator: Simulator) -> None:
        """Contours are of stored parameters, each in one group."""
        free = [name for name in simulator.prior.names if name not in simulator.redrawn]
        members = [name for group in self.groups for name in group]
        wrong = sorted({name for name in members if name not in free})
        if wrong:
            raise ValueError(
                f"truncated groups name {wrong}, but a contour is of parameters that are simulated, here {free}: those "
                f"redrawn while training and derived quantities are truncated one by one"
            )
        twice = sorted({name for name in members if members.count(name) > 1 or name in self.truncated})
        if twice:
            raise ValueError(f"truncated names {twice} more than once; a parameter is truncated alone or in one group")


def _tuples(marginals: Iterable[Marginal]) -> list[Names]:
    return [(m,) if isinstance(m, str) else tuple(m) for m in marginals]
