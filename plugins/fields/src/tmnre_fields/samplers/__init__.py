"""Markov chains on fields: Hamiltonian (Langevin with one step), elliptical slices; and what their draws are worth.

They run many chains at once, one per row, possibly each of an observation of its own.
"""

from tmnre_fields.samplers.effective import effective_samples
from tmnre_fields.samplers.elliptical import elliptical_slice
from tmnre_fields.samplers.hamiltonian import Chain, hamiltonian

__all__ = ["Chain", "effective_samples", "elliptical_slice", "hamiltonian"]
