"""Read the NVLinks of a GPU."""

from typing import Any

import pynvml as nvml

from diagnose.child import Reader
from diagnose.facts import Failure

_ERRORS = {
    "replay_errors": nvml.NVML_NVLINK_ERROR_DL_REPLAY,
    "recovery_errors": nvml.NVML_NVLINK_ERROR_DL_RECOVERY,
    "crc_flit_errors": nvml.NVML_NVLINK_ERROR_DL_CRC_FLIT,
    "crc_data_errors": nvml.NVML_NVLINK_ERROR_DL_CRC_DATA,
}
_NO_MORE = (
    nvml.NVML_ERROR_NOT_SUPPORTED,
    nvml.NVML_ERROR_INVALID_ARGUMENT,
    nvml.NVML_ERROR_FUNCTION_NOT_FOUND,
)
_GONE = (nvml.NVML_ERROR_GPU_IS_LOST, nvml.NVML_ERROR_RESET_REQUIRED)


def read_links(gpu: Any, reader: Reader) -> None:
    """Read state and error counters of each link that the card has, as ``nvlinks``.

    A card without links has the failure ``not_supported``; the number of links is where the
    driver begins to refuse. Any other failure stands beside the links that could be read.
    """
    reader.tell("nvmlDeviceGetNvLinkState")
    links: list[dict[str, Any]] = []
    for number in range(nvml.NVML_NVLINK_MAX_LINKS):
        try:
            active = bool(nvml.nvmlDeviceGetNvLinkState(gpu, number))
        except nvml.NVMLError as error:
            if error.value in _GONE:
                raise
            if error.value not in _NO_MORE:
                reader.failures["nvlinks"] = Failure("error", f"NVML: {error}", error.value)
            break
        counters = _counters(gpu, number, reader) if active else {}
        links.append({"link": number, "active": active} | counters)
    if links:
        reader.values["nvlinks"] = links
    elif "nvlinks" not in reader.failures:
        reader.failures["nvlinks"] = Failure("not_supported", "the card has no NVLink")


def _counters(gpu: Any, link: int, reader: Reader) -> dict[str, int]:
    """Read the counters of a link that is up; those that this generation lacks are left out."""
    counters = {}
    for name, number in _ERRORS.items():
        try:
            counters[name] = int(nvml.nvmlDeviceGetNvLinkErrorCounter(gpu, link, number))
        except nvml.NVMLError as error:
            if error.value in _GONE:
                raise
            if error.value not in _NO_MORE:
                reader.failures["nvlinks"] = Failure("error", f"NVML: {error}", error.value)
    return counters
