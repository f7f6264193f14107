"""The hazards that are looked for."""

from accelerators.hazards import Hazard

TRACING_OFF = Hazard(
    "AS-TRACING-OFF",
    "fatal",
    "the gateway records no traffic",
    "AIBrix's optimizer learns of traffic only from what the gateway writes to Redis, and that is "
    "off by default. Without it the optimizer knows no load and recommends the minimum.",
    "set AIBRIX_GPU_OPTIMIZER_TRACING_FLAG=true on the gateway: kubectl -n aibrix-system set env "
    "deployment/aibrix-gateway-plugins AIBRIX_GPU_OPTIMIZER_TRACING_FLAG=true; where it is set, "
    "send a request through the gateway, and see in its log whether it reaches this Redis",
)
TRACING_STALE = Hazard(
    "AS-TRACING-STALE",
    "degraded",
    "the newest record of traffic is old",
    "The gateway writes a key every 10 s while a model has requests. None came for a while: there "
    "is no traffic, the model's name in requests is another, or the gateway can't reach Redis.",
    "send a request through the gateway with the model's name as in model.aibrix.ai/name, and see "
    "the gateway's log",
)
GATEWAYS = Hazard(
    "AS-GATEWAYS",
    "degraded",
    "several gateways overwrite each other's record of traffic",
    "Every gateway replica writes its own counts under the same key of Redis, so the optimizer "
    "sees the requests of one of them only, and plans for a part of the load.",
    "run one gateway replica while the optimizer scales by its traces",
)
PROFILE_MISSING = Hazard(
    "AS-PROFILE-MISSING",
    "fatal",
    "a deployment has no GPU profile",
    "The optimizer plans only with GPUs whose profile is under aibrix:profile_MODEL_DEPLOYMENT; it "
    "never scales this deployment, or only to its minimum.",
    "measure it and publish the table: aibrixctl profile push redis://… TABLE --model MODEL "
    "--deployment NAMESPACE/DEPLOYMENT",
)
PROFILE_BROKEN = Hazard(
    "AS-PROFILE-BROKEN",
    "fatal",
    "a GPU profile can't be read",
    "The value is no JSON object, or lacks what a profile must have, and AIBrix skips it.",
    "publish the table again with aibrixctl profile push",
)
PROFILE_NAME = Hazard(
    "AS-PROFILE-NAME",
    "fatal",
    "a GPU profile is of no deployment there is",
    "A profile counts for the deployment whose name its field gpu holds (or NAMESPACE/NAME). Where "
    "key and gpu disagree, or name no deployment of the model, nothing is scaled by it.",
    "publish it with the right name, --deployment NAMESPACE/DEPLOYMENT, and delete the old key",
)
PROFILE_SHAPES = Hazard(
    "AS-PROFILE-SHAPES",
    "fatal",
    "profiles of one model differ in their buckets",
    "All profiles of a model must have the same indexes and shape; AIBrix leaves out the GPUs that "
    "differ from the first it reads.",
    "measure all of them with the same buckets, and publish them again",
)
PROFILE_SLO = Hazard(
    "AS-PROFILE-SLO",
    "degraded",
    "a GPU profile lacks what the gateway routes by",
    "SLO routing needs one of tpot, ttft, tpat and e2e under slos, and the matrix e2e, from which "
    "the pending load is computed; without them it fails.",
    "measure with --slo, say ttft_p99<=2s, and publish the table again",
)
MODEL_PREFIX = Hazard(
    "AS-MODEL-PREFIX",
    "degraded",
    "the profiles of one model are taken for another's too",
    "AIBrix scans aibrix:profile_MODEL_*, which for a model m also finds those of a model m_x; it "
    "then plans m with deployments that do not serve it.",
    "give the models names of which none is another's beginning before an underscore",
)
NAME_LABEL = Hazard(
    "AS-NAME-LABEL",
    "degraded",
    "a label hides a deployment's profile",
    "The gateway takes a pod's label app.kubernetes.io/name for its deployment's name, before it "
    "looks at its owner. Here it says something else, and no profile has that name.",
    "take app.kubernetes.io/name out of the pod template, or give it the deployment's name",
)
PATH_IGNORED = Hazard(
    "AS-PATH-IGNORED",
    "fatal",
    "the path of a metric source is ignored",
    "AIBrix 0.7 asks a domain source without its path, gets no such metric, and reads the error as "
    "0 (aibrix#2615): the autoscaler then goes to its minimum and stays there.",
    "use a version that has the fix; until then `aibrixctl optimize apply --target podautoscaler` "
    "holds the replicas of a plan",
)
METRIC_ZERO = Hazard(
    "AS-METRIC-ZERO",
    "fatal",
    "an autoscaler is at its minimum though there is traffic",
    "Its metric reads as 0, or as little: an error of the metric source counts as 0 and leaves no "
    "trace in the autoscaler's status (aibrix#2615).",
    "ask the source from a pod in aibrix-system, as the controller does: curl http://ENDPOINT/PATH "
    "must answer vllm:deployment_replicas",
)
MINIMUM = Hazard(
    "AS-MINIMUM",
    "warning",
    "a minimum is above 0 where the plan wants 0",
    "minReplicas, or the label model.aibrix.ai/min_replicas that AIBrix's optimizer reads, keeps "
    "replicas that the plan does without, and their cost.",
    "set minReplicas to 0 and take the label away",
)
AT_ZERO = Hazard(
    "AS-AT-ZERO",
    "fatal",
    "an autoscaler does not leave 0",
    "AIBrix takes a workload with 0 replicas for switched off unless minReplicas is 0: it is not "
    "scaled, whatever the metric says.",
    "set minReplicas to 0, or scale the workload to 1 by hand",
)
ANNOTATION = Hazard(
    "AS-ANNOTATION",
    "warning",
    "an annotation that nobody reads",
    "AIBrix reads eight annotations, all under autoscaling.aibrix.ai/; others, such as those under "
    "kpa.autoscaling.aibrix.ai/ of its own samples, have no effect.",
    "use the present name, for scale-down-delay that is autoscaling.aibrix.ai/"
    "scale-down-cooldown-window",
)
CONFLICT = Hazard(
    "AS-CONFLICT",
    "fatal",
    "several autoscalers scale one workload",
    "Of several PodAutoscalers one takes effect and the others are ignored; a "
    "HorizontalPodAutoscaler beside it is not noticed, and both set the replicas in turn.",
    "keep one autoscaler for each workload",
)
TARGET = Hazard(
    "AS-TARGET",
    "fatal",
    "an autoscaler's target does not exist",
    "scaleTargetRef names nothing in the autoscaler's namespace.",
    "correct scaleTargetRef, or delete the autoscaler",
)
INVALID = Hazard(
    "AS-INVALID",
    "fatal",
    "AIBrix refuses an autoscaler",
    "Its status says so; it does nothing until it is changed.",
    "correct what the message names",
)
AT_MAXIMUM = Hazard(
    "AS-AT-MAXIMUM",
    "info",
    "an autoscaler is at its maximum",
    "It wants as many replicas as it may have.",
    "raise maxReplicas, if there are GPUs",
)
UNSCALED = Hazard(
    "AS-UNSCALED",
    "info",
    "a deployment of the model has no autoscaler",
    "Its replicas are set by hand, or by `aibrixctl optimize apply`.",
    "make a PodAutoscaler for it, if it is to follow the load",
)
