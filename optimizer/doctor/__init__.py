"""Why an autoscaler does not move: facts from a cluster and AIBrix's Redis, and checks on them."""
