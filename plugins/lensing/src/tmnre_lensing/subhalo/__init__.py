"""Recognising a subhalo: where it is, how heavy it is, and whether there is one, from one forward pass."""
