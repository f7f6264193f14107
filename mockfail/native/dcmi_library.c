/* What only DCMI has: its names, its init, and devices by card and number. */
#include "dcmi_types.h"
#include "state.h"

const char *const mk_file_name = "libdcmi.so";
const int mk_no_library = DCMI_NOT_READY;
const int mk_not_initialised = DCMI_NOT_READY;
const int mk_no_function = DCMI_NOT_SUPPORTED;
const int mk_not_supported = DCMI_NOT_SUPPORTED;

const char *const mk_real_paths[] = {
    "/usr/local/dcmi",
    "/usr/local/Ascend/driver/lib64/driver",
    "/usr/local/Ascend/driver/lib64/common",
    "/usr/local/Ascend/driver/lib64",
    "/usr/lib64",
    "/usr/lib",
    NULL,
};

static bool is(unsigned npu, mk_npu_property property, int64_t wanted) {
    int64_t value;
    return mk_npu(npu, property, &value) && value == wanted;
}

/* In an overlay a fault names an NPU by its place: eight cards of one device. */
bool mk_npu_index(int card, int device, unsigned *npu) {
    if (mk_mode_now() != MK_STANDALONE) {
        *npu = (unsigned)card;
        return card >= 0 && card < MK_MAX_NPUS && device == 0 && !is(*npu, MK_NPU_HIDDEN, 1);
    }
    for (unsigned i = 0; i < mk_npu_count(); i++)
        if (is(i, MK_NPU_CARD, card) && is(i, MK_NPU_DEVICE, device))
            return *npu = i, !is(i, MK_NPU_HIDDEN, 1);
    return false;
}

bool mk_device_of(uintptr_t first, uintptr_t second, unsigned *device) {
    return mk_npu_index((int)first, (int)second, device);
}

static bool hang_of(unsigned npu, int64_t *milliseconds) {
    return mk_npu(npu, MK_NPU_HANG_MS, milliseconds);
}

int mk_device_fault(unsigned npu) {
    mk_hang(hang_of, npu);
    return is(npu, MK_NPU_LOST, 1) ? DCMI_NOT_READY : DCMI_OK;
}

/* ---- init ---------------------------------------------------------------------------------- */

/* The driver itself answers most calls without one. */
bool mk_needs_init(mk_function function) { return (void)function, false; }

static bool init_hang(unsigned node, int64_t *milliseconds) {
    (void)node;
    return mk_node(MK_NODE_DCMI_INIT_HANG_MS, milliseconds);
}

static int own_init(void) {
    mk_mode mode = mk_begin();
    int64_t error = DCMI_OK;
    if (mode != MK_PASS) {
        mk_hang(init_hang, 0);
        bool fails = mk_node(MK_NODE_DCMI_INIT_ERROR, &error) && error != MK_NOT_SUPPORTED;
        if (fails && error != DCMI_OK) return (int)error;
    }
    mode = mk_mode_now();
    if (mode == MK_STANDALONE && mk_npu_count() == 0 && mk_gpu_count() > 0)
        return mk_no_library; /* a simulated machine of GPUs alone */
    if (mode != MK_STANDALONE) {
        int (*real)(void) = (int (*)(void))mk_real(FN_dcmi_init);
        if (real == NULL) return mk_open_real() ? mk_no_function : mk_no_library;
        int answer = real();
        if (answer != DCMI_OK) return answer;
    }
    while (mk_shut_down()) continue; /* DCMI knows no shutdown: each init begins a new cycle */
    mk_initialised(mode);
    return DCMI_OK;
}

void *mk_always(mk_function function) { return function == FN_dcmi_init ? own_init : NULL; }
