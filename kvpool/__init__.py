"""See, check and move a shared KV cache pool: LMCache, AIBrix offloading, Mooncake, Vineyard."""
