"""Make the C header that the native libraries share with Python, and their version scripts.

``mockfail.properties`` decides the enumerations, the symbol lists decide what is exported. The
build runs this; it needs nothing but the standard library.
"""

import re
import sys
from pathlib import Path

from mockfail import properties

HERE = Path(__file__).parent
Names = list[str]

# nvmlDevice… functions whose first argument is not a device handle
NO_HANDLE = (
    "nvmlDeviceDiscoverGpus",
    "nvmlDeviceGetCount",
    "nvmlDeviceGetHandleBy",
    "nvmlDeviceModifyDrainState",
    "nvmlDeviceQueryDrainState",
    "nvmlDeviceRemoveGpu",
)
# DCMI functions whose first two arguments are not card and device: of the driver, of a whole card,
# and those that translate ids
NO_CARD_AND_DEVICE = re.compile(
    r"dcmi_(init|[gs]et_(card|mcu)_.*|mcu_.*|get_(dcmi|driver)_.*|get_all_device_count"
    r"|.*_(logicid|phyid|logic_id|in_card|customized_info_api|power_on_date|work_mode|vdevice_mode"
    r"|recover_mode|service_enable|multi_die_policy|multi_ecc_(time|record)_info))"
)


def symbols(library: str) -> Names:
    """Return the exported functions of ``nvml`` or ``dcmi``, in the order of their numbers."""
    return (HERE / f"{library}_symbols.txt").read_text().split()


def takes_device(function: str) -> bool:
    """Say whether the first argument (of DCMI the first two) names a device."""
    if function.startswith("nvml"):
        return function.startswith("nvmlDevice") and not function.startswith(NO_HANDLE)
    return NO_CARD_AND_DEVICE.fullmatch(function) is None


def header() -> str:
    """Return ``generated.h``."""
    parts = [
        "/* Made by generate.py from mockfail/properties.py and the symbol lists. */",
        "#ifndef MOCKFAIL_GENERATED_H",
        "#define MOCKFAIL_GENERATED_H",
        *_constants(),
        "#ifdef MK_DCMI",
        *_functions(symbols("dcmi")),
        "#else",
        *_functions(symbols("nvml")),
        "#endif",
        "#ifndef __ASSEMBLER__",
        *_enumerations(),
        "typedef enum {",
        "#define MK_ENUMERATE(name, device) FN_##name,",
        "    MK_FUNCTIONS(MK_ENUMERATE)",
        "#undef MK_ENUMERATE",
        "    FN_COUNT",
        "} mk_function;",
        "#endif",
        "#endif",
    ]
    return "\n".join(parts) + "\n"


def _constants() -> Names:
    return [
        f"#define MK_DIGEST {properties.digest()}u",
        f"#define MK_MAX_GPUS {properties.MAX_GPUS}",
        f"#define MK_MAX_NPUS {properties.MAX_NPUS}",
        f"#define MK_MAX_LINKS {properties.MAX_LINKS}",
        f"#define MK_MAX_PROCESSES {properties.MAX_PROCESSES}",
        f"#define MK_MAX_CODES {properties.MAX_CODES}",
        f"#define MK_STRING_BYTES {properties.STRING_BYTES}",
    ]


def _functions(names: Names) -> Names:
    """Return the list as one macro, ``X(name, whether it takes a device)`` for each."""
    rows = [f"    X({name}, {int(takes_device(name))})" for name in names]
    return ["#define MK_FUNCTIONS(X) \\", *(f"{row} \\" for row in rows[:-1]), rows[-1]]


def _enumerations() -> Names:
    lines = []
    for scope, entries in properties.PROPERTIES.items():
        prefix = f"MK_{scope.upper()}"
        lines += ["typedef enum {", *(f"    {prefix}_{p.name.upper()}," for p in entries)]
        lines += [f"    {prefix}_PROPERTIES", f"}} mk_{scope}_property;"]
    return lines


def version_script(library: str, *, redirect: bool) -> str:
    """Return what the linker exports: the library's functions and what the loader asks us for."""
    extra = ["dlopen", "dlmopen", "aibrixctl_mock"] if redirect else []
    exported = "".join(f"    {name};\n" for name in [*symbols(library), *extra])
    return f"{{\n  global:\n{exported}  local: *;\n}};\n"


def write(folder: Path) -> None:
    """Write the header and the version scripts into a folder."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "generated.h").write_text(header())
    for library in ("nvml", "dcmi"):
        (folder / f"{library}.map").write_text(version_script(library, redirect=True))
        (folder / f"{library}_plain.map").write_text(version_script(library, redirect=False))


if __name__ == "__main__":
    write(Path(sys.argv[1]))
