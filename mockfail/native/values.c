/* Readings, lists and events of the current snapshot, with the rules that hold now. */
#include "state.h"

#include <string.h>

#define TAKEN 4096u /* events that a process may deliver; a power of two */

/* ---- conditions ---------------------------------------------------------------------------- */

/* SplitMix64 (Steele, Lea and Flood, 2014): one number per call and kind of condition, so that
 * whatever one fault sets comes and goes together. */
static uint32_t draw(const mk_when *when, uint64_t call) {
    uint64_t mixed = mk_seed + call * 0x9E3779B97F4A7C15u + when->chance +
                     (uint64_t)when->start_ns * 0xD1B54A32D192ED03u;
    mixed = (mixed ^ (mixed >> 30)) * 0xBF58476D1CE4E5B9u;
    mixed = (mixed ^ (mixed >> 27)) * 0x94D049BB133111EBu;
    return (uint32_t)((mixed ^ (mixed >> 31)) >> 32);
}

bool mk_holds(const mk_snapshot *snapshot, const mk_when *when, uint64_t calls) {
    if (when->after_calls != 0 && calls <= when->after_calls) return false;
    if (when->start_ns != 0 || when->end_ns != INT64_MAX) {
        int64_t now = mk_now_ns(snapshot);
        if (now < when->start_ns || now >= when->end_ns) return false;
    }
    return when->chance == MK_ALWAYS || draw(when, mk_this_call.number) < when->chance;
}

static int64_t ramped(const mk_snapshot *snapshot, const mk_rule *rule, int64_t from) {
    int64_t passed = mk_now_ns(snapshot) - rule->when.start_ns;
    bool from_nothing = from == MK_UNKNOWN || from == MK_NOT_SUPPORTED;
    if (passed >= rule->when.ramp_ns || from_nothing || rule->value == MK_NOT_SUPPORTED)
        return rule->value;
    double share = (double)passed / (double)rule->when.ramp_ns;
    double now = (double)from + ((double)rule->value - (double)from) * share;
    return now >= -0x1p63 && now < 0x1p63 ? (int64_t)now : rule->value;
}

/* ---- cells --------------------------------------------------------------------------------- */

/* The value of a cell; real is what the driver says, MK_UNKNOWN where nobody asked it. */
static bool evaluate(const mk_snapshot *snapshot, size_t index, int64_t real, int64_t *value) {
    const mk_cell *cell = &snapshot->cells[index];
    bool determined = cell->set || mk_mode_now() == MK_STANDALONE;
    int64_t now = determined ? cell->value : real;
    for (uint32_t number = cell->rule; number != 0; number = snapshot->rules[number - 1].next) {
        const mk_rule *rule = &snapshot->rules[number - 1];
        if (!mk_holds(snapshot, &rule->when, mk_this_call.number)) continue;
        now = rule->when.ramp_ns > 0 ? ramped(snapshot, rule, now) : rule->value;
        determined = true;
    }
    *value = now;
    return determined;
}

static size_t gpu_cell(const mk_header *header, unsigned gpu, unsigned property) {
    return MK_NODE_PROPERTIES + gpu * mk_gpu_cells(header) + property;
}

static size_t link_cell(const mk_header *header, unsigned gpu, unsigned link, unsigned property) {
    return gpu_cell(header, gpu, MK_GPU_PROPERTIES) + link * MK_LINK_PROPERTIES + property;
}

static size_t npu_cell(const mk_header *header, unsigned npu, unsigned property) {
    return MK_NODE_PROPERTIES + header->gpu_slots * mk_gpu_cells(header) +
           (size_t)npu * MK_NPU_PROPERTIES + property;
}

static bool may_hold(const mk_snapshot *snapshot, size_t index) {
    const mk_cell *cell = &snapshot->cells[index];
    return cell->rule != 0 || (cell->value != 0 && cell->value != MK_NOT_SUPPORTED);
}

uint64_t mk_failing_devices(const mk_snapshot *snapshot) {
    const mk_header *header = snapshot->header;
    uint64_t failing = 0;
#ifdef MK_DCMI
    for (unsigned npu = 0; npu < header->npu_slots; npu++)
        if (may_hold(snapshot, npu_cell(header, npu, MK_NPU_LOST)) ||
            may_hold(snapshot, npu_cell(header, npu, MK_NPU_HANG_MS)))
            failing |= UINT64_C(1) << npu;
#else
    for (unsigned gpu = 0; gpu < header->gpu_slots; gpu++)
        if (may_hold(snapshot, gpu_cell(header, gpu, MK_GPU_LOST)) ||
            may_hold(snapshot, gpu_cell(header, gpu, MK_GPU_RESET_REQUIRED)) ||
            may_hold(snapshot, gpu_cell(header, gpu, MK_GPU_HANG_MS)))
            failing |= UINT64_C(1) << gpu;
#endif
    return failing;
}

/* A device or link that the state doesn't know has nothing in standalone mode. */
static bool missing(int64_t *value) {
    *value = MK_NOT_SUPPORTED;
    return mk_mode_now() == MK_STANDALONE;
}

static bool gpu_value(unsigned gpu, mk_gpu_property property, int64_t real, int64_t *value) {
    const mk_snapshot *s = mk_current();
    if (s == NULL || gpu >= s->header->gpu_slots) return missing(value);
    return evaluate(s, gpu_cell(s->header, gpu, property), real, value);
}

static bool link_value(unsigned gpu, unsigned link, mk_link_property property, int64_t real,
                       int64_t *value) {
    const mk_snapshot *s = mk_current();
    if (s == NULL || gpu >= s->header->gpu_slots || link >= s->header->link_slots)
        return missing(value);
    return evaluate(s, link_cell(s->header, gpu, link, property), real, value);
}

static bool npu_value(unsigned npu, mk_npu_property property, int64_t real, int64_t *value) {
    const mk_snapshot *s = mk_current();
    if (s == NULL || npu >= s->header->npu_slots) return missing(value);
    return evaluate(s, npu_cell(s->header, npu, property), real, value);
}

unsigned mk_gpu_count(void) {
    const mk_snapshot *s = mk_current();
    return s == NULL ? 0 : s->header->gpus;
}

unsigned mk_npu_count(void) {
    const mk_snapshot *s = mk_current();
    return s == NULL ? 0 : s->header->npus;
}

bool mk_node(mk_node_property property, int64_t *value) {
    const mk_snapshot *s = mk_current();
    if (s == NULL) return missing(value);
    return evaluate(s, property, MK_UNKNOWN, value);
}

bool mk_gpu(unsigned gpu, mk_gpu_property property, int64_t *value) {
    return gpu_value(gpu, property, MK_UNKNOWN, value);
}

bool mk_link(unsigned gpu, unsigned link, mk_link_property property, int64_t *value) {
    return link_value(gpu, link, property, MK_UNKNOWN, value);
}

bool mk_npu(unsigned npu, mk_npu_property property, int64_t *value) {
    return npu_value(npu, property, MK_UNKNOWN, value);
}

int64_t mk_gpu_over(unsigned gpu, mk_gpu_property property, int64_t real) {
    int64_t value;
    return gpu_value(gpu, property, real, &value) ? value : real;
}

int64_t mk_link_over(unsigned gpu, unsigned link, mk_link_property property, int64_t real) {
    int64_t value;
    return link_value(gpu, link, property, real, &value) ? value : real;
}

int64_t mk_npu_over(unsigned npu, mk_npu_property property, int64_t real) {
    int64_t value;
    return npu_value(npu, property, real, &value) ? value : real;
}

/* ---- strings ------------------------------------------------------------------------------- */

/* Copy a text of the state; its place is checked here, as a cell doesn't say its type. */
static bool copy_text(bool determined, int64_t place, char *text, unsigned size) {
    if (!determined || size == 0) return false;
    const mk_snapshot *s = mk_current();
    bool known = s != NULL && place >= 0 && place < (int64_t)s->header->text_bytes;
    const char *from = known ? s->texts + place : "";
    size_t length = strnlen(from, size - 1);
    memcpy(text, from, length);
    text[length] = '\0';
    return true;
}

bool mk_node_text(mk_node_property property, char *text, unsigned size) {
    int64_t place = 0;
    bool determined = mk_node(property, &place); /* before place is read */
    return copy_text(determined, place, text, size);
}

bool mk_gpu_text(unsigned gpu, mk_gpu_property property, char *text, unsigned size) {
    int64_t place = 0;
    bool determined = mk_gpu(gpu, property, &place); /* before place is read */
    return copy_text(determined, place, text, size);
}

bool mk_link_text(unsigned gpu, unsigned link, mk_link_property property, char *text,
                  unsigned size) {
    int64_t place = 0;
    bool determined = mk_link(gpu, link, property, &place); /* before place is read */
    return copy_text(determined, place, text, size);
}

bool mk_npu_text(unsigned npu, mk_npu_property property, char *text, unsigned size) {
    int64_t place = 0;
    bool determined = mk_npu(npu, property, &place); /* before place is read */
    return copy_text(determined, place, text, size);
}

/* ---- lists --------------------------------------------------------------------------------- */

static bool determined_list(const mk_list *list) {
    return list->set || mk_mode_now() == MK_STANDALONE;
}

bool mk_processes(unsigned gpu, mk_process list[MK_MAX_PROCESSES], unsigned *count) {
    const mk_snapshot *s = mk_current();
    *count = 0;
    if (s == NULL || gpu >= s->header->gpu_slots) return mk_mode_now() == MK_STANDALONE;
    const mk_list *found = &s->gpu_lists[gpu];
    if (!determined_list(found)) return false;
    *count = found->count;
    memcpy(list, s->processes + found->first, found->count * sizeof *list);
    return true;
}

bool mk_codes(unsigned npu, uint32_t list[MK_MAX_CODES], unsigned *count) {
    const mk_snapshot *s = mk_current();
    *count = 0;
    if (s == NULL || npu >= s->header->npu_slots) return mk_mode_now() == MK_STANDALONE;
    const mk_list *found = &s->npu_lists[npu];
    if (!determined_list(found)) return false;
    *count = found->count;
    memcpy(list, s->codes + found->first, found->count * sizeof *list);
    return true;
}

/* ---- events -------------------------------------------------------------------------------- */

static _Atomic uint32_t taken[TAKEN]; /* open addressing; 0 is free, and no event's key */

static _Atomic uint32_t *taken_slot(uint32_t id) {
    for (uint32_t i = 0; i < TAKEN; i++) {
        _Atomic uint32_t *slot = &taken[(id + i) % TAKEN];
        uint32_t there = atomic_load(slot);
        if (there == id || there == 0) return slot;
    }
    return NULL;
}

void mk_forget_events(void) {
    for (uint32_t i = 0; i < TAKEN; i++) atomic_store(&taken[i], 0);
}

bool mk_event_take(uint32_t id) {
    for (;;) {
        _Atomic uint32_t *slot = taken_slot(id);
        uint32_t there = 0;
        if (slot == NULL || atomic_load(slot) == id) return false;
        if (atomic_compare_exchange_strong(slot, &there, id)) return true;
        if (there == id) return false;
    }
}

static bool is_taken(uint32_t id) {
    _Atomic uint32_t *slot = taken_slot(id);
    return slot == NULL || atomic_load(slot) == id;
}

bool mk_event_due(unsigned n, mk_event *event) {
    const mk_snapshot *s = mk_current();
    for (unsigned i = 0; s != NULL && i < s->header->events; i++) {
        const mk_event_fault *fault = &s->events[i];
        if (is_taken(fault->key) || !mk_holds(s, &fault->when, mk_calls())) continue;
        if (n-- == 0) {
            *event = (mk_event){fault->key, fault->gpu, fault->type, fault->data};
            return true;
        }
    }
    return false;
}
