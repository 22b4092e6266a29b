"""Trials: real flows, in processes of their own that are killed where it hurts, and what must be true afterwards.

For whoever writes a flow: it is finished when trials that kill it at every boundary leave nothing to complain of.
"""
