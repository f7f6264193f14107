"""A ``kubectl`` whose port-forwards lead to ports of this machine: no kubelet runs in the tests."""

import json
import sys
from pathlib import Path

PROGRAM = """#!{python}
import json, signal, sys
words = sys.argv[1:]
with open({log!r}, "a") as log:
    log.write(json.dumps(words) + "\\n")
what = words[words.index("port-forward") + 3]
ports = {ports!r}
if what not in ports:
    print(f"error: unable to forward port because pod is not running. Current status={{'Pending'}}")
    sys.exit(1)
print(f"Forwarding from 127.0.0.1:{{ports[what]}} -> {{words[-1].strip(':')}}", flush=True)
signal.pause()
"""


def install(folder: Path, ports: dict[str, int]) -> Path:
    """Write the program into a folder for PATH; return the file that lists its calls."""
    log = folder / "kubectl.log"
    program = folder / "kubectl"
    program.write_text(PROGRAM.format(python=sys.executable, log=str(log), ports=ports))
    program.chmod(0o755)
    return log


def calls(log: Path) -> list[list[str]]:
    return [json.loads(line) for line in log.read_text().splitlines()]
