"""What serves models in a cluster, at a glance: what is wanted, what is there, what blocks it.

custom resources ─► workloads ─┐
pods, a page at a time ────────┼─► members that are missing, on which node
nodes ─────────────────────────┘
"""
