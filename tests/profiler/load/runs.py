"""Short runs of the load client against a scripted engine."""

import asyncio
from collections.abc import Awaitable, Callable

from profiler.load import LoadConfig, LoadRun, run_load

from .conftest import Engine, Request, after_probe

Writer = asyncio.StreamWriter
Start = Callable[..., Engine]


def configure(engine: Engine, **changes: object) -> LoadConfig:
    settings: dict[str, object] = {
        "base_url": engine.url,
        "model": "m",
        "input_tokens": 32,
        "output_tokens": 4,
        "max_concurrency": 4,
        "num_prompts": 12,
        "warmup_s": 0.0,
        **changes,
    }
    return LoadConfig(**settings)  # type: ignore[arg-type]


def failing(
    start: Start, answer: Callable[[Request, Writer], Awaitable[None]], **changes: object
) -> tuple[LoadRun, Engine]:
    engine = start(after_probe(answer))
    options: dict[str, object] = {"max_concurrency": 2, "num_prompts": 2, **changes}
    return run_load(configure(engine, **options)), engine
