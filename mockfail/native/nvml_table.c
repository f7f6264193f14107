/* Which functions of NVML the mock answers itself. */
#include "nvml.h"

void *const mk_own[FN_COUNT] = {
    [FN_nvmlErrorString] = (void *)own_nvmlErrorString,
#define ANSWER(function, ...) [FN_##function] = (void *)own_##function,
#include "nvml_answers.h"
#undef ANSWER
};
