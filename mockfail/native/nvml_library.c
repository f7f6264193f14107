/* What only NVML has: its names, its init, and device handles. */
#include "state.h"

#include <string.h>

/* nvmlReturn_t, as nvidia-ml-py (BSD) numbers it */
enum {
    SUCCESS = 0,
    UNINITIALIZED = 1,
    NOT_SUPPORTED = 3,
    LIBRARY_NOT_FOUND = 12,
    FUNCTION_NOT_FOUND = 13,
    GPU_IS_LOST = 15,
    RESET_REQUIRED = 16,
};

const char *const mk_file_name = "libnvidia-ml.so.1";
const int mk_no_library = LIBRARY_NOT_FOUND;
const int mk_not_initialised = UNINITIALIZED;
const int mk_no_function = FUNCTION_NOT_FOUND;
const int mk_not_supported = NOT_SUPPORTED;

const char *const mk_real_paths[] = {
    "/usr/local/nvidia/lib64", /* GKE and other mounted drivers */
    "/usr/lib/wsl/lib",        /* Windows Subsystem for Linux */
    "/run/opengl-driver/lib",  /* NixOS */
#if defined(__x86_64__)
    "/usr/lib/x86_64-linux-gnu",
    "/usr/lib/x86_64-linux-gnu/nvidia/current",
    "/lib/x86_64-linux-gnu",
#else
    "/usr/lib/aarch64-linux-gnu",
    "/usr/lib/aarch64-linux-gnu/nvidia/current",
    "/lib/aarch64-linux-gnu",
#endif
    "/usr/lib64",
    "/usr/lib64/nvidia",
    "/lib64",
    "/usr/lib",
    "/lib",
    NULL,
};

/* ---- handles ------------------------------------------------------------------------------- */

static char simulated[MK_MAX_GPUS];             /* their addresses are the handles */
static void *_Atomic real_handles[MK_MAX_GPUS]; /* by the real index; NULL of one that is lost */
static _Atomic unsigned real_gpus;
static _Atomic bool handles_known;

static void learn_handles(void) {
    int (*count)(unsigned *) = (int (*)(unsigned *))mk_real(FN_nvmlDeviceGetCount_v2);
    int (*by_index)(unsigned, void **) =
        (int (*)(unsigned, void **))mk_real(FN_nvmlDeviceGetHandleByIndex_v2);
    unsigned gpus = 0;
    if (count == NULL || by_index == NULL || count(&gpus) != SUCCESS) return;
    for (unsigned gpu = 0; gpu < MK_MAX_GPUS; gpu++) {
        void *handle = NULL;
        bool there = gpu < gpus && by_index(gpu, &handle) == SUCCESS;
        atomic_store(&real_handles[gpu], there ? handle : NULL);
    }
    atomic_store(&real_gpus, gpus);
    atomic_store(&handles_known, true);
}

bool mk_gpu_exists(unsigned gpu) {
    if (gpu >= MK_MAX_GPUS) return false;
    if (mk_mode_now() == MK_STANDALONE) return gpu < mk_gpu_count();
    if (!atomic_load(&handles_known)) learn_handles();
    return atomic_load(&handles_known) && gpu < atomic_load(&real_gpus);
}

void *mk_handle(unsigned gpu) {
    if (gpu >= MK_MAX_GPUS) return NULL;
    if (mk_mode_now() == MK_STANDALONE) return gpu < mk_gpu_count() ? &simulated[gpu] : NULL;
    if (!atomic_load(&handles_known)) learn_handles();
    return atomic_load(&real_handles[gpu]);
}

bool mk_handle_index(const void *handle, unsigned *gpu) {
    uintptr_t first = (uintptr_t)simulated, asked = (uintptr_t)handle;
    if (handle == NULL) return false;
    if (mk_mode_now() == MK_STANDALONE) {
        if (asked < first || asked - first >= mk_gpu_count()) return false;
        *gpu = (unsigned)(asked - first);
        return true;
    }
    if (!atomic_load_explicit(&handles_known, memory_order_acquire)) learn_handles();
    for (unsigned i = 0; i < MK_MAX_GPUS; i++)
        if (atomic_load_explicit(&real_handles[i], memory_order_relaxed) == handle)
            return *gpu = i, true;
    return false;
}

bool mk_device_of(uintptr_t first, uintptr_t second, unsigned *device) {
    (void)second;
    return mk_is_initialised() && mk_handle_index((const void *)first, device);
}

static bool hang_of(unsigned gpu, int64_t *milliseconds) {
    return mk_gpu(gpu, MK_GPU_HANG_MS, milliseconds);
}

static bool is_set(unsigned gpu, mk_gpu_property property) {
    int64_t value;
    return mk_gpu(gpu, property, &value) && value != 0 && value != MK_NOT_SUPPORTED;
}

int mk_device_fault(unsigned gpu) {
    mk_hang(hang_of, gpu);
    if (is_set(gpu, MK_GPU_LOST)) return GPU_IS_LOST;
    return is_set(gpu, MK_GPU_RESET_REQUIRED) ? RESET_REQUIRED : SUCCESS;
}

/* ---- init ---------------------------------------------------------------------------------- */

/* What answers before nvmlInit too: functions whose documentation knows no UNINITIALIZED. */
bool mk_needs_init(mk_function function) {
    switch (function) {
    case FN_nvmlInit:
    case FN_nvmlInit_v2:
    case FN_nvmlInitWithFlags:
    case FN_nvmlErrorString:
    case FN_nvmlInternalGetExportTable:
    case FN_nvmlSystemGetCudaDriverVersion:
    case FN_nvmlSystemGetCudaDriverVersion_v2:
    case FN_nvmlSystemGetNVMLVersion: return false;
    default: return true;
    }
}

static bool init_hang(unsigned node, int64_t *milliseconds) {
    (void)node;
    return mk_node(MK_NODE_INIT_HANG_MS, milliseconds);
}

static int init_fault(void) {
    int64_t error;
    mk_hang(init_hang, 0);
    bool fails = mk_node(MK_NODE_INIT_ERROR, &error) && error != MK_NOT_SUPPORTED;
    return fails ? (int)error : SUCCESS;
}

/* A simulated machine of NPUs alone has no driver of NVIDIA's. */
static bool no_gpus_here(mk_mode mode) {
    return mode == MK_STANDALONE && mk_gpu_count() == 0 && mk_npu_count() > 0;
}

/* The one path of every init: real is the driver's function of the same name. */
static int init(mk_function function, unsigned flags) {
    if (mk_begin() != MK_PASS) {
        int error = init_fault();
        if (error != SUCCESS) return error;
    }
    mk_mode mode = mk_mode_now();
    if (no_gpus_here(mode)) return LIBRARY_NOT_FOUND;
    if (mode != MK_STANDALONE) {
        int (*real)(unsigned) = (int (*)(unsigned))mk_real(function);
        if (real == NULL) return mk_open_real() ? FUNCTION_NOT_FOUND : LIBRARY_NOT_FOUND;
        int error = real(flags); /* those without an argument don't look at it */
        if (error != SUCCESS) return error;
        atomic_store(&handles_known, false);
    }
    mk_initialised(mode);
    return SUCCESS;
}

static int own_init(void) { return init(FN_nvmlInit, 0); }
static int own_init_v2(void) { return init(FN_nvmlInit_v2, 0); }
static int own_init_with_flags(unsigned flags) { return init(FN_nvmlInitWithFlags, flags); }

static int own_shutdown(void) {
    bool standalone = mk_cycle_is_standalone();
    if (!mk_shut_down()) return UNINITIALIZED;
    if (standalone) return SUCCESS;
    int (*real)(void) = (int (*)(void))mk_real(FN_nvmlShutdown);
    return real == NULL ? FUNCTION_NOT_FOUND : real();
}

void *mk_always(mk_function function) {
    switch (function) {
    case FN_nvmlInit: return own_init;
    case FN_nvmlInit_v2: return own_init_v2;
    case FN_nvmlInitWithFlags: return own_init_with_flags;
    case FN_nvmlShutdown: return own_shutdown;
    case FN_nvmlErrorString: return mk_open_real() ? NULL : mk_own[function];
    default: return NULL;
    }
}
