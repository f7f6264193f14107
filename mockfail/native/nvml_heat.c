/* Temperature, fans and the bounds of the power limit. */
#include "nvml.h"

#include <string.h>

enum { SENSOR_GPU = 0, THRESHOLDS = 4, TARGET_GPU = 1, TARGET_ALL = 15, CONTROLLER_INTERNAL = 1 };

/* The one source of the core's temperature; driver is what the real call gave. */
static int64_t core_celsius(unsigned gpu, nvmlReturn_t driver, int64_t celsius) {
    return mk_gpu_over(gpu, MK_GPU_TEMPERATURE_C, driver == NVML_SUCCESS ? celsius : MK_UNKNOWN);
}

nvmlReturn_t own_nvmlDeviceGetTemperature(nvmlDevice_t device, unsigned sensor,
                                          unsigned *celsius) {
    unsigned gpu;
    if (celsius == NULL) return NVML_INVALID_ARGUMENT;
    nvmlReturn_t driver = REAL(nvmlDeviceGetTemperature, device, sensor, celsius);
    if (!nvml_gpu(device, &gpu) || sensor != SENSOR_GPU) return driver;
    int64_t now = core_celsius(gpu, driver, *celsius);
    return now == MK_UNKNOWN ? driver : nvml_number_out(now, celsius);
}

nvmlReturn_t own_nvmlDeviceGetTemperatureV(nvmlDevice_t device, nvml_temperature *temperature) {
    unsigned gpu;
    if (temperature == NULL) return NVML_INVALID_ARGUMENT;
    if (temperature->version != NVML_VERSION_OF(nvml_temperature, 1) &&
        mk_mode_now() == MK_STANDALONE)
        return NVML_ARGUMENT_VERSION_MISMATCH;
    nvmlReturn_t driver = REAL(nvmlDeviceGetTemperatureV, device, temperature);
    if (!nvml_gpu(device, &gpu) || temperature->sensor != SENSOR_GPU) return driver;
    int64_t now = core_celsius(gpu, driver, temperature->celsius);
    if (now == MK_UNKNOWN) return driver;
    if (now == MK_NOT_SUPPORTED) return NVML_NOT_SUPPORTED;
    temperature->celsius = (int)now;
    return NVML_SUCCESS;
}

nvmlReturn_t own_nvmlDeviceGetTemperatureThreshold(nvmlDevice_t device, unsigned type,
                                                   unsigned *celsius) {
    static const mk_gpu_property thresholds[THRESHOLDS] = {
        [NVML_SHUTDOWN] = MK_GPU_THRESHOLD_SHUTDOWN_C,
        [NVML_SLOWDOWN] = MK_GPU_THRESHOLD_SLOWDOWN_C,
        [NVML_MEMORY_MAX] = MK_GPU_THRESHOLD_MEMORY_MAX_C,
        [NVML_GPU_MAX] = MK_GPU_THRESHOLD_GPU_MAX_C,
    };
    unsigned gpu;
    if (celsius == NULL) return NVML_INVALID_ARGUMENT;
    nvmlReturn_t driver = REAL(nvmlDeviceGetTemperatureThreshold, device, type, celsius);
    if (!nvml_gpu(device, &gpu)) return driver;
    if (type >= THRESHOLDS)
        return mk_mode_now() == MK_STANDALONE ? NVML_NOT_SUPPORTED : driver;
    int64_t base = driver == NVML_SUCCESS ? (int64_t)*celsius : MK_UNKNOWN;
    int64_t value = mk_gpu_over(gpu, thresholds[type], base);
    return value == MK_UNKNOWN ? driver : nvml_number_out(value, celsius);
}

/* How far the core is from hardware slowdown. */
nvmlReturn_t own_nvmlDeviceGetMarginTemperature(nvmlDevice_t device, nvml_margin *margin) {
    unsigned gpu, now, slowdown;
    if (margin == NULL) return NVML_INVALID_ARGUMENT;
    if (!nvml_gpu(device, &gpu) || !NVML_ANY(gpu, MK_GPU_TEMPERATURE_C, MK_GPU_THRESHOLD_SLOWDOWN_C))
        return REAL(nvmlDeviceGetMarginTemperature, device, margin);
    if (margin->version != NVML_VERSION_OF(nvml_margin, 1)) return NVML_ARGUMENT_VERSION_MISMATCH;
    nvmlReturn_t result = own_nvmlDeviceGetTemperature(device, SENSOR_GPU, &now);
    if (result == NVML_SUCCESS)
        result = own_nvmlDeviceGetTemperatureThreshold(device, NVML_SLOWDOWN, &slowdown);
    if (result == NVML_SUCCESS) margin->celsius = (int)slowdown - (int)now;
    return result;
}

nvmlReturn_t own_nvmlDeviceGetThermalSettings(nvmlDevice_t device, unsigned sensor,
                                              nvml_thermal_settings *settings) {
    unsigned gpu;
    if (settings == NULL) return NVML_INVALID_ARGUMENT;
    nvmlReturn_t driver = REAL(nvmlDeviceGetThermalSettings, device, sensor, settings);
    if (!nvml_gpu(device, &gpu) || !NVML_ANY(gpu, MK_GPU_TEMPERATURE_C)) return driver;
    if (sensor != 0 && sensor != TARGET_ALL) return driver;
    int64_t now = core_celsius(gpu, driver, driver == NVML_SUCCESS ? settings->sensor[0].now : 0);
    if (now == MK_NOT_SUPPORTED) return NVML_NOT_SUPPORTED;
    if (driver != NVML_SUCCESS) {
        memset(settings, 0, sizeof *settings);
        settings->count = 1;
        settings->sensor[0].controller = CONTROLLER_INTERNAL;
        settings->sensor[0].highest = 127;
        settings->sensor[0].target = TARGET_GPU;
    }
    settings->sensor[0].now = (int)now;
    return NVML_SUCCESS;
}

/* ---- fans ------------------------------------------------------------------------------------- */

static bool has_fan(nvmlDevice_t device, unsigned fan) {
    unsigned fans;
    return own_nvmlDeviceGetNumFans(device, &fans) == NVML_SUCCESS && fan < fans;
}

static nvmlReturn_t fan_of(nvmlDevice_t device, unsigned fan, mk_gpu_property property,
                           nvmlReturn_t driver, unsigned *speed) {
    unsigned gpu;
    if (!nvml_gpu(device, &gpu)) return driver;
    int64_t base = driver == NVML_SUCCESS ? (int64_t)*speed : MK_UNKNOWN;
    int64_t value = mk_gpu_over(gpu, property, base);
    if (value == MK_UNKNOWN) return driver;
    if (value != MK_NOT_SUPPORTED && !has_fan(device, fan)) return NVML_INVALID_ARGUMENT;
    return nvml_number_out(value, speed);
}

nvmlReturn_t own_nvmlDeviceGetFanSpeed_v2(nvmlDevice_t device, unsigned fan, unsigned *percent) {
    if (percent == NULL) return NVML_INVALID_ARGUMENT;
    nvmlReturn_t driver = REAL(nvmlDeviceGetFanSpeed_v2, device, fan, percent);
    return fan_of(device, fan, MK_GPU_FAN_SPEED_PERCENT, driver, percent);
}

nvmlReturn_t own_nvmlDeviceGetTargetFanSpeed(nvmlDevice_t device, unsigned fan,
                                             unsigned *percent) {
    if (percent == NULL) return NVML_INVALID_ARGUMENT;
    nvmlReturn_t driver = REAL(nvmlDeviceGetTargetFanSpeed, device, fan, percent);
    return fan_of(device, fan, MK_GPU_FAN_SPEED_PERCENT, driver, percent);
}

nvmlReturn_t own_nvmlDeviceGetFanSpeedRPM(nvmlDevice_t device, nvml_fan_speed *speed) {
    if (speed == NULL) return NVML_INVALID_ARGUMENT;
    if (mk_mode_now() == MK_STANDALONE && speed->version != NVML_VERSION_OF(nvml_fan_speed, 1))
        return NVML_ARGUMENT_VERSION_MISMATCH;
    nvmlReturn_t driver = REAL(nvmlDeviceGetFanSpeedRPM, device, speed);
    return fan_of(device, speed->fan, MK_GPU_FAN_SPEED_RPM, driver, &speed->rpm);
}

nvmlReturn_t own_nvmlDeviceGetMinMaxFanSpeed(nvmlDevice_t device, unsigned *lowest,
                                             unsigned *highest) {
    unsigned gpu;
    if (lowest == NULL || highest == NULL) return NVML_INVALID_ARGUMENT;
    if (mk_mode_now() != MK_STANDALONE || !nvml_gpu(device, &gpu))
        return REAL(nvmlDeviceGetMinMaxFanSpeed, device, lowest, highest);
    if (!has_fan(device, 0)) return NVML_NOT_SUPPORTED;
    *lowest = 30;
    *highest = 100;
    return NVML_SUCCESS;
}

/* ---- power ------------------------------------------------------------------------------------ */

nvmlReturn_t own_nvmlDeviceGetPowerManagementLimitConstraints(nvmlDevice_t device,
                                                              unsigned *lowest_mw,
                                                              unsigned *highest_mw) {
    unsigned gpu;
    if (lowest_mw == NULL || highest_mw == NULL) return NVML_INVALID_ARGUMENT;
    nvmlReturn_t driver =
        REAL(nvmlDeviceGetPowerManagementLimitConstraints, device, lowest_mw, highest_mw);
    if (!nvml_gpu(device, &gpu) ||
        !NVML_ANY(gpu, MK_GPU_POWER_LIMIT_MIN_MW, MK_GPU_POWER_LIMIT_MAX_MW))
        return driver;
    bool known = driver == NVML_SUCCESS;
    int64_t least = mk_gpu_over(gpu, MK_GPU_POWER_LIMIT_MIN_MW, known ? (int64_t)*lowest_mw : 0);
    int64_t most = mk_gpu_over(gpu, MK_GPU_POWER_LIMIT_MAX_MW, known ? (int64_t)*highest_mw : 0);
    nvmlReturn_t result = nvml_number_out(least, lowest_mw);
    return result == NVML_SUCCESS ? nvml_number_out(most, highest_mw) : result;
}
