/* What the files of our NVML share. Each answer is own_<function>; nvml_answers.h lists them.
 *
 * In an overlay the driver's answer is the base, and only what a fault sets is laid over it. So
 * that versions of a call agree, each reading has one source, which they all ask.
 */
#ifndef MOCKFAIL_NVML_H
#define MOCKFAIL_NVML_H

#include "mock.h"
#include "nvml_types.h"

#define ANSWER(function, ...) nvmlReturn_t own_##function(__VA_ARGS__);
#include "nvml_answers.h"
#undef ANSWER
const char *own_nvmlErrorString(unsigned result);

/* The driver's own function, in an overlay; a simulated handle never reaches a driver. */
void *nvml_real(mk_function function);
#define REAL(function, ...)                                                                        \
    ({                                                                                             \
        __typeof__(&own_##function) driver_ = nvml_real(FN_##function);                            \
        driver_ ? driver_(__VA_ARGS__) : nvml_absent();                                            \
    })

/* What a call gives that neither the mock nor a driver can answer. */
nvmlReturn_t nvml_absent(void);

/* The GPU behind a handle; false for one that isn't ours, such as a MIG device in an overlay. */
bool nvml_gpu(nvmlDevice_t device, unsigned *gpu);

/* GPUs that are enumerated, in order: hidden ones are passed over. */
unsigned nvml_visible_count(void);
bool nvml_visible(unsigned index, unsigned *gpu);

/* Success with a handle, or what a lost GPU gives in its place. */
nvmlReturn_t nvml_handle(unsigned gpu, nvmlDevice_t *device);

/* Text out, as NVML has it: NOT_SUPPORTED when empty, INSUFFICIENT_SIZE when it doesn't fit. */
nvmlReturn_t nvml_text_out(const char *text, char *out, unsigned size);

/* A number out: NOT_SUPPORTED where the device has no such reading. */
nvmlReturn_t nvml_number_out(int64_t value, unsigned *out);

/* The source of a single reading, for whoever shows it: the mock's value, laid over what the
 * driver's function of the form (device, number *) gives. */
nvmlReturn_t nvml_reading(nvmlDevice_t device, unsigned gpu, mk_gpu_property property,
                          mk_function function, unsigned *value);

/* True in standalone mode, and in an overlay where a fault sets any of the properties. */
bool nvml_any(unsigned gpu, const mk_gpu_property *properties, unsigned count);
#define NVML_ANY(gpu, ...)                                                                         \
    nvml_any(gpu, (const mk_gpu_property[]){__VA_ARGS__},                                          \
             sizeof((const mk_gpu_property[]){__VA_ARGS__}) / sizeof(mk_gpu_property))

/* Domain, bus, device and function of an address as the driver writes it. */
typedef struct {
    unsigned domain, bus, device, function;
} nvml_address;
bool nvml_address_of(const char *text, nvml_address *address);

uint64_t nvml_now_us(void);

/* Shared sources: what several calls and the field values show. */
bool nvml_ecc_set(unsigned gpu, unsigned type, unsigned counter);
bool nvml_link_known(unsigned gpu, unsigned link);

#endif
