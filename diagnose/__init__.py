"""Observe accelerators, nodes and engines: facts, checks, findings."""
