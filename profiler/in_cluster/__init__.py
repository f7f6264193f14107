"""Measure engines in a Kubernetes cluster, from inside it.

``place`` where a target answers, by AIBrix's labels · ``gate`` how the pods of one load agree on
its start · ``jobs`` a load from Jobs · ``targets`` the targets of one command · ``redis`` AIBrix's
Redis.
"""
