"""What clients print, as readings: place to text, such as ``GPU 3 temperature.gpu`` to ``97``.

What changes by itself (the time of day, the load of the CPU) is left out.
"""

import csv
import io
import re
from collections.abc import Iterator, Mapping, Sequence
from xml.etree import ElementTree

Readings = dict[str, str]


def squeezed(text: str) -> str:
    """Return a text on one line, with single spaces."""
    return " ".join(text.split())


def flat(value: object, place: str = "") -> Readings:
    """Return the leaves of a JSON document by their place."""
    if isinstance(value, Mapping):
        items = list(value.items())
    elif isinstance(value, list):
        items = list(enumerate(value))
    else:
        return {place: str(value)}
    parts = [flat(item, f"{place}.{key}".lstrip(".")) for key, item in items]
    return {name: text for part in parts for name, text in part.items()}


def by_device(devices: Sequence[Mapping[str, object]]) -> Readings:
    """Return the readings of a JSON list of devices."""
    parts = [
        {f"GPU {index} {name}": text for name, text in flat(device).items()}
        for index, device in enumerate(devices)
    ]
    return {name: text for part in parts for name, text in part.items()}


def blocks(text: str, row: str, rows: int) -> Readings:
    """Return a table in characters: ``rows`` lines for each GPU, the first of which matches."""
    readings: Readings = {}
    rest: list[str] = []
    lines = iter(text.splitlines())
    for line in lines:
        if found := re.match(row, line):
            block = [line, *(next(lines, "") for _ in range(rows - 1))]
            readings[f"GPU {int(found[1])}"] = _cells(" ".join(block))
        elif not re.match(r"^(\w{3} \w{3} +\d+ [\d:]{8} \d{4}|\[ (CPU|MEM): .*)\s*$", line):
            rest.append(_cells(line))
    return readings | {"around": " ".join(word for word in rest if word)}


def _cells(line: str) -> str:
    return squeezed(re.sub(r"[|│╞╪═╡├┼─┤╒╤╕╘╧╛┬┴+=_]|-{2,}", " ", line))


def nvidia_smi_xml(text: str) -> Readings:
    """Return ``nvidia-smi -q -x`` by GPU and path."""
    root = ElementTree.fromstring(text)
    readings = {
        child.tag: child.text or "" for child in root if child.tag not in ("gpu", "timestamp")
    }
    for index, gpu in enumerate(root.iter("gpu")):
        readings |= {f"GPU {index} {path}": text for path, text in _leaves(gpu)}
    return readings


def _leaves(element: ElementTree.Element, path: str = "") -> Iterator[tuple[str, str]]:
    for place, child in enumerate(element):
        twin = sum(1 for other in element if other.tag == child.tag) > 1
        name = f"{path}.{child.tag}{f'[{place}]' if twin else ''}".lstrip(".")
        if len(child):
            yield from _leaves(child, name)
        else:
            yield name, child.text or ""


def nvidia_smi_log(text: str) -> Readings:
    """Return ``nvidia-smi -q`` by GPU and path."""
    readings: Readings = {}
    gpu, path = "", list[tuple[int, str]]()
    index = -1
    for line in text.splitlines():
        if line.startswith("GPU "):
            index += 1
            gpu, path = f"GPU {index} ", []
            continue
        depth = len(line) - len(line.lstrip())
        name, colon, value = line.partition(" : ")
        path = [(d, n) for d, n in path if d < depth]
        if colon and name.strip() != "Timestamp":
            place = "/".join([*(n for _, n in path), name.strip()])
            readings[gpu + place] = value.strip()
        elif line.strip() and not line.startswith("="):
            path.append((depth, line.strip()))
    return readings


def nvidia_smi_csv(text: str) -> Readings:
    """Return rows of ``--query-…=… --format=csv``, by GPU and heading."""
    rows = list(csv.reader(io.StringIO(text), skipinitialspace=True))
    what = "process" if rows and "pid" in rows[0] else "GPU"
    return {
        f"{what} {index} {heading}": cell
        for index, row in enumerate(rows[1:])
        for heading, cell in zip(rows[0], row, strict=True)
    }


def nvidia_smi_links(text: str) -> Readings:
    """Return ``nvidia-smi nvlink``: the lines of each GPU."""
    readings: Readings = {}
    gpu = ""
    for line in text.splitlines():
        if found := re.match(r"GPU (\d+)", line):
            gpu = f"GPU {found[1]}"
        name, colon, value = line.strip().rpartition(": ")
        if colon and not found:
            readings[f"{gpu} {name}"] = value
        elif line.strip() and not found:
            readings[f"{gpu} {line.strip()}"] = ""
    return readings


def metrics(text: str) -> Readings:
    """Return the metrics of GPUs from what Prometheus would scrape."""
    pattern = re.compile(r'^(gpu_\w+)\{.*index="(\d+)".*\} (\S+)$', re.MULTILINE)
    return {f"GPU {m[2]} {m[1]}": m[3] for m in pattern.finditer(text)}


def hwloc_devices(text: str) -> Readings:
    """Return the GPUs that hwloc's NVML component adds to the topology."""
    found = re.findall(r'\(NVML\).*\((.*)\) "nvml(\d+)"', text)
    return {f"GPU {index}": described for described, index in found}


def c_line(text: str) -> Readings:
    """Return the line of ``client.c``: init, count's result, count, a temperature each."""
    init, *rest = text.split() or ["nothing"]
    readings = {"nvmlInit": init}
    if rest:
        readings["count"] = rest[1]
        readings |= {f"GPU {index} temperature": word for index, word in enumerate(rest[2:])}
    return readings
