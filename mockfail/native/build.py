"""Compile the native libraries; setup.py and the tests use it, with the standard library only."""

import os
import shlex
import shutil
import subprocess
import tempfile
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from mockfail import properties
from mockfail.native import FILES, generate

HERE = Path(__file__).parent
CORE = ("snapshot.c", "check.c", "values.c", "real.c", "cache.c", "gate.c", "redirect.c", "entry.S")
FLAGS = (
    "-std=gnu11", "-O2", "-g0", "-fPIC", "-fvisibility=hidden", "-fno-plt",
    "-ftls-model=initial-exec", "-Wall", "-Wextra",
    "-fwrapv",  # readings may be any number, and so may their sums
)  # fmt: skip
LINK = (
    "-shared", "-Wl,-z,defs", "-Wl,-z,relro", "-Wl,-z,now", "-Wl,-z,noexecstack",
    "-Wl,--hash-style=gnu", "-Wl,-O1", "-Wl,--as-needed",
)  # fmt: skip


class CompilerError(Exception):
    """There is no C compiler, or it gave up; the message holds what it said."""


def sources(library: str) -> list[str]:
    """Return the C and assembly files of a library, in the order of their names."""
    own = sorted(path.name for path in HERE.glob(f"{library}*.c"))
    return [str(HERE / name) for name in (*CORE, *own)]


def is_current(library: str) -> bool:
    """Say whether the library in place is there, and newer than all it is made from."""
    made = HERE / FILES[library]
    inputs = [path for path in HERE.iterdir() if path.is_file() and ".so" not in path.suffixes]
    inputs.append(Path(properties.__file__))
    return made.exists() and made.stat().st_mtime > max(p.stat().st_mtime for p in inputs)


def compiler() -> list[str]:
    """Return the C compiler with its options: ``$CC``, else cc, gcc or clang.

    Raises:
        CompilerError: there is none.
    """
    named = shlex.split(os.environ.get("CC", ""))
    for command in [named] if named else [["cc"], ["gcc"], ["clang"]]:
        if shutil.which(command[0]):
            return command
    raise CompilerError("no C compiler was found (looked for $CC, cc, gcc and clang)")


def compile_library(library: str, target: Path, *, extra: Sequence[str] = ()) -> None:
    """Compile ``nvml`` or ``dcmi`` to a shared object.

    Args:
        library: which one.
        target: the file to make; it appears whole, so a program that has the former one loaded
            keeps it.
        extra: more options of the compiler, such as ``-DMK_STAND_IN``.

    Raises:
        CompilerError: no compiler, or it gave up.
    """
    redirects = "-DMK_STAND_IN" not in extra
    options = [*FLAGS, *(["-DMK_DCMI"] if library == "dcmi" else []), *extra]
    target.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=target.parent, prefix=".build-") as name:
        folder = Path(name)
        generate.write(folder)
        objects = _compile_all(sources(library), [*options, f"-I{folder}", f"-I{HERE}"], folder)
        script = folder / f"{library}{'' if redirects else '_plain'}.map"
        names = [f"-Wl,-soname,{FILES[library]}", f"-Wl,--version-script,{script}"]
        _run([*compiler(), *LINK, *names, *objects, "-ldl", "-o", str(folder / "library")])
        (folder / "library").replace(target)


def _compile_all(paths: Sequence[str], options: Sequence[str], folder: Path) -> list[str]:
    """Compile each file to an object, as many at a time as there are cores."""
    objects = [str(folder / f"{Path(path).name}.o") for path in paths]
    commands = [
        [*compiler(), *options, "-c", path, "-o", made]
        for path, made in zip(paths, objects, strict=True)
    ]
    with ThreadPoolExecutor(os.cpu_count() or 1) as pool:
        list(pool.map(_run, commands))
    return objects


def _run(command: Sequence[str]) -> None:
    ended = subprocess.run(command, capture_output=True, text=True, check=False)
    if ended.returncode != 0:
        raise CompilerError(f"{shlex.join(command)}\n{ended.stderr}")
