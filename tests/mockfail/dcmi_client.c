/* A client of DCMI in plain C, with declarations of its own.
 *
 *   dcmi_client read FILE          open FILE, print what it says of every NPU
 *   dcmi_client events FILE        subscribe to all, print each event, until stdin ends
 *   dcmi_client wait FILE MS       wait for one event of all
 *   dcmi_client wild FILE          call each function that stdin names, with its arguments (i a wild
 *                                  number, p room to write or NULL, s the size of such room)
 *   dcmi_client linked             the same reading as `read`, through functions linked at build
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

typedef struct {
    unsigned code;
    unsigned short device;
    unsigned char node[4];
    unsigned char severity, assertion;
    int serial, notify;
    unsigned long long raised;
    char name[256], more[32], rest[32];
} fault;
typedef struct {
    int type;
    fault it;
} event;
typedef struct {
    unsigned long long by;
    unsigned code;
    unsigned char severity, node_type, rest[32];
} filter;
typedef struct {
    unsigned vendor, subvendor, device, subdevice;
    int domain;
    unsigned bus, slot, function;
    char rest[32];
} pcie;
typedef struct {
    unsigned long long size;
    unsigned clock;
    unsigned long long used;
    int heat;
    unsigned use;
} hbm;
typedef struct {
    int on;
    unsigned count[8];
} ecc;

static void *library;

static void *find(const char *name) {
    void *found = dlsym(library, name);
    if (found == NULL) printf("no %s\n", name), exit(3);
    return found;
}

#define CALL(name, ...) ((int (*)())find(#name))(__VA_ARGS__)

static void read_one(int card, int device) {
    int temperature = -1, power = -1, network = -1, codes = -1, logic = -1;
    unsigned health = 99, code[128] = {0}, physical = 99;
    pcie place = {0};
    hbm memory = {0};
    ecc errors = {0};
    int status = CALL(dcmi_get_device_temperature, card, device, &temperature);
    CALL(dcmi_get_device_power_info, card, device, &power);
    CALL(dcmi_get_device_health, card, device, &health);
    CALL(dcmi_get_device_network_health, card, device, &network);
    CALL(dcmi_get_device_errorcode_v2, card, device, &codes, code, 128u);
    CALL(dcmi_get_device_pcie_info_v2, card, device, &place);
    CALL(dcmi_get_device_hbm_info, card, device, &memory);
    CALL(dcmi_get_device_ecc_info, card, device, 2, &errors);
    CALL(dcmi_get_device_logic_id, &logic, card, device);
    CALL(dcmi_get_device_phyid_from_logicid, (unsigned)logic, &physical);
    printf(
        "npu %d.%d status %d logic %d physical %u pci %04x:%02x:%02x.%x %04x:%04x temperature %d "
        "power %d health %u network %d hbm %llu/%llu ecc %u/%u codes %d",
        card, device, status, logic, physical, place.domain, place.bus, place.slot, place.function,
        place.vendor, place.device, temperature, power, health, network, memory.used, memory.size,
        errors.count[0], errors.count[1], codes);
    for (int at = 0; at < codes; at++) printf(" %08X", code[at]);
    printf("\n");
}

static int read_all(void) {
    int cards[64], count = 0, status = CALL(dcmi_init);
    printf("init %d\n", status);
    if (status != 0) return 0;
    status = CALL(dcmi_get_card_list, &count, cards, 64);
    printf("cards %d status %d\n", count, status);
    for (int at = 0; at < count; at++) {
        int devices = 0;
        CALL(dcmi_get_device_num_in_card, cards[at], &devices);
        for (int device = 0; device < devices; device++) read_one(cards[at], device);
    }
    return 0;
}

static void print(event *e) {
    printf("%s %08X device %u severity %u node %u serial %d\n", e->it.assertion ? "begun" : "over",
           e->it.code, e->it.device, e->it.severity, e->it.node[0], e->it.serial);
    fflush(stdout);
}

static int subscribe(void) {
    filter all = {0};
    char rest[64];
    CALL(dcmi_init);
    int (*ask)(int, int, filter, void (*)(event *)) =
        (int (*)(int, int, filter, void (*)(event *)))find("dcmi_subscribe_fault_event");
    printf("first %d\n", ask(-1, -1, all, print));
    printf("second %d\n", ask(-1, -1, all, print));
    printf("nobody %d\n", ask(-1, -1, all, NULL));
    fflush(stdout);
    while (read(0, rest, sizeof rest) > 0) continue;
    return 0;
}

static int wait_once(int ms) {
    filter major = {.by = 2, .severity = 2};
    event got;
    CALL(dcmi_init);
    int (*ask)(int, int, int, filter, event *) =
        (int (*)(int, int, int, filter, event *))find("dcmi_get_fault_event");
    int status = ask(-1, -1, ms, major, &got);
    printf("wait %d\n", status);
    if (status == 0) print(&got);
    return 0;
}

static int wild(void) {
    static const long ids[] = {0, 1, -1, 7, 8, 63, 64, 2147483647L, -2147483648L};
    enum { IDS = sizeof ids / sizeof *ids, ROOM = 4096 };
    static char room[6][ROOM];
    char name[128], kinds[8];
    long calls = 0;
    CALL(dcmi_init);
    while (scanf("%127s %7s", name, kinds) == 2) {
        int (*function)(long, long, long, long, long, long) = find(name);
        for (int turn = 0; turn < 2 * IDS * IDS; turn++, calls++) {
            long with[6] = {0};
            for (int at = 0; at < 6 && kinds[at] != 0; at++)
                with[at] = kinds[at] == 'i'   ? ids[(at % 2 ? turn / IDS : turn) % IDS]
                           : kinds[at] == 's' ? ROOM
                           : turn < IDS * IDS ? (long)room[at]
                                              : 0;
            function(with[0], with[1], with[2], with[3], with[4], with[5]);
        }
    }
    printf("survived %ld\n", calls);
    return 0;
}

#ifdef LINKED
int dcmi_init(void);
int dcmi_get_device_temperature(int, int, int *);

static int linked(void) {
    int temperature = -1, status = dcmi_init();
    dcmi_get_device_temperature(0, 0, &temperature);
    printf("init %d temperature %d\n", status, temperature);
    return 0;
}
#else
static int linked(void) { return 2; }
#endif

int main(int count, char **words) {
    if (count < 2) return 2;
    if (strcmp(words[1], "linked") == 0) return linked();
    library = count > 2 ? dlopen(words[2], RTLD_NOW | RTLD_LOCAL) : NULL;
    if (library == NULL) return printf("not opened: %s\n", dlerror()), 3;
    if (strcmp(words[1], "read") == 0) return read_all();
    if (strcmp(words[1], "events") == 0) return subscribe();
    if (strcmp(words[1], "wait") == 0) return wait_once(atoi(words[3]));
    return strcmp(words[1], "wild") == 0 ? wild() : 2;
}
