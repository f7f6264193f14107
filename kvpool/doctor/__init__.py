"""Examine a pool for hazards, and remove the orphans in it."""
