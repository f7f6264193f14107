"""Read a large cluster: time, CPU and memory of `optimize plan --current k8s` and what it lists.

Fills a real API server (found as the tests find it) with nodes and pods as large as real ones,
then measures each reader in a process of its own. Arguments: nodes and pods, 1000 10000.
"""

import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1]))

from cluster.access import Access, connect
from cluster.transport import Limits
from tests import fleet
from tests.kube import Server, api_server
from tests.optimizer.problems import make_table

PRODUCTS = ("NVIDIA-L20", "NVIDIA-A10", "NVIDIA-H100-80GB-HBM3", "NVIDIA-L4")
GPUS, WRITERS = 8, 8
LISTING = """
from cluster.access import Access, connect
from optimizer.fleet.capacity import read_inventory
import sys
with connect(Access(sys.argv[1])) as api:
    found = read_inventory(api, [])
print(sum(one.nodes for one in found.capacities.values()),
      sum(one.taken for one in found.capacities.values()))
"""


def labels(number: int) -> dict[str, str]:
    """Return as many labels as feature discovery writes."""
    return {
        f"feature.node.kubernetes.io/cpu-model.feature-{i}": f"v{number % 7}" for i in range(40)
    }


def fill_nodes(access: Access, numbers: range) -> None:
    with connect(access, Limits(first_s=60, retry_s=120)) as api:
        for number in numbers:
            product = PRODUCTS[number % len(PRODUCTS)]
            fleet.write_node(api, f"node-{number:04d}", product, GPUS, labels=labels(number))


def fill_pods(access: Access, numbers: range, nodes: int) -> None:
    with connect(access, Limits(first_s=60, retry_s=120)) as api:
        for number in numbers:
            name = f"pod-{number:05d}"
            body: dict[str, Any] = fleet.pod(
                name, f"node-{number % nodes:04d}", 1 if number % 2 else 0,
                labels={"app": f"app-{number % 50}"},
            )  # fmt: skip
            body["spec"]["containers"][0]["env"] = [
                {"name": f"SETTING_{i}", "value": f"value of setting {i}"} for i in range(30)
            ]
            body["spec"]["volumes"] = [
                {"name": f"volume-{i}", "hostPath": {"path": f"/data/{i}"}} for i in range(4)
            ]
            api.create(body)


def fill(server: Server, nodes: int, pods: int) -> None:
    def share(total: int, part: int) -> range:
        return range(total * part // WRITERS, total * (part + 1) // WRITERS)

    with ThreadPoolExecutor(WRITERS) as pool:
        list(pool.map(lambda part: fill_nodes(server.access, share(nodes, part)), range(WRITERS)))
        list(pool.map(lambda part: fill_pods(server.access, share(pods, part), nodes),
                      range(WRITERS)))  # fmt: skip


def measured(words: list[str], folder: Path) -> tuple[float, float, float]:
    """Return wall-clock seconds, CPU seconds and peak MiB of a process."""
    report, child = os.pipe()
    started_s = time.monotonic()
    pid = os.fork()
    if pid == 0:
        os.close(report)
        done = subprocess.run(words, cwd=folder, capture_output=True, text=True, check=False)
        used = resource.getrusage(resource.RUSAGE_CHILDREN)
        figures = [used.ru_utime + used.ru_stime, used.ru_maxrss / 1024]
        with os.fdopen(child, "w") as file:
            json.dump([*figures, done.returncode, done.stdout + done.stderr], file)
        os._exit(0)
    os.close(child)
    with os.fdopen(report) as file:
        cpu_s, peak_mib, code, text = json.load(file)
    os.waitpid(pid, 0)
    assert code == 0, text
    return time.monotonic() - started_s, cpu_s, peak_mib


def main() -> None:
    nodes, pods = (int(word) for word in (sys.argv[1:] or ("1000", "10000")))
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        with api_server(folder) as server:
            started_s = time.monotonic()
            fill(server, nodes, pods)
            print(
                f"{nodes:,} nodes and {pods:,} pods written in {time.monotonic() - started_s:.0f} s"
            )
            report(server, folder)


def report(server: Server, folder: Path) -> None:
    from profiler.table import save

    (folder / "profiles").mkdir()
    for target, cost in (("l20", 2.0), ("a10", 0.5)):
        table = make_table(target, [[20.0 * cost, 8.0], [4.0, 2.0]], cost=cost)
        save(table, folder / f"profiles/{target}.table.json")
    rows = [f"2024-01-01 00:00:{second:02d},100,30" for second in range(60)]
    (folder / "trace.csv").write_text("\n".join(["TIMESTAMP,ContextTokens,GeneratedTokens", *rows]))
    with connect(server.access) as api:
        for target in ("l20", "a10"):
            api.create(fleet.deployment(target, 4))
    plan = ["-m", "aibrixctl", "optimize", "plan", "--profiles", "profiles", "--workload",
            "trace.csv", "--current", "k8s", "--kubeconfig", str(server.kubeconfig)]  # fmt: skip
    for title, words in (
        ("listing, and counting GPUs", ["-c", LISTING, str(server.kubeconfig)]),
        ("optimize plan --current k8s", plan),
    ):
        runs = [measured([sys.executable, *words], folder) for _ in range(3)]
        walls, cpus, peaks = zip(*runs, strict=True)
        times = ", ".join(f"{seconds:.1f}" for seconds in walls)
        print(
            f"{title}: {times} s, CPU {min(cpus):.1f} s, at most {max(peaks):.0f} MiB", flush=True
        )


if __name__ == "__main__":
    main()
