/* Takes a state file apart, and believes nothing that it says: whoever reads the snapshot later
 * follows its indices without a look. Only places of texts are checked where they are used, as a
 * reading doesn't say of itself that it is one. */
#include "state.h"

#include <string.h>

/* Counts within what there may be, so that no size that is made of them overflows. */
static bool bounded(const mk_header *header) {
    return header->gpus <= header->gpu_slots && header->gpu_slots <= MK_MAX_GPUS &&
           header->npus <= header->npu_slots && header->npu_slots <= MK_MAX_NPUS &&
           header->link_slots <= MK_MAX_LINKS && header->rules <= MK_MAX_RULES &&
           header->calls <= MK_MAX_RULES && header->events <= MK_MAX_RULES &&
           header->processes <= 2 * MK_MAX_GPUS * MK_MAX_PROCESSES &&
           header->codes <= MK_MAX_NPUS * MK_MAX_CODES && header->text_bytes >= 1 &&
           header->text_bytes <= MK_MAX_FILE_BYTES && header->mode <= MK_MODE_STANDALONE &&
           header->started_ns >= 0;
}

/* Point at the sections; returns where they end. */
static size_t lay_out(mk_snapshot *snapshot, const char *bytes) {
    const mk_header *header = (const void *)bytes;
    const char *at = bytes + sizeof *header;
    snapshot->header = header;
#define SECTION(field, count) \
    snapshot->field = (const void *)at, at += (size_t)(count) * sizeof *snapshot->field
    SECTION(cells, mk_cell_count(header));
    SECTION(rules, header->rules);
    SECTION(calls, header->calls);
    SECTION(events, header->events);
    SECTION(gpu_lists, header->gpu_slots);
    SECTION(npu_lists, header->npu_slots);
    SECTION(processes, header->processes);
    SECTION(codes, header->codes);
    SECTION(texts, header->text_bytes);
#undef SECTION
    return (size_t)(at - bytes);
}

/* Also notes whether anything hangs on the number of calls or on chance. */
static bool is_sane(mk_snapshot *snapshot, const mk_when *when) {
    if (when->after_calls != 0 || when->chance != MK_ALWAYS) snapshot->counts = true;
    return when->start_ns >= 0 && when->ramp_ns >= 0;
}

static bool check_lists(const mk_list *lists, unsigned count, unsigned entries, unsigned most) {
    for (unsigned i = 0; i < count; i++)
        if (lists[i].count > most || lists[i].first > entries ||
            lists[i].count > entries - lists[i].first)
            return false;
    return true;
}

static bool find_function(const char *name, unsigned *function) {
    unsigned low = 0, high = FN_COUNT; /* the names are sorted */
    while (low < high) {
        unsigned middle = (low + high) / 2;
        int order = strcmp(name, mk_function_name((mk_function)middle));
        if (order == 0) return *function = middle, true;
        if (order < 0)
            high = middle;
        else
            low = middle + 1;
    }
    return false;
}

/* A fault of the other library's function is in the file too, and is none here. */
static bool link_call(mk_snapshot *snapshot, unsigned index) {
    const mk_call_fault *call = &snapshot->calls[index];
    unsigned function;
    if (call->function >= snapshot->header->text_bytes) return false;
    if (!find_function(snapshot->texts + call->function, &function)) return true;
    snapshot->next_call[index] = snapshot->first_call[function];
    snapshot->first_call[function] = (uint16_t)(index + 1);
    return true;
}

static bool check(mk_snapshot *snapshot) {
    const mk_header *header = snapshot->header;
    if (snapshot->texts[0] != '\0' || snapshot->texts[header->text_bytes - 1] != '\0') return false;
    if (header->real_library >= header->text_bytes) return false;
    for (size_t i = 0; i < mk_cell_count(header); i++)
        if (snapshot->cells[i].rule > header->rules) return false;
    for (unsigned i = 0; i < header->rules; i++) {
        const mk_rule *rule = &snapshot->rules[i];
        if (rule->next != 0 && (rule->next <= i + 1 || rule->next > header->rules)) return false;
        if (!is_sane(snapshot, &rule->when)) return false;
    }
    for (unsigned i = header->calls; i-- > 0;)
        if (!is_sane(snapshot, &snapshot->calls[i].when) || !link_call(snapshot, i)) return false;
    snapshot->failing = mk_failing_devices(snapshot);
    for (unsigned i = 0; i < header->events; i++)
        if (!is_sane(snapshot, &snapshot->events[i].when)) return false;
    return check_lists(snapshot->gpu_lists, header->gpu_slots, header->processes,
                       MK_MAX_PROCESSES) &&
           check_lists(snapshot->npu_lists, header->npu_slots, header->codes, MK_MAX_CODES);
}

bool mk_plausible(const mk_header *header) {
    mk_snapshot unread;
    return bounded(header) && header->total_bytes <= MK_MAX_FILE_BYTES &&
           lay_out(&unread, (const char *)header) == header->total_bytes;
}

bool mk_lay_out(mk_snapshot *snapshot, const char *bytes) {
    lay_out(snapshot, bytes);
    return check(snapshot);
}
