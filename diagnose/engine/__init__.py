"""The serving engine on top of the accelerators: is it well beneath its ``/health``?

    /health, /metrics twice or more, a canary request ─► facts ─► checks ─► findings

vLLM and SGLang are known by the names of their metrics.
"""

from diagnose.engine.probe import EngineConfig
from diagnose.engine.run import diagnose_engine

__all__ = ["EngineConfig", "diagnose_engine"]
