"""Active tests: give the accelerators work, and hold results and speed against what they should be.

They need torch and the device to themselves. torch is only ever loaded in child processes.

    run ─ child per device ─► measurements ─► judge (accelerators/) ─► findings
          └ peers: one child
"""

from diagnose.active.parent import Active, Level, run

__all__ = ["Active", "Level", "run"]
