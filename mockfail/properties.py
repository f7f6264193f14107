"""Every reading that a mock can set: the one list behind scenarios, state files and the C library.

Names carry their unit. ``mockfail/native/generate.py`` turns the list into C enumerations, so an
entry's place is its number in the state file; the list's digest stands in the file, and a library
built from another list passes everything through.
"""

import zlib
from dataclasses import dataclass
from typing import Literal

Scope = Literal["node", "gpu", "link", "npu"]
Type = Literal["int", "bool", "str"]

NOT_SUPPORTED = -(2**63)  # an integer that the device does not have; a string is then empty
MAX_GPUS = 64
MAX_NPUS = 64
MAX_LINKS = 18  # NVLinks of a GPU, as NVML has them
MAX_PROCESSES = 32  # of a GPU
MAX_CODES = 32  # active Ascend fault codes of an NPU
STRING_BYTES = 96  # UTF-8 with its closing NUL


@dataclass(frozen=True)
class Property:
    """One reading: ``gpus.0.<name>``; of a link, ``gpus.0.nvlinks.3.<name>``."""

    name: str
    type: Type
    about: str


def _of(type_: Type, **entries: str) -> list[Property]:
    return [Property(name, type_, about) for name, about in entries.items()]


_ECC = [
    Property(
        f"ecc_{kind}_{counter}_{place}",
        "int",
        f"{kind} ECC errors in {place.replace('_', ' ')}, {counter} count",
    )
    for kind in ("corrected", "uncorrected")
    for counter in ("volatile", "aggregate")
    for place in ("dram", "sram", "l1", "l2", "register_file", "texture")
]

PROPERTIES: dict[Scope, list[Property]] = {
    "node": [
        *_of(
            "str",
            driver_version="as nvidia-smi prints it",
            nvml_version="version of the library",
            dcmi_version="version of the DCMI library",
            npu_driver_version="version of the Ascend driver",
        ),
        *_of(
            "int",
            cuda_version="of the driver: major * 1000 + minor * 10",
            init_error="nvmlReturn_t that nvmlInit gives; 0 is success",
            init_hang_ms="how long nvmlInit sleeps first",
            dcmi_init_error="what dcmi_init gives; 0 is success",
            dcmi_init_hang_ms="how long dcmi_init sleeps first",
        ),
    ],
    "gpu": [
        *_of(
            "str",
            name="the driver's name of the card",
            uuid="GPU-…",
            serial="board serial",
            pci_bus_id="domain:bus:device.function, such as 00000000:18:00.0",
            vbios_version="version",
            board_part_number="part number",
            inforom_image_version="version",
            inforom_oem_version="version of the OEM object",
            inforom_ecc_version="version of the ECC object",
            inforom_power_version="version of the power object",
            gsp_firmware_version="version; empty without GSP",
        ),
        *_of(
            "bool",
            hidden="not enumerated by the driver, as if it were not there",
            lost="every call gives GPU_IS_LOST",
            reset_required="every call gives RESET_REQUIRED",
            inforom_valid="the InfoROM's checksums hold",
            multi_gpu_board="more than one GPU on the board",
            display_active="a display is initialised on it",
            persistence_mode="the driver stays loaded without clients",
            ecc_mode_current="ECC is on",
            ecc_mode_pending="ECC is on after the next reset",
            mig_mode_current="MIG is on",
            mig_mode_pending="MIG is on after the next reset",
            accounting_mode="process accounting is on",
            throttle_idle="clocks are low because nothing runs",
            throttle_application_clocks="limited by application clocks",
            throttle_power_cap="software power cap",
            throttle_hw_slowdown="hardware slowdown: any of its causes",
            throttle_sync_boost="held back by its sync boost group",
            throttle_sw_thermal="software thermal slowdown",
            throttle_hw_thermal="hardware thermal slowdown",
            throttle_power_brake="external power brake assertion",
            throttle_display="limited by display clocks",
            retired_pages_pending="pages wait for a reboot to be retired",
            remap_pending="rows wait for a reset to be remapped",
            remap_failure="a row could not be remapped",
            sram_threshold_exceeded="uncorrectable SRAM errors passed the vendor's threshold",
        ),
        *_of(
            "int",
            hang_ms="how long each call on this device sleeps first",
            recovery_action="0 none, 1 reset GPU, 2 reboot node, 3 drain P2P, 4 drain and reset",
            architecture="nvmlDeviceArchitecture_t, such as 9 for Hopper",
            brand="nvmlBrandType_t",
            compute_capability_major="major",
            compute_capability_minor="minor",
            pci_device_id="device << 16 | vendor",
            pci_subsystem_id="subsystem device << 16 | vendor",
            minor_number="of /dev/nvidiaN",
            module_id="place on the baseboard",
            board_id="of the board",
            cuda_cores="number",
            memory_bus_width_bits="width",
            numa_node="NUMA node of the card's host side",
            compute_mode="nvmlComputeMode_t; 0 is default",
            performance_state="P-state, 0 to 15",
            virtualization_mode="nvmlGpuVirtualizationMode_t; 0 is none",
            temperature_c="GPU core",
            memory_temperature_c="HBM",
            threshold_shutdown_c="the card turns itself off",
            threshold_slowdown_c="hardware slowdown begins",
            threshold_memory_max_c="highest good memory temperature",
            threshold_gpu_max_c="highest good core temperature",
            fans="number of fans",
            fan_speed_percent="of the highest speed, what is asked for",
            fan_speed_rpm="measured",
            power_mw="board draw",
            power_limit_mw="set limit",
            power_limit_default_mw="limit as shipped",
            power_limit_min_mw="lowest limit that may be set",
            power_limit_max_mw="highest limit that may be set",
            power_limit_enforced_mw="limit in force",
            energy_mj="since the driver was loaded",
            clock_graphics_mhz="now",
            clock_sm_mhz="now",
            clock_memory_mhz="now",
            clock_video_mhz="now",
            clock_graphics_max_mhz="highest",
            clock_sm_max_mhz="highest",
            clock_memory_max_mhz="highest",
            clock_video_max_mhz="highest",
            clock_application_graphics_mhz="set application clock",
            clock_application_memory_mhz="set application clock",
            violation_power_ns="time held back by power",
            violation_thermal_ns="time held back by heat",
            gpu_utilization_percent="share of time with a kernel running",
            memory_utilization_percent="share of time with memory traffic",
            encoder_utilization_percent="share",
            decoder_utilization_percent="share",
            jpeg_utilization_percent="share",
            ofa_utilization_percent="share",
            memory_total_bytes="what the driver reports",
            memory_used_bytes="without what is reserved",
            memory_reserved_bytes="by driver and firmware",
            bar1_total_bytes="size",
            bar1_used_bytes="used",
            pcie_generation_current="now",
            pcie_generation_max="of card and slot together",
            pcie_generation_device_max="of the card",
            pcie_width_current="lanes now",
            pcie_width_max="lanes of card and slot together",
            pcie_replays="since the last reset",
            pcie_tx_kb_per_s="sent",
            pcie_rx_kb_per_s="received",
            retired_pages_sbe="retired for several single-bit errors",
            retired_pages_dbe="retired for a double-bit error",
            remapped_rows_correctable="for correctable errors",
            remapped_rows_uncorrectable="for uncorrectable errors",
            remap_banks_max="banks with every spare row free",
            remap_banks_high="banks with most spare rows free",
            remap_banks_partial="banks with some spare rows free",
            remap_banks_low="banks with few spare rows free",
            remap_banks_none="banks without a spare row",
            sram_uncorrected_parity="aggregate parity errors in SRAM",
            sram_uncorrected_secded="aggregate SEC-DED errors in SRAM",
            nvlinks="number of links the card has",
            fabric_state="nvmlGpuFabricState_t: 0 not supported, 1 not started, 2 busy, 3 done",
            fabric_status="nvmlReturn_t of the fabric's setup",
            fabric_health_mask="nvmlGpuFabricInfo health bits",
            fabric_clique="clique of the fabric",
        ),
        *_ECC,
    ],
    "link": [
        *_of("bool", active="the link is up"),
        *_of("str", remote_pci_bus_id="PCI address of the other end"),
        *_of(
            "int",
            version="NVLink generation as NVML counts it",
            remote_type="0 GPU, 1 IBM NPU, 2 switch",
            speed_mb_per_s="one direction",
            crc_flit_errors="count",
            crc_data_errors="count",
            replay_errors="count",
            recovery_errors="count",
        ),
    ],
    "npu": [
        *_of(
            "str",
            name="such as 910B3",
            pci_bus_id="domain:bus:device.function",
            die_id="five words in hexadecimal, as npu-smi prints them",
        ),
        *_of("bool", lost="every call on this device gives DEVICE_NOT_READY"),
        *_of("bool", hidden="not enumerated by the driver"),
        *_of(
            "int",
            card="card number",
            device="device in the card",
            hang_ms="how long each call on this device sleeps first",
            health="0 healthy, 1 minor, 2 major, 3 critical",
            temperature_c="chip",
            power_mw="draw",
            voltage_mv="supply",
            hbm_total_bytes="size",
            hbm_used_bytes="used",
            hbm_temperature_c="HBM",
            hbm_clock_mhz="now",
            hbm_bandwidth_percent="share of the peak",
            hbm_single_bit_errors="since start",
            hbm_double_bit_errors="since start",
            hbm_single_bit_errors_total="over the card's life",
            hbm_double_bit_errors_total="over the card's life",
            hbm_isolated_single_bit_pages="count",
            hbm_isolated_double_bit_pages="count",
            aicore_utilization_percent="share",
            aicore_clock_mhz="now",
            aicore_count="cores",
            network_health="0 up; otherwise DCMI's code of what failed",
            pcie_generation_current="now",
            pcie_width_current="lanes now",
            pcie_device_id="device << 16 | vendor",
        ),
    ],
}


def digest() -> int:
    """Return a number that changes with any name, type or place in the list."""
    text = ";".join(f"{s}.{p.name}:{p.type}" for s, ps in PROPERTIES.items() for p in ps)
    return zlib.crc32(text.encode())
