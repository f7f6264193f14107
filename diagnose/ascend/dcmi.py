"""The part of DCMI, the library of the Ascend driver, that a diagnosis asks.

Layouts and numbers after the interface header in Ascend/mind-cluster (Apache-2.0), units after the
DCMI reference of the Ascend 910B.
"""

import ctypes
from collections.abc import Iterator
from ctypes import byref, c_char, c_int, c_ubyte, c_uint, c_ulonglong, create_string_buffer
from typing import Any, ClassVar

INVALID_PARAMETER = -8001
NOT_PERMITTED = -8002
INVALID_DEVICE_ID = -8007
DEVICE_NOT_EXIST = -8008
NOT_READY = -8012
NOT_SUPPORTED_IN_CONTAINER = -8013
NOT_SUPPORTED = -8255
NO_FUNCTION = -99998  # not of DCMI: the library is older than the call

_TEXTS = {
    INVALID_PARAMETER: "invalid parameter",
    NOT_PERMITTED: "not permitted",
    -8003: "memory operation failed",
    -8004: "secure function failed",
    -8005: "internal error",
    -8006: "timed out",
    INVALID_DEVICE_ID: "invalid device id",
    DEVICE_NOT_EXIST: "device does not exist",
    -8009: "ioctl failed",
    -8010: "message could not be sent",
    -8011: "no message came back",
    NOT_READY: "device not ready",
    NOT_SUPPORTED_IN_CONTAINER: "not supported in a container",
    -8014: "file operation failed",
    -8015: "reset failed",
    -8016: "aborted",
    -8017: "firmware upgrade running",
    -8020: "resource occupied",
    -8022: "wrong partition",
    -8023: "no such configuration",
    NOT_SUPPORTED: "not supported",
    NO_FUNCTION: "the library does not have the function",
}

PATHS = (
    "libdcmi.so",
    "/usr/local/dcmi/libdcmi.so",
    "/usr/local/Ascend/driver/lib64/driver/libdcmi.so",
    "/usr/local/Ascend/driver/lib64/libdcmi.so",
)
MAX_CARDS = 64
MAX_CODES = 128
MEMORY_HBM = 2
DIE_V = 1
CLOCK_AICORE = 7
USE_AICORE = 2


class DcmiError(Exception):
    """A call that DCMI refused; ``number`` is what it returned."""

    def __init__(self, function: str, number: int):
        super().__init__(f"{function}: {_TEXTS.get(number, 'unknown error')} ({number})")
        self.number = number


class Chip(ctypes.Structure):
    """What an NPU is: names, and how many AI Cores."""

    _fields_: ClassVar[list[tuple[str, Any]]] = [
        ("type", c_char * 32),
        ("name", c_char * 32),
        ("version", c_char * 32),
        ("aicore_count", c_uint),
    ]


class Pcie(ctypes.Structure):
    """Ids and address of an NPU on the PCI bus."""

    _fields_: ClassVar[list[tuple[str, Any]]] = [
        ("vendor_id", c_uint),
        ("subvendor_id", c_uint),
        ("device_id", c_uint),
        ("subdevice_id", c_uint),
        ("domain", c_int),
        ("bus", c_uint),
        ("device", c_uint),
        ("function", c_uint),
        ("reserved", c_ubyte * 32),
    ]

    @property
    def address(self) -> str:
        """In the kernel's form."""
        return f"{self.domain:04x}:{self.bus:02x}:{self.device:02x}.{self.function:x}"


class Die(ctypes.Structure):
    """The number burnt into a chip."""

    _fields_: ClassVar[list[tuple[str, Any]]] = [("word", c_uint * 5)]

    def __str__(self) -> str:
        return " ".join(f"{word:08X}" for word in self.word)


class Hbm(ctypes.Structure):
    """Size, use and heat of the memory."""

    _fields_: ClassVar[list[tuple[str, Any]]] = [
        ("size_mib", c_ulonglong),
        ("clock_mhz", c_uint),
        ("used_mib", c_ulonglong),
        ("temperature_c", c_int),
        ("bandwidth_percent", c_uint),
    ]


class Ecc(ctypes.Structure):
    """Error counters of a memory, since start and over its life, and isolated pages."""

    _fields_: ClassVar[list[tuple[str, Any]]] = [
        ("enabled", c_int),
        ("single_bit", c_uint),
        ("double_bit", c_uint),
        ("single_bit_total", c_uint),
        ("double_bit_total", c_uint),
        ("isolated_single_bit", c_uint),
        ("isolated_double_bit", c_uint),
        ("next_isolated_single_bit", c_uint),
        ("next_isolated_double_bit", c_uint),
    ]


class Dcmi:
    """The loaded library.

    Raises:
        OSError: it is nowhere to be found, or can't be loaded.
    """

    def __init__(self) -> None:
        self._library = _load()

    def call(self, function: str, *arguments: Any) -> None:
        """Call a function.

        Raises:
            DcmiError: it returned something else than 0, or the library doesn't have it.
        """
        try:
            returned = getattr(self._library, function)(*arguments)
        except AttributeError:
            raise DcmiError(function, NO_FUNCTION) from None
        if returned != 0:
            raise DcmiError(function, returned)

    def number(self, function: str, *arguments: int, type_: Any = c_int) -> int:
        """Call a function whose last argument takes one number; return that."""
        found = type_()
        self.call(function, *arguments, byref(found))
        return int(found.value)

    def text(self, function: str) -> str:
        """Call a function that fills a buffer of a given size."""
        buffer = create_string_buffer(256)
        self.call(function, buffer, len(buffer))
        return buffer.value.decode(errors="replace")

    def filled(self, structure: type[Any], function: str, *arguments: int) -> Any:
        """Call a function whose last argument takes a structure; return that."""
        found = structure()
        self.call(function, *arguments, byref(found))
        return found

    def npus(self) -> Iterator[tuple[int, int]]:
        """Yield card and device of every NPU that the driver lists."""
        cards, count = (c_int * MAX_CARDS)(), c_int()
        self.call("dcmi_get_card_list", byref(count), cards, MAX_CARDS)
        for card in cards[: count.value]:
            for device in range(self.number("dcmi_get_device_num_in_card", card)):
                yield card, device

    def codes(self, card: int, device: int) -> list[int]:
        """Return the active fault codes of an NPU."""
        found, count = (c_uint * MAX_CODES)(), c_int()
        self.call("dcmi_get_device_errorcode_v2", card, device, byref(count), found, MAX_CODES)
        return list(found[: count.value])


def _load() -> ctypes.CDLL:
    problem: OSError | None = None
    for path in PATHS:
        try:
            return ctypes.CDLL(path)
        except OSError as error:
            problem = problem or error
    assert problem is not None
    raise problem
