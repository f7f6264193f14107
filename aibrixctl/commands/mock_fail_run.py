"""``aibrixctl mock-fail run``."""

from typing import Annotated

import typer

from aibrixctl import mock_options as options
from aibrixctl.command import command, session
from aibrixctl.result import Result


@command(
    "mock-fail run",
    examples=(
        (
            "aibrixctl mock-fail run --scenario gpu-lost-xid79 -- "
            "aibrixctl diagnose --exit-zero -o json",
            "a lost GPU, and what diagnose says of it",
        ),
        (
            "aibrixctl mock-fail run --node a10x4 --set gpus.0.temperature_c=97 -- "
            "python3 -c 'print(1)'",
            "any program, on four simulated A10, one of them hot",
        ),
    ),
    runs_words=True,
)
def run(
    words: Annotated[
        list[str], typer.Argument(metavar="COMMAND", help="The command with its arguments.")
    ],
    scenario: options.Scenarios = None,
    sets: options.Sets = None,
    node: options.NodeSpec = None,
    mode: options.ModeName = "auto",
    device: options.OnDevice = None,
    kmsg: options.Kmsg = False,
) -> Result:
    """Run a command, and whatever it starts, under faults that nothing else sees.

    The command takes this process's place: terminal, signals and exit code are its own. When it
    ends, however it does, what it left running is ended and the mock is removed. `mock-fail
    status` shows the mock while it runs; `mock-fail set` changes it.

    Statically linked and setuid programs can't be reached.
    """
    import os

    from mockfail import environment, guardian, runner

    options.check_kmsg(kmsg)
    program = runner.find(words[0])
    plan = options.planned(scenario, sets, node, mode, device)
    guardian.sweep()
    name = environment.unused(f"run-{os.getpid()}")
    record = environment.new(
        name,
        plan.node,
        plan.mode,
        layers=plan.layers,
        command=runner.this_process(words),
        kmsg=kmsg,
    )
    say = session().reporter.say
    say(f"mock {name}: {options.words(plan)}")
    if why := runner.out_of_reach(program):
        say(f"warning: {words[0]} is {why}; it sees nothing of the mock, what it starts may")
    runner.become(environment.folder_of(name), record, program, words)
