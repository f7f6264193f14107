"""What a healthy card of each type reports to NVML while nothing runs on it.

Memory, host interface and power limit stand in the accelerator catalogue; here is the rest.
Sources: NVIDIA data sheets and architecture white papers (units, bus, clocks), pci.ids (device
numbers), and what ``nvidia-smi -q`` of such cards prints in public reports (idle readings,
thresholds, board parts, banks). A reading that NVML refuses on the type is absent or None.
"""

from dataclasses import dataclass
from enum import IntEnum


class Architecture(IntEnum):
    """NVML's number of a GPU architecture."""

    VOLTA = 5
    TURING = 6
    AMPERE = 7
    ADA = 8
    HOPPER = 9
    BLACKWELL = 10


class Brand(IntEnum):
    """NVML's number of a product brand."""

    TESLA = 2
    GEFORCE = 5
    NVIDIA_RTX = 13
    NVIDIA = 14


@dataclass(frozen=True)
class Clocks:
    """MHz of the four clock domains that NVML has."""

    graphics: int
    memory: int
    video: int


@dataclass(frozen=True)
class Links:
    """The NVLinks of a card; ``switches`` is how many NVSwitches of a node they lead to."""

    count: int
    version: int
    speed_mb_per_s: int
    switches: int


@dataclass(frozen=True)
class Card:
    """One card as its driver sees it, idle.

    Attributes:
        driver_name: what NVML calls it.
        device_id, subsystem_id: PCI device and subsystem device numbers.
        idle, highest, application: clocks; no application clocks on GeForce.
        idle_state: P-state.
        shutdown_c, slowdown_c, gpu_max_c, memory_max_c: thresholds.
        power_limits_w: lowest and highest limit that may be set.
        fans: 0 where the server's fans cool the card.
        ecc: ECC is on as shipped; every card here can turn it on.
        remap_banks: banks of the row remapper; None where pages are retired instead, or neither.
        image, vbios, part: InfoROM image, VBIOS and board part number.
        sleeps: the host link falls to generation 1 while idle.
        serial: the board has a serial number that software can read.
    """

    driver_name: str
    architecture: Architecture
    compute: tuple[int, int]
    device_id: int
    subsystem_id: int
    cores: int
    bus_bits: int
    bar1_gib: float
    idle: Clocks
    highest: Clocks
    application: Clocks | None
    idle_power_w: float
    idle_temperature_c: int
    shutdown_c: int
    slowdown_c: int
    gpu_max_c: int
    power_limits_w: tuple[int, int]
    image: str
    vbios: str
    part: str
    idle_state: int = 0
    memory_max_c: int | None = None
    brand: Brand = Brand.NVIDIA
    fans: int = 0
    ecc: bool = True
    remap_banks: int | None = None
    mig: bool = False
    links: Links | None = None
    sleeps: bool = False
    serial: bool = True


_NVLINK_2 = Links(6, 2, 25_781, 0)
_NVLINK_3 = Links(12, 4, 25_000, 6)
_NVLINK_4 = Links(18, 6, 26_562, 4)
_NVLINK_5 = Links(18, 7, 53_125, 2)


def _volta(name: str, device: int, subsystem: int, memory_gib: int, sxm: bool) -> Card:
    return Card(
        driver_name=name,
        architecture=Architecture.VOLTA,
        compute=(7, 0),
        device_id=device,
        subsystem_id=subsystem,
        cores=5120,
        bus_bits=4096,
        bar1_gib=memory_gib,
        idle=Clocks(135, 877, 555),
        highest=Clocks(1530, 877, 1372) if sxm else Clocks(1380, 877, 1237),
        application=Clocks(1290, 877, 1372) if sxm else Clocks(1230, 877, 1237),
        idle_power_w=42 if sxm else 25,
        idle_temperature_c=33,
        shutdown_c=90,
        slowdown_c=87,
        gpu_max_c=83,
        memory_max_c=85,
        power_limits_w=(150, 300) if sxm else (100, 250),
        image="G503.0203.00.05" if sxm else "G500.0202.00.02",
        vbios="88.00.80.00.01" if sxm else "88.00.48.00.02",
        part="900-2G503-0010-000" if sxm else "900-2G500-0010-000",
        brand=Brand.TESLA,
        links=_NVLINK_2 if sxm else None,
    )


def _ga100(
    name: str,
    device: int,
    subsystem: int,
    memory_mhz: int,
    idle_power_w: float,
    limits: tuple[int, int],
    part: str,
    bar1_gib: int,
    sxm: bool = False,
) -> Card:
    return Card(
        driver_name=name,
        architecture=Architecture.AMPERE,
        compute=(8, 0),
        device_id=device,
        subsystem_id=subsystem,
        cores=6912,
        bus_bits=5120,
        bar1_gib=bar1_gib,
        idle=Clocks(210, memory_mhz, 585),
        highest=Clocks(1410, memory_mhz, 1290),
        application=Clocks(1275 if sxm else 1410, memory_mhz, 1290),
        idle_power_w=idle_power_w,
        idle_temperature_c=31,
        shutdown_c=92,
        slowdown_c=89,
        gpu_max_c=85,
        memory_max_c=95,
        power_limits_w=limits,
        image=f"{part.split('-')[1][1:]}.0200.00.05",
        vbios="92.00.45.00.03" if sxm else "92.00.68.00.01",
        part=part,
        remap_banks=640,
        mig=True,
        links=_NVLINK_3 if sxm else None,
    )


def _hopper(
    name: str,
    device: int,
    subsystem: int,
    cores: int,
    memory_mhz: int,
    idle_power_w: float,
    *,
    bus_bits: int = 5120,
    bar1_gib: int = 128,
    graphics_mhz: int = 1980,
    limits: tuple[int, int] = (200, 700),
    part: str = "692-2G520-0200-000",
    banks: int = 2560,
    sxm: bool = True,
) -> Card:
    return Card(
        driver_name=name,
        architecture=Architecture.HOPPER,
        compute=(9, 0),
        device_id=device,
        subsystem_id=subsystem,
        cores=cores,
        bus_bits=bus_bits,
        bar1_gib=bar1_gib,
        idle=Clocks(345 if sxm else 210, memory_mhz, 765),
        highest=Clocks(graphics_mhz, memory_mhz, 1545),
        application=Clocks(graphics_mhz, memory_mhz, 1545),
        idle_power_w=idle_power_w,
        idle_temperature_c=29,
        shutdown_c=95,
        slowdown_c=92,
        gpu_max_c=87,
        memory_max_c=95,
        power_limits_w=limits,
        image=f"{part.split('-')[1][1:]}.0200.00.05",
        vbios="96.00.74.00.01",
        part=part,
        remap_banks=banks,
        mig=True,
        links=_NVLINK_4 if sxm else None,
    )


def _graphics(
    name: str,
    architecture: Architecture,
    compute: tuple[int, int],
    ids: tuple[int, int],
    cores: int,
    highest: Clocks,
    idle_power_w: float,
    limits: tuple[int, int],
    part: str,
    vbios: str,
    *,
    bus_bits: int = 384,
    bar1_gib: float = 64,
    idle_mhz: int = 210,
    banks: int | None = 192,
) -> Card:
    """Return a data-centre card with GDDR memory: it sleeps in P8 at a low memory clock."""
    return Card(
        driver_name=name,
        architecture=architecture,
        compute=compute,
        device_id=ids[0],
        subsystem_id=ids[1],
        cores=cores,
        bus_bits=bus_bits,
        bar1_gib=bar1_gib,
        idle=Clocks(idle_mhz, 405, 1185 if architecture == Architecture.ADA else 555),
        highest=highest,
        application=highest,
        idle_power_w=idle_power_w,
        idle_temperature_c=32,
        idle_state=8,
        shutdown_c=99,
        slowdown_c=96,
        gpu_max_c=88,
        power_limits_w=limits,
        image=f"{part.split('-')[1][1:]}.0200.00.03",
        vbios=vbios,
        part=part,
        remap_banks=banks,
        sleeps=True,
    )


_T4 = Card(
    driver_name="Tesla T4",
    architecture=Architecture.TURING,
    compute=(7, 5),
    device_id=0x1EB8,
    subsystem_id=0x12A2,
    cores=2560,
    bus_bits=256,
    bar1_gib=0.25,
    idle=Clocks(300, 405, 540),
    highest=Clocks(1590, 5001, 1470),
    application=Clocks(585, 5001, 1470),
    idle_power_w=10,
    idle_temperature_c=33,
    idle_state=8,
    shutdown_c=96,
    slowdown_c=93,
    gpu_max_c=85,
    power_limits_w=(60, 70),
    image="G183.0200.00.02",
    vbios="90.04.38.00.03",
    part="900-2G183-0000-001",
    brand=Brand.TESLA,
    sleeps=True,
)
_A30 = Card(
    driver_name="NVIDIA A30",
    architecture=Architecture.AMPERE,
    compute=(8, 0),
    device_id=0x20B7,
    subsystem_id=0x1532,
    cores=3584,
    bus_bits=3072,
    bar1_gib=32,
    idle=Clocks(210, 1215, 585),
    highest=Clocks(1440, 1215, 1305),
    application=Clocks(1440, 1215, 1305),
    idle_power_w=28,
    idle_temperature_c=31,
    shutdown_c=92,
    slowdown_c=89,
    gpu_max_c=85,
    memory_max_c=95,
    power_limits_w=(100, 165),
    image="1001.0205.00.03",
    vbios="92.00.66.00.08",
    part="900-21001-0040-100",
    remap_banks=320,
    mig=True,
)
_B200 = Card(
    driver_name="NVIDIA B200",
    architecture=Architecture.BLACKWELL,
    compute=(10, 0),
    device_id=0x2901,
    subsystem_id=0x1999,
    cores=18_944,
    bus_bits=7680,
    bar1_gib=256,
    idle=Clocks(120, 3996, 600),
    highest=Clocks(1965, 3996, 1755),
    application=Clocks(1965, 3996, 1755),
    idle_power_w=145,
    idle_temperature_c=31,
    shutdown_c=95,
    slowdown_c=92,
    gpu_max_c=87,
    memory_max_c=105,
    power_limits_w=(200, 1000),
    image="G525.0220.00.03",
    vbios="97.00.88.00.0F",
    part="692-2G525-0220-000",
    remap_banks=4096,
    mig=True,
    links=_NVLINK_5,
)


def _rtx_pro(server: bool) -> Card:
    edition = "Server" if server else "Workstation"
    highest = Clocks(2430, 12_481, 2100) if server else Clocks(3090, 14_001, 2415)
    return Card(
        driver_name=f"NVIDIA RTX PRO 6000 Blackwell {edition} Edition",
        architecture=Architecture.BLACKWELL,
        compute=(12, 0),
        device_id=0x2BB5 if server else 0x2BB1,
        subsystem_id=0x204E if server else 0x204B,
        cores=24_064,
        bus_bits=512,
        bar1_gib=128,
        idle=Clocks(180, 405, 600),
        highest=highest,
        application=highest,
        idle_power_w=32 if server else 16,
        idle_temperature_c=30,
        idle_state=8,
        shutdown_c=95,
        slowdown_c=92,
        gpu_max_c=90,
        power_limits_w=(300 if server else 150, 600),
        image="G153.0220.00.05" if server else "G153.0210.00.05",
        vbios="98.02.6A.00.03" if server else "98.02.52.00.02",
        part="900-2G153-0000-000" if server else "900-5G153-2200-000",
        brand=Brand.NVIDIA_RTX,
        fans=0 if server else 2,
        ecc=server,
        remap_banks=1024 if server else None,
        mig=True,
        sleeps=True,
    )


_RTX_4090 = Card(
    driver_name="NVIDIA GeForce RTX 4090",
    architecture=Architecture.ADA,
    compute=(8, 9),
    device_id=0x2684,
    subsystem_id=0x16F3,
    cores=16_384,
    bus_bits=384,
    bar1_gib=32,
    idle=Clocks(210, 405, 1185),
    highest=Clocks(3105, 10_501, 2415),
    application=None,
    idle_power_w=14,
    idle_temperature_c=32,
    idle_state=8,
    shutdown_c=100,
    slowdown_c=97,
    gpu_max_c=90,
    power_limits_w=(150, 600),
    image="G002.0000.00.03",
    vbios="95.02.18.80.01",
    part="900-1G136-2530-000",
    brand=Brand.GEFORCE,
    fans=2,
    ecc=False,
    sleeps=True,
    serial=False,
)

CARDS: dict[str, Card] = {
    "t4": _T4,
    "v100-16g-pcie": _volta("Tesla V100-PCIE-16GB", 0x1DB4, 0x1214, 16, False),
    "v100-16g-sxm2": _volta("Tesla V100-SXM2-16GB", 0x1DB1, 0x1212, 16, True),
    "v100-32g-pcie": _volta("Tesla V100-PCIE-32GB", 0x1DB6, 0x124A, 32, False),
    "v100-32g-sxm2": _volta("Tesla V100-SXM2-32GB", 0x1DB5, 0x1249, 32, True),
    "a100-40g-pcie": _ga100(
        "NVIDIA A100-PCIE-40GB", 0x20F1, 0x145F, 1215, 35, (150, 250), "900-21001-0000-000", 64
    ),
    "a100-40g-sxm": _ga100(
        "NVIDIA A100-SXM4-40GB",
        0x20B0,
        0x134F,
        1215,
        52,
        (100, 400),
        "692-2G506-0200-002",
        64,
        True,
    ),
    "a100-80g-pcie": _ga100(
        "NVIDIA A100 80GB PCIe", 0x20B5, 0x1533, 1512, 44, (150, 300), "900-21001-0020-000", 128
    ),
    "a100-80g-sxm": _ga100(
        "NVIDIA A100-SXM4-80GB",
        0x20B2,
        0x1463,
        1593,
        61,
        (100, 400),
        "692-2G506-0210-002",
        128,
        True,
    ),
    "a30": _A30,
    "a10": _graphics(
        *(
            "NVIDIA A10",
            Architecture.AMPERE,
            (8, 6),
            (0x2236, 0x1482),
            9216,
            Clocks(1695, 6251, 1575),
        ),
        *(15, (100, 150), "900-2G133-0020-000", "94.02.5C.00.03"),
        bar1_gib=32,
    ),
    "a10g": _graphics(
        *(
            "NVIDIA A10G",
            Architecture.AMPERE,
            (8, 6),
            (0x2237, 0x152F),
            9216,
            Clocks(1710, 6251, 1575),
        ),
        *(16, (100, 300), "900-2G133-A840-100", "94.02.75.00.01"),
        bar1_gib=32,
    ),
    "a40": _graphics(
        *(
            "NVIDIA A40",
            Architecture.AMPERE,
            (8, 6),
            (0x2235, 0x145A),
            10_752,
            Clocks(1740, 7251, 1545),
        ),
        *(22, (100, 300), "900-2G133-0000-000", "94.02.27.00.01"),
    ),
    "l4": _graphics(
        *("NVIDIA L4", Architecture.ADA, (8, 9), (0x27B8, 0x16CA), 7424, Clocks(2040, 6251, 1770)),
        *(16, (40, 72), "900-2G193-0000-001", "95.04.29.00.06"),
        bus_bits=192,
        bar1_gib=32,
        banks=96,
    ),
    "l20": _graphics(
        *(
            "NVIDIA L20",
            Architecture.ADA,
            (8, 9),
            (0x26BA, 0x1957),
            11_776,
            Clocks(2520, 9001, 1965),
        ),
        *(26, (100, 275), "900-2G133-0060-100", "95.02.66.00.20"),
    ),
    "l40s": _graphics(
        *(
            "NVIDIA L40S",
            Architecture.ADA,
            (8, 9),
            (0x26B9, 0x1851),
            18_176,
            Clocks(2520, 9001, 1965),
        ),
        *(33, (100, 350), "900-2G133-0080-000", "95.02.66.00.02"),
    ),
    "h100-pcie": _hopper(
        *("NVIDIA H100 PCIe", 0x2331, 0x1626, 14_592, 1593, 48),
        graphics_mhz=1755,
        limits=(200, 350),
        part="900-21010-0000-000",
        sxm=False,
    ),
    "h100-sxm": _hopper("NVIDIA H100 80GB HBM3", 0x2330, 0x16C1, 16_896, 2619, 70),
    "h20": _hopper(
        *("NVIDIA H20", 0x2329, 0x198B, 9984, 2619, 75),
        bus_bits=6144,
        limits=(200, 500),
        part="692-2G520-0280-000",
        banks=3072,
    ),
    "h200": _hopper(
        *("NVIDIA H200", 0x2335, 0x18BE, 16_896, 3201, 76),
        bus_bits=6144,
        bar1_gib=256,
        part="692-2G520-0225-000",
        banks=3072,
    ),
    "b200": _B200,
    "rtx-4090": _RTX_4090,
    "rtx-pro-6000": _rtx_pro(server=False),
    "rtx-pro-6000-server": _rtx_pro(server=True),
}
