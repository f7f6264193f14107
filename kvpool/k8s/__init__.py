"""Find AIBrix's cache pools in a Kubernetes cluster, and join their pods to the slot map."""
