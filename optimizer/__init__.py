"""Decide which mix of GPUs serves a workload: workloads, the MILP, plans and their reasons."""
