"""The command tree: which function stands behind which words, loaded when it is needed.

Importing a command costs time, so the tree names modules and loads one only when its command
runs or its help is printed.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from importlib import import_module
from typing import Any, cast

import typer
from typer.core import TyperGroup
from typer.main import get_command


@dataclass(frozen=True)
class Leaf:
    """A command: ``module:function`` under ``aibrixctl.commands``, and its line in a list."""

    target: str
    about: str


@dataclass(frozen=True)
class Branch:
    """A group of commands; ``default`` runs when the group's words are followed by none of them."""

    about: str
    children: Mapping[str, "Leaf | Branch"]
    default: Leaf | None = None


TREE = Branch(
    "Profile LLM serving on mixed GPU fleets, plan the cheapest mix within the SLO, and find and "
    "inject faults of GPUs and NPUs.",
    {
        "profile": Branch(
            "Measure what each GPU type serves within the SLO.",
            {
                "load": Leaf("profile_load:load", "Put one load on an engine and report latency."),
                "run": Leaf("profile_run:run", "Find the highest rate within the SLO, per bucket."),
                "show": Leaf("profile_tables:show_table", "Draw a throughput table."),
                "compare": Leaf("profile_tables:compare", "Compare two throughput tables."),
                "export": Leaf("profile_tables:export", "Write a table for AIBrix or others."),
                "import": Leaf("profile_tables:import_", "Read a table from another tool."),
                "push": Leaf("profile_push:push", "Publish a table to AIBrix's Redis."),
                "shard": Leaf("profile_shard:shard", "Send one part of a load, as its pods do."),
                "predict": Leaf("profile_sim:predict", "Predict prefill and decode times."),
                "serve-sim": Leaf("profile_sim:serve_sim", "Serve a simulated engine over HTTP."),
            },
        ),
        "optimize": Branch(
            "Choose the GPU mix that serves a workload at least cost.",
            {
                "plan": Leaf("optimize:plan", "Find the cheapest mix within the SLO."),
                "serve": Leaf("optimize_serve:serve", "Tell AIBrix's autoscalers what to want."),
                "schedule": Leaf(
                    "optimize_schedule:schedule", "Find the cheapest replicas for every hour."
                ),
                "show": Leaf("optimize:show_plan", "Draw a plan."),
                "apply": Leaf("optimize_apply:apply", "Bring a cluster to a plan."),
                "doctor": Leaf("optimize_doctor:doctor", "Find why an autoscaler does not move."),
                "report": Leaf("optimize_report:report", "Write an HTML report of a plan."),
                "workload": Branch(
                    "Read, draw and make workloads.",
                    {
                        "show": Leaf("optimize_workload:show_workload", "Draw a workload."),
                        "synth": Leaf("optimize_workload:synth", "Make a synthetic workload."),
                    },
                ),
            },
        ),
        "diagnose": Branch(
            "Find what is wrong with GPUs and NPUs, how bad it is and what to do.",
            {
                "cluster": Leaf(
                    "diagnose_cluster:cluster", "Diagnose every accelerator node of a cluster."
                ),
                "engine": Leaf(
                    "diagnose_engine:engine", "Find what is wrong with a serving engine."
                ),
                "explain": Leaf("diagnose:explain", "Explain a finding, an XID, an Ascend code."),
                "fleet": Leaf(
                    "diagnose_fleet:fleet", "Show what serves models in a cluster, and its blocks."
                ),
                "list-checks": Leaf("diagnose:list_checks", "List the checks."),
                "watch": Leaf("diagnose_watch:watch", "Report what changes, as JSON Lines."),
            },
            default=Leaf("diagnose:diagnose", "Diagnose this machine's accelerators."),
        ),
        "mock-fail": Branch(
            "Break GPUs and NPUs for the programs that look at them, simulated or over real ones.",
            {
                "run": Leaf("mock_fail_run:run", "Run a command under faults."),
                "start": Leaf("mock_fail_live:start", "Start a mock that programs can join."),
                "status": Leaf("mock_fail_live:status", "Show the mocks that there are."),
                "set": Leaf("mock_fail_live:set_", "Add faults to a mock that runs."),
                "clear": Leaf("mock_fail_live:clear", "Take faults out of a mock that runs."),
                "stop": Leaf("mock_fail_live:stop", "End a mock."),
                "list": Leaf("mock_fail_list:list_", "List the built-in scenarios."),
                "show": Leaf("mock_fail_list:show", "Show a scenario."),
                "properties": Leaf("mock_fail_list:properties", "List what can be set."),
                "check": Leaf("mock_fail_check:check", "Prove that diagnose finds every scenario."),
            },
        ),
        "kv": Branch(
            "See, check and move the KV cache pool.",
            {
                "stats": Leaf("kv_stats:stats", "Count what is in a pool, by model, tag and age."),
                "ls": Leaf("kv_ls:ls", "List the entries of a pool."),
                "show": Leaf("kv_ls:show", "Show one entry, its header decoded."),
                "find": Leaf("kv_find:find", "Find out how much of a prompt is cached, and where."),
                "doctor": Leaf("kv_doctor:doctor", "Examine a pool for hazards."),
                "pools": Leaf("kv_pools:pools", "List the pools in a Kubernetes cluster."),
                "migrate": Leaf("kv_migrate:migrate", "Copy or move a pool to another."),
                "drain": Leaf("kv_drain:drain", "Empty a segment of a Mooncake store."),
                "evict": Leaf("kv_evict:evict", "Remove entries, oldest first."),
                "size": Leaf("kv_size:size", "Find how large a pool should be."),
                "events": Leaf("kv_events:events", "Follow an engine's KV events."),
                "demo-pool": Leaf("kv_demo:demo_pool", "Write a small pool to try things on."),
            },
        ),
        "accelerators": Branch(
            "Look up what each GPU and NPU type is.",
            {
                "list": Leaf("accelerators:list_", "List the known accelerators."),
                "show": Leaf("accelerators:show_one", "Show one accelerator and its sources."),
            },
        ),
        "demo": Leaf("demo:demo", "Profile two GPU types, plan a mix, write a report."),
        "rbac": Branch(
            "Give a service account the rights that commands need in a cluster.",
            {"print": Leaf("rbac:print_", "Print roles and bindings, for kubectl apply.")},
        ),
        "config": Branch(
            "See the configuration.",
            {"show": Leaf("config:show_config", "Show the values in force and their origin.")},
        ),
        "schema": Branch(
            "Read the JSON Schemas of every document.",
            {
                "list": Leaf("schema:list_", "List the schemas."),
                "show": Leaf("schema:show_one", "Print one schema."),
            },
        ),
        "completion": Leaf("completion:completion", "Print a shell completion script."),
    },
)


def leaves(branch: Branch = TREE, prefix: str = "") -> Iterator[tuple[str, Leaf]]:
    """Yield the path and leaf of every command, in the tree's order."""
    if branch.default:
        yield prefix, branch.default
    for name, child in branch.children.items():
        path = f"{prefix} {name}".strip()
        if isinstance(child, Leaf):
            yield path, child
        else:
            yield from leaves(child, path)


def path_of(words: list[str]) -> str:
    """Return the command path that the words of a command line name, as far as they name one."""
    node: Leaf | Branch = TREE
    path: list[str] = []
    for word in words:
        if isinstance(node, Leaf) or word not in node.children:
            break
        node = node.children[word]
        path.append(word)
    return " ".join(path)


def function_of(leaf: Leaf) -> Any:
    """Import a leaf's module and return its function."""
    module, name = leaf.target.split(":")
    return getattr(import_module(f"aibrixctl.commands.{module}"), name)


def _load(name: str, node: Leaf | Branch) -> Any:
    return group(name, node) if isinstance(node, Branch) else command_of(name, function_of(node))


def command_of(
    name: str, function: Any, children: Mapping[str, "Leaf | Branch"] | None = None
) -> Any:
    """Return Typer's command of a decorated function; its help names the commands under it."""
    app = typer.Typer(add_completion=False, rich_markup_mode=None)
    app.command(
        name,
        epilog=_epilog(function.spec, children or {}),
        context_settings={"allow_interspersed_args": not function.spec.runs_words},
    )(function)
    return without_variables(get_command(app))


def without_variables(made: Any) -> Any:
    """Keep the variable of each option out of help: one rule names them all."""
    for parameter in made.params:
        parameter.show_envvar = False
    return made


def _epilog(spec: Any, children: Mapping[str, "Leaf | Branch"]) -> str:
    """Return commands and examples as text that Typer's wrapping leaves alone."""
    width = max(map(len, children), default=0)
    below = [f"  {name:<{width}}  {node.about}" for name, node in children.items()]
    lines = [f"  {example.line}\n      {example.about}" for example in spec.examples]
    parts = {"Commands": below, "Examples": lines}
    return "\n\n".join(f"\b\n{title}:\n" + "\n".join(part) for title, part in parts.items() if part)


class LazyGroup(TyperGroup):
    """A group whose members are imported when they are used."""

    branch: Branch

    def get_command(self, ctx: typer.Context, cmd_name: str) -> Any:  # type: ignore[override]
        """Return a member, importing its module; None when there is none of that name."""
        node = self.branch.children.get(cmd_name)
        if node is not None and self.commands.get(cmd_name) is None:
            self.commands[cmd_name] = _load(cmd_name, node)
        return self.commands.get(cmd_name)

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        """Return the member that the words name; a group's default where they name none."""
        name, member, rest = super().resolve_command(ctx, args)
        if isinstance(member, LazyGroup) and member.branch.default and not _names_one(rest):
            function = function_of(member.branch.default)
            default = command_of(cast(str, name), function, member.branch.children)
            if rest or not ctx.resilient_parsing:
                return name, default, rest
            member.params = default.params  # a shell completes both its commands and its options
        return name, member, rest

    def format_commands(self, ctx: Any, formatter: Any) -> None:
        """List the members from the tree, without importing any."""
        with formatter.section("Commands"):
            formatter.write_dl([(name, node.about) for name, node in self.branch.children.items()])


def _names_one(rest: list[str]) -> bool:
    """Tell whether a command is meant, be it mistyped, and not an option of the default."""
    return bool(rest) and not rest[0].startswith("-")


def group(name: str, branch: Branch) -> LazyGroup:
    """Return the group of a branch; its members are loaded later."""
    made = LazyGroup(name=name, help=branch.about, rich_markup_mode=None, no_args_is_help=True)
    return attach(made, branch)


def attach(made: LazyGroup, branch: Branch) -> LazyGroup:
    """Give a group the members of a branch, unloaded."""
    made.branch = branch
    made.no_args_is_help = True
    # The names are there from the start, so that a mistyped one gets its did-you-mean.
    made.commands = cast(Any, dict.fromkeys(branch.children))
    return made
