"""A plan for every hour of the week or the day, with what it costs to start replicas."""
