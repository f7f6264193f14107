"""Moving a pool between two Redis servers on this machine: ours, and the usual ways, in one run.

Values of 256 KiB with LMCache's headers. The contenders take turns, round after round, so that
what else the machine does meets all alike. Client CPU is user and system time of this process
while a contender works; the servers' own is shown beside it.
"""

import argparse
import os
import resource
import shutil
import socket
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import redis

from kvpool.entry import Header, TensorGroup
from kvpool.lmcache import pack_header
from kvpool.migrate.report import Options
from kvpool.migrate.run import Migration
from kvpool.redis_wire import command

VALUE_BYTES = 256 << 10
HEADER = pack_header(Header(VALUE_BYTES, "KV_2LTD", (TensorGroup("bfloat16", (2, 4, 16, 1024)),)))
MIGRATE_BATCH = 16


@dataclass(frozen=True)
class Server:
    port: int
    pid: int

    @property
    def url(self) -> str:
        return f"lmcache+redis://127.0.0.1:{self.port}/0"

    def client(self) -> "redis.Redis":
        return redis.Redis(port=self.port)

    def cpu_s(self) -> float:
        fields = Path(f"/proc/{self.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


@contextmanager
def server(folder: Path) -> Iterator[Server]:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    words = ["redis-server", "--port", str(port), "--save", "", "--dir", str(folder)]
    process = subprocess.Popen(words, stdout=subprocess.DEVNULL)
    try:
        found = Server(port, process.pid)
        with found.client() as client:
            for _ in range(500):
                try:
                    client.ping()
                    break
                except redis.ConnectionError:
                    time.sleep(0.02)
        yield found
    finally:
        process.terminate()
        process.wait()


def key_of(number: int) -> str:
    return f"meta-llama/Llama-3-8B@1@0@{number:016x}@bfloat16"


def halves(number: int) -> tuple[str, str]:
    return f"{key_of(number)}kv_bytes", f"{key_of(number)}metadata"


def fill(place: Server, count: int, size: int = VALUE_BYTES, header: bytes = HEADER) -> None:
    block = os.urandom(size + count)
    with place.client() as client:
        for first in range(0, count, 64):
            pipe = client.pipeline(transaction=False)
            for number in range(first, min(count, first + 64)):
                data, meta = halves(number)
                pipe.set(data, block[number : number + size])
                pipe.set(meta, header)
            pipe.execute()


def naive(source: Server, target: Server, count: int) -> None:
    """One GET and one SET after the other, as a script would."""
    with source.client() as here, target.client() as there:
        for number in range(count):
            for name in halves(number):
                there.set(name, here.get(name))


def pipelined(source: Server, target: Server, count: int) -> None:
    """MGET of 16 entries and a pipeline of SETs, as a careful script would."""
    with source.client() as here, target.client() as there:
        for first in range(0, count, MIGRATE_BATCH):
            names = [
                name
                for number in range(first, min(count, first + MIGRATE_BATCH))
                for name in halves(number)
            ]
            pipe = there.pipeline(transaction=False)
            for name, value in zip(names, here.mget(names), strict=True):
                pipe.set(name, value)
            pipe.execute()


def server_side(source: Server, target: Server, count: int) -> None:
    """MIGRATE COPY of 16 entries: the source's server connects to the target's."""
    with source.client() as here:
        for first in range(0, count, MIGRATE_BATCH):
            numbers = range(first, min(count, first + MIGRATE_BATCH))
            names = [name for number in numbers for name in halves(number)]
            here.execute_command(
                "MIGRATE",
                "127.0.0.1",
                target.port,
                "",
                0,
                60_000,
                "COPY",
                "REPLACE",
                "KEYS",
                *names,
            )


def bare_relay(source: Server, target: Server, count: int) -> None:
    """Two threads that pass replies on as SETs, and look at nothing: what sockets allow."""
    frame = len(f"${VALUE_BYTES}\r\n") + VALUE_BYTES + 2
    small = len(f"${len(HEADER)}\r\n") + len(HEADER) + 2

    def lane(first: int, last: int) -> None:
        buffer = memoryview(bytearray(8 * (frame + small)))
        with (
            socket.create_connection(("127.0.0.1", source.port)) as here,
            socket.create_connection(("127.0.0.1", target.port)) as there,
        ):
            for start in range(first, last, 8):
                names = [halves(number) for number in range(start, min(last, start + 8))]
                here.sendall(b"".join(command("GET", name) for pair in names for name in pair))
                got, size = 0, len(names) * (frame + small)
                while got < size:
                    got += here.recv_into(buffer[got:size])
                parts: list[bytes | memoryview] = []
                at = 0
                for pair in names:
                    for name, length in zip(pair, (frame, small), strict=True):
                        parts.append(
                            b"*3\r\n$3\r\nSET\r\n$%d\r\n%b\r\n" % (len(name), name.encode())
                        )
                        parts.append(buffer[at : at + length])
                        at += length
                there.sendmsg(parts)
                answers = 0
                while answers < 5 * 2 * len(names):
                    answers += len(there.recv(4096))

    middle = count // 2
    threads = [threading.Thread(target=lane, args=part) for part in ((0, middle), (middle, count))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


def ours(verify: str) -> Callable[[Server, Server, int], None]:
    def run(source: Server, target: Server, count: int) -> None:
        with tempfile.TemporaryDirectory() as folder:
            options = Options(verify=verify)  # type: ignore[arg-type]
            with Migration(source.url, target.url, options) as migration:
                report = migration.run(
                    Path(folder) / "journal", resume=False, stop=threading.Event()
                )
            assert report.complete, report
            assert report.written_entries == count

    return run


CONTENDERS: dict[str, Callable[[Server, Server, int], None]] = {
    "naive GET/SET": naive,
    "MGET + pipelined SET": pipelined,
    "MIGRATE COPY": server_side,
    "bare relay, no checks": bare_relay,
    "kv migrate --verify none": ours("none"),
    "kv migrate --verify sample": ours("sample"),
    "kv migrate --verify full": ours("full"),
}


def cpu_s() -> float:
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


def speed(source: Server, target: Server, count: int, rounds: int) -> None:
    fill(source, count)
    gigabytes = count * VALUE_BYTES / 1e9
    found: dict[str, list[tuple[float, float, float]]] = {name: [] for name in CONTENDERS}
    for _ in range(rounds):
        for name, run in CONTENDERS.items():
            with target.client() as client:
                client.flushall()
            before = cpu_s(), source.cpu_s() + target.cpu_s()
            start_s = time.perf_counter()
            run(source, target, count)
            took_s = time.perf_counter() - start_s
            servers = source.cpu_s() + target.cpu_s() - before[1]
            mine = cpu_s() - before[0]
            found[name].append((gigabytes * 1e3 / took_s, mine / gigabytes, servers / gigabytes))
    base = statistics.median(rate for rate, _, _ in found["naive GET/SET"])
    print(f"{count} values of 256 KiB, {rounds} rounds in turn; medians (best rate)")
    for name, figures in found.items():
        rate, client, servers = (statistics.median(column) for column in zip(*figures, strict=True))
        best = max(figure[0] for figure in figures)
        print(
            f"{name:28} {rate:5.0f} ({best:5.0f}) MB/s  x{rate / base:.2f}  "
            f"client {client:.2f}  servers {servers:.2f} CPU s per GB"
        )


def whole_command(source: Server, target: Server, count: int, *words: str) -> tuple[float, int]:
    """Run the program itself; return seconds and peak memory in MiB."""
    with target.client() as client:
        client.flushall()
    with tempfile.TemporaryDirectory() as folder:
        script = (
            "import re, sys\n"
            "from aibrixctl.app import run\n"
            "code = run(sys.argv[1:])\n"
            # ru_maxrss would include the parent's memory at the time of the fork.
            "status = open('/proc/self/status').read()\n"
            "print(int(re.search('VmHWM:\\\\s+(\\\\d+)', status)[1]) // 1024)\n"
            "sys.exit(code)\n"
        )
        line = [sys.executable, "-c", script, "kv", "migrate", source.url, target.url, *words]
        start_s = time.perf_counter()
        done = subprocess.run(
            [*line, "--journal", folder], check=True, capture_output=True, text=True
        )
        return time.perf_counter() - start_s, int(done.stdout.splitlines()[-1])


def memory(source: Server, target: Server, small: int) -> None:
    print("the program as a whole: peak memory, and time with its start-up")
    took_s, peak = whole_command(source, target, 0)
    print(f"  the values above: {peak} MiB, {took_s:.1f} s")
    with source.client() as client:
        client.flushall()
    header = pack_header(Header(1024, "KV_2LTD", (TensorGroup("bfloat16", (2, 1, 16, 16)),)))
    fill(source, small, 1024, header)
    took_s, peak = whole_command(source, target, small)
    print(f"  {small:,} values of 1 KiB: {peak} MiB, {took_s:.1f} s")
    with source.client() as client:
        client.flushall()
    size = 96 << 20
    header = pack_header(Header(size, "KV_2LTD", (TensorGroup("bfloat16", (2, 4, 6144, 1024)),)))
    fill(source, 4, size, header)
    took_s, peak = whole_command(source, target, 4, "--verify", "full")
    print(f"  4 values of 96 MiB, --verify full: {peak} MiB, {took_s:.1f} s")


def pacing(source: Server, target: Server) -> None:
    count = 800
    with source.client() as client:
        client.flushall()
    fill(source, count)
    for rate in (20e6, 100e6):
        with target.client() as client:
            client.flushall()
        with tempfile.TemporaryDirectory() as folder:
            options = Options(bytes_per_s=rate, verify="none")
            with Migration(source.url, target.url, options) as migration:
                report = migration.run(
                    Path(folder) / "journal", resume=False, stop=threading.Event()
                )
        seen = report.written_bytes / report.elapsed_s
        print(f"--max-rate {rate / 1e6:.0f}MB/s: {seen / 1e6:.1f} MB/s ({seen / rate - 1:+.1%})")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--count", type=int, default=4000)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--small", type=int, default=100_000)
    parser.add_argument("--only", choices=("speed", "memory", "pacing"))
    asked = parser.parse_args()
    if shutil.which("redis-server") is None:
        sys.exit("redis-server is not installed")
    with (
        tempfile.TemporaryDirectory() as folder,
        server(Path(folder)) as source,
        server(Path(folder)) as target,
    ):
        print(f"load average {os.getloadavg()[0]:.1f} on {os.cpu_count()} cores")
        if asked.only in (None, "speed"):
            speed(source, target, asked.count, asked.rounds)
        if asked.only in (None, "memory"):
            memory(source, target, asked.small)
        if asked.only in (None, "pacing"):
            pacing(source, target)


if __name__ == "__main__":
    main()
