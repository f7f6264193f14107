"""Throughput tables in the formats of other tools."""
