"""Traffic as AIBrix's gateway reports it, and the loop that keeps a plan up to date with it."""
