"""Names that AIBrix gives to what it runs: labels of workloads and pods.

Source: AIBrix 0.7, ``pkg/constants``.
"""

MODEL = "model.aibrix.ai/name"
PORT = "model.aibrix.ai/port"
ENGINE = "model.aibrix.ai/engine"
MIN_REPLICAS = "model.aibrix.ai/min_replicas"
STORM_SERVICE = "storm-service-name"
ROLE_SET, ROLE = "roleset-name", "role-name"
POD_SET = "stormservice.orchestration.aibrix.ai/podset-name"
POD_NUMBER = "stormservice.orchestration.aibrix.ai/pod-group-index"
KV_POOL = "kvcache.orchestration.aibrix.ai/name"
KV_ROLE = "kvcache.orchestration.aibrix.ai/role"
