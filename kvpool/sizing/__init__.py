"""How large a pool should be: miss-ratio curves of a trace under several eviction policies."""
