"""Measure what an engine can serve: load generation, SLO search, throughput tables, simulator."""
