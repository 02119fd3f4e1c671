/*
 * A stand-in for NVIDIA's management library, libnvidia-ml.so.1, for tests where there is no GPU.
 * It exports what nvidia-ml-py calls for enumeration, MIG, topology, NVLink and events; any other
 * symbol is missing, which the binding reports as NVML_ERROR_FUNCTION_NOT_FOUND.
 *
 * The node: two H100 of 81559 MiB, minors 3 and 5, on one PCIe switch (NVML_TOPOLOGY_SINGLE, which
 * nvidia-smi topo prints as PIX), joined by their NVLinks 0 and 1 of 18. MIG is off on GPU 0 and on
 * at GPU 1, where places 0 and 2 of 7 hold a 1g.10gb (GI 7 and 8, CI 0) and the others answer
 * NOT_FOUND. What only a whole GPU has answers NOT_SUPPORTED on an instance.
 *
 * Conditions, from the environment, read by each nvmlInit:
 *   STANDIN_NVML_DIR=<folder>        where the FIFO `commands` is made (unset: nothing to steer by)
 *   STANDIN_NVML_INIT_ERROR=<code>   nvmlInit answers this code
 *   STANDIN_NVML_NO_EVENTS=<gpu>     that GPU knows no Xid events and registers none
 *   STANDIN_NVML_LOST=<gpu>          that GPU is lost from this process's first nvmlInit on
 *   STANDIN_NVML_OLD=1               MIG, NVLink and field values answer NOT_SUPPORTED
 *   STANDIN_NVML_WITHOUT=<gpu>|all   every optional call on that GPU (for all: also the event set)
 *                                    answers NOT_SUPPORTED: all but handle, UUID, name and PCI
 *   STANDIN_NVML_LINKS=<count>       so many NVLinks of each GPU are active, not 2
 *   STANDIN_NVML_GPUS=<count>        so many H100 (up to 16) in place of the two, none in MIG mode
 *
 * Commands, one line each, written to the FIFO while one process has it open:
 *   xid <gpu> <code> [<gi> [<ci>]]   an Xid event of that GPU, its device the GPU's own handle
 *   lost <gpu>                       GPU_IS_LOST from every call on it and its instances, and from
 *                                    every wait on a set that has it registered
 *   recover <gpu>                    undoes lost
 *   links <gpu> <count>              so many NVLinks are active; -1: asked for any, NOT_SUPPORTED
 *   hang                             the wait that comes to it never returns
 * Each call obeys the written commands before it answers, so a command is in force once its write
 * has returned. A wait meets them in the order of writing, and drops an event of a GPU that its set
 * has not registered. Nothing outlives the process.
 */
#define _GNU_SOURCE
#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

enum { SUCCESS, UNINITIALIZED, INVALID_ARGUMENT, NOT_SUPPORTED, NOT_FOUND = 6, INSUFFICIENT_SIZE,
       TIMEOUT = 10, GPU_IS_LOST = 15, OPERATING_SYSTEM = 17, NO_MEMORY = 20, HANG = -1 };
enum { MOST_GPUS = 16, PLACES = 7, LINKS = 18, ACTIVE_LINKS = 2, SETS = 16, QUEUE = 64 };
enum { INTERNAL = 0, SINGLE = 10, FIELD_LINK_COUNT = 91, VALUE_UNSIGNED_INT = 1 };
enum { XID_EVENT = 0x08, USUAL_EVENTS = 0x1F, EVENTS_WITHOUT_XID = 0x14 };
#define NO_INSTANCE 0xFFFFFFFFu
#define H100 "NVIDIA H100 80GB HBM3"
#define CHECK(call) do { int result_ = (call); if (result_ != SUCCESS) return result_; } while (0)
#define LOCKED(...) \
    do { pthread_mutex_lock(&lock); __VA_ARGS__; pthread_mutex_unlock(&lock); } while (0)
/* An exported function: its check, what it does when the check passed, and what it returns then. */
#define API(name, parameters, check, does, returns) \
    int name parameters { CHECK(check); does; return returns; }

typedef unsigned long long u64;
typedef struct { const char *uuid, *name; unsigned gpu, mig, place, minor, bus, gi, mib; } device;
typedef struct { int used; u64 types[MOST_GPUS]; } event_set;
typedef struct { char old_id[16]; unsigned domain, bus, slot, model, board; char id[32]; } pci_info;
typedef struct { u64 total, free, used; } memory_info;
typedef struct { unsigned sms, copy, dec, enc, jpeg, ofa, gi_size, ci_size; u64 mib; } attributes;
typedef struct { device *device; u64 type, data; unsigned gi, ci; } event_data;
typedef struct { unsigned id, scope; u64 times[2]; unsigned type; int result; u64 value; } field;

/* A handle is the address of one of these: first the GPUs by index, then the instances of GPU 1. */
static device devices[MOST_GPUS] = {
    {"GPU-5a2f1c30-7b1e-4c55-9a44-0d3f6e8b1000", H100, 0, 0, 0, 3, 0x07, 0, 81559},
    {"GPU-5a2f1c30-7b1e-4c55-9a44-0d3f6e8b1001", H100, 1, 0, 0, 5, 0x0A, 0, 81559},
    {"MIG-9c6e40d2-3f0a-5b8d-8e21-6a7b2c4d2007", H100 " MIG 1g.10gb", 1, 1, 0, 0, 0, 7, 9984},
    {"MIG-9c6e40d2-3f0a-5b8d-8e21-6a7b2c4d2008", H100 " MIG 1g.10gb", 1, 1, 2, 0, 0, 8, 9984},
};
static int gpus = 2, handles = 4, mig_gpu = 1;

/* All of the state, guarded by one lock; nothing waits while it holds the lock. */
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static int users, fifo = -1, wake = -1, old, no_events = -1;
enum { NONE = -1, ALL = -2 };
static int without = NONE, links_up[MOST_GPUS];
static event_set sets[SETS];
static unsigned order, lost_at[MOST_GPUS], hang_at; /* as a command's ordinal; 0: not so */
static struct { unsigned order; event_data event; } queue[QUEUE];
static unsigned queued;

/* ---- commands ---- */

static int read_line(char *line, size_t size) {
    size_t length = 0;
    while (length + 1 < size && read(fifo, line + length, 1) == 1 && line[length] != '\n') length++;
    line[length] = '\0';
    return length > 0;
}

static void obey(const char *line) {
    unsigned gpu = 0, gi = NO_INSTANCE, ci = NO_INSTANCE;
    int count;
    u64 code;
    order++;
    if (sscanf(line, "xid %u %llu %u %u", &gpu, &code, &gi, &ci) >= 2 && gpu < (unsigned)gpus) {
        queue[queued].order = order;
        queue[queued++].event = (event_data){&devices[gpu], XID_EVENT, code, gi, ci};
    } else if (sscanf(line, "lost %u", &gpu) == 1 && gpu < (unsigned)gpus) {
        if (!lost_at[gpu]) lost_at[gpu] = order;
    } else if (sscanf(line, "recover %u", &gpu) == 1 && gpu < (unsigned)gpus) {
        lost_at[gpu] = 0;
    } else if (sscanf(line, "links %u %d", &gpu, &count) == 2 && gpu < (unsigned)gpus) {
        links_up[gpu] = count;
    } else if (strcmp(line, "hang") == 0) {
        if (!hang_at) hang_at = order;
    } else {
        fprintf(stderr, "stand-in for NVML: no such command: %s\n", line);
    }
}

/* Obeys what was written (later what a full queue has no room for) and wakes a waiting thread. */
static void obey_all(void) {
    char line[64];
    unsigned before = order;
    while (fifo >= 0 && queued < QUEUE && read_line(line, sizeof line)) obey(line);
    if (order != before) (void)!write(wake, &(u64){1}, sizeof(u64));
}

/* ---- what the calls begin with ---- */

static int enter(const device *d) {
    int result;
    LOCKED(obey_all();
           result = !users ? UNINITIALIZED : d && lost_at[d->gpu] ? GPU_IS_LOST : SUCCESS);
    return result;
}

static int on_device(const device *d) {
    int known = d >= devices && d < devices + handles;
    CHECK(enter(known ? d : NULL));
    return known ? SUCCESS : INVALID_ARGUMENT;
}

static int on_gpu(const device *d) {
    CHECK(on_device(d));
    return d->mig ? NOT_SUPPORTED : SUCCESS;
}

static int lacking(const device *d) { return without == ALL || without == (int)d->gpu; }

/* As on_gpu and on_device, for what not every GPU has. */
static int optional_on_gpu(const device *d) {
    CHECK(on_gpu(d));
    return lacking(d) ? NOT_SUPPORTED : SUCCESS;
}

static int optional_on_device(const device *d) {
    CHECK(on_device(d));
    return lacking(d) ? NOT_SUPPORTED : SUCCESS;
}

static int on_mig_parent(const device *d) {
    CHECK(on_device(d));
    return old || lacking(d) ? NOT_SUPPORTED : d->mig ? INVALID_ARGUMENT : SUCCESS;
}

static int on_instance(const device *d) {
    CHECK(on_device(d));
    return old || (int)d->gpu != mig_gpu ? NOT_SUPPORTED : d->mig ? SUCCESS : INVALID_ARGUMENT;
}

static int on_link(const device *d, unsigned link) {
    CHECK(optional_on_gpu(d));
    return old || links_up[d->gpu] < 0 ? NOT_SUPPORTED : link < LINKS ? SUCCESS : INVALID_ARGUMENT;
}

static int on_active_link(const device *d, unsigned link) {
    CHECK(on_link(d, link));
    return (int)link < links_up[d->gpu] ? SUCCESS : NOT_SUPPORTED;
}

static int on_set(const event_set *set) {
    CHECK(enter(NULL));
    return set >= sets && set < sets + SETS && set->used ? SUCCESS : INVALID_ARGUMENT;
}

/* ---- the library ---- */

static int number(const char *name, int otherwise) {
    const char *text = getenv(name);
    return text && *text ? atoi(text) : otherwise;
}

static int open_commands(void) {
    const char *folder = getenv("STANDIN_NVML_DIR");
    char path[PATH_MAX];
    if (fifo >= 0 || !folder) return SUCCESS;
    snprintf(path, sizeof path, "%s/commands", folder);
    mkfifo(path, 0600); /* one that is there already will do */
    wake = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
    fifo = open(path, O_RDWR | O_NONBLOCK | O_CLOEXEC); /* its own writer: it never reads an end */
    return fifo >= 0 && wake >= 0 ? SUCCESS : OPERATING_SYSTEM;
}

static void have(int count) {
    static char uuids[MOST_GPUS][41];
    gpus = handles = count;
    mig_gpu = -1;
    for (unsigned i = 0; i < (unsigned)count; i++) {
        snprintf(uuids[i], sizeof uuids[i], "GPU-5a2f1c30-7b1e-4c55-9a44-0d3f6e8b1%03u", i);
        devices[i] = (device){uuids[i], H100, i, 0, 0, i, 0x10 + i, 0, 81559};
    }
}

static int initialise(void) {
    static int first = 1;
    int count = number("STANDIN_NVML_GPUS", 0);
    int lost = number("STANDIN_NVML_LOST", -1);
    CHECK(number("STANDIN_NVML_INIT_ERROR", SUCCESS));
    CHECK(open_commands());
    old = number("STANDIN_NVML_OLD", 0);
    no_events = number("STANDIN_NVML_NO_EVENTS", -1);
    without = number("STANDIN_NVML_WITHOUT", NONE);
    const char *lacks = getenv("STANDIN_NVML_WITHOUT");
    if (lacks && strcmp(lacks, "all") == 0) without = ALL;
    for (int gpu = 0; first && gpu < MOST_GPUS; gpu++)
        links_up[gpu] = number("STANDIN_NVML_LINKS", ACTIVE_LINKS);
    if (count > 0 && count <= MOST_GPUS) have(count);
    if (first && lost >= 0 && lost < gpus) lost_at[lost] = ++order;
    first = 0;
    users++;
    return SUCCESS;
}

int nvmlInitWithFlags(unsigned flags) {
    int result;
    (void)flags;
    LOCKED(result = initialise());
    return result;
}

int nvmlInit_v2(void) { return nvmlInitWithFlags(0); }

/* The binding asks for a text only where it has none of its own. */
const char *nvmlErrorString(int code) { return code ? "An error of the stand-in" : "Success"; }

static int copy(char *to, unsigned size, const char *text) {
    return (unsigned)snprintf(to, size, "%s", text) < size ? SUCCESS : INSUFFICIENT_SIZE;
}

API(nvmlShutdown, (void), enter(NULL), LOCKED(users--), SUCCESS)
API(nvmlSystemGetDriverVersion, (char *to, unsigned n), enter(NULL), , copy(to, n, "580.95.05"))
API(nvmlSystemGetNVMLVersion, (char *to, unsigned n), enter(NULL), , copy(to, n, "13.580.95.05"))

/* ---- devices ---- */

static pci_info pci_of(const device *d) {
    pci_info pci = {.bus = d->bus, .model = 0x233010DE, .board = 0x16C110DE};
    snprintf(pci.old_id, sizeof pci.old_id, "0000:%02X:00.0", d->bus & 0xFF);
    snprintf(pci.id, sizeof pci.id, "00000000:%02X:00.0", d->bus & 0xFF);
    return pci;
}

static memory_info memory_of(const device *d) {
    u64 bytes = (u64)d->mib << 20;
    return (memory_info){bytes, bytes, 0};
}

int nvmlDeviceGetHandleByIndex_v2(unsigned index, device **d) {
    CHECK(enter(index < (unsigned)gpus ? &devices[index] : NULL));
    if (index >= (unsigned)gpus) return INVALID_ARGUMENT;
    *d = &devices[index];
    return SUCCESS;
}

int nvmlDeviceGetHandleByUUID(const char *uuid, device **d) {
    CHECK(enter(NULL));
    for (*d = devices; *d < devices + handles; ++*d)
        if (strcmp(uuid, (*d)->uuid) == 0) return on_device(*d);
    return NOT_FOUND;
}

API(nvmlDeviceGetCount_v2, (unsigned *n), enter(NULL), *n = gpus, SUCCESS)
API(nvmlDeviceGetUUID, (device *d, char *to, unsigned n), on_device(d), , copy(to, n, d->uuid))
API(nvmlDeviceGetName, (device *d, char *to, unsigned n), on_device(d), , copy(to, n, d->name))
API(nvmlDeviceGetIndex, (device *d, unsigned *n), on_device(d),
    *n = d->mig ? d->place : d->gpu, SUCCESS)
API(nvmlDeviceGetMemoryInfo, (device *d, memory_info *m), optional_on_device(d), *m = memory_of(d), SUCCESS)
API(nvmlDeviceGetMinorNumber, (device *d, unsigned *n), optional_on_gpu(d), *n = d->minor, SUCCESS)
API(nvmlDeviceGetPciInfo_v3, (device *d, pci_info *pci), on_gpu(d), *pci = pci_of(d), SUCCESS)
API(nvmlDeviceGetCudaComputeCapability, (device *d, int *major, int *minor), optional_on_gpu(d),
    *major = 9; *minor = 0, SUCCESS)

/* ---- MIG ---- */

int nvmlDeviceGetMigDeviceHandleByIndex(device *d, unsigned index, device **instance) {
    CHECK(on_mig_parent(d));
    if ((int)d->gpu != mig_gpu) return NOT_SUPPORTED;
    for (*instance = devices + gpus; *instance < devices + handles; ++*instance)
        if ((*instance)->place == index) return SUCCESS;
    return index < PLACES ? NOT_FOUND : INVALID_ARGUMENT;
}

API(nvmlDeviceGetMigMode, (device *d, unsigned *current, unsigned *pending), on_mig_parent(d),
    *current = *pending = (int)d->gpu == mig_gpu, SUCCESS)
API(nvmlDeviceGetMaxMigDeviceCount, (device *d, unsigned *n), on_mig_parent(d),
    *n = (int)d->gpu == mig_gpu ? PLACES : 0, SUCCESS)
API(nvmlDeviceGetDeviceHandleFromMigDeviceHandle, (device *d, device **parent), on_instance(d),
    *parent = &devices[d->gpu], SUCCESS)
API(nvmlDeviceGetGpuInstanceId, (device *d, unsigned *n), on_instance(d), *n = d->gi, SUCCESS)
API(nvmlDeviceGetComputeInstanceId, (device *d, unsigned *n), on_instance(d), *n = 0, SUCCESS)
API(nvmlDeviceGetAttributes_v2, (device *d, attributes *a), on_instance(d),
    *a = ((attributes){16, 1, 1, 0, 1, 0, 1, 1, d->mib}), SUCCESS)

/* ---- topology and NVLink ---- */

static int read_fields(field *fields, int count) {
    for (field *f = fields; f < fields + count; f++) {
        f->type = VALUE_UNSIGNED_INT;
        f->value = LINKS;
        f->result = f->id == FIELD_LINK_COUNT ? SUCCESS : NOT_SUPPORTED;
    }
    return SUCCESS;
}

API(nvmlDeviceGetTopologyCommonAncestor, (device *a, device *b, unsigned *level), optional_on_gpu(a),
    CHECK(optional_on_gpu(b)); *level = a == b ? INTERNAL : SINGLE, SUCCESS)
API(nvmlDeviceGetNvLinkState, (device *d, unsigned link, unsigned *active), on_link(d, link),
    *active = (int)link < links_up[d->gpu], SUCCESS)
API(nvmlDeviceGetNvLinkRemotePciInfo_v2, (device *d, unsigned link, pci_info *pci),
    on_active_link(d, link), *pci = pci_of(&devices[d->gpu ^ 1]), SUCCESS)
API(nvmlDeviceGetNvLinkRemoteDeviceType, (device *d, unsigned link, unsigned *type),
    on_active_link(d, link), *type = 0 /* a GPU */, SUCCESS)
API(nvmlDeviceGetFieldValues, (device *d, int count, field *fields), optional_on_gpu(d), ,
    old ? NOT_SUPPORTED : read_fields(fields, count))

/* ---- events ---- */

int nvmlEventSetCreate(event_set **set) {
    CHECK(enter(NULL));
    if (without == ALL) return NOT_SUPPORTED;
    for (*set = sets; *set < sets + SETS && (*set)->used;) ++*set;
    if (*set == sets + SETS) return NO_MEMORY;
    **set = (event_set){.used = 1};
    return SUCCESS;
}

static int supported(const device *d) {
    return (int)d->gpu == no_events ? EVENTS_WITHOUT_XID : USUAL_EVENTS;
}

static int on_events(const device *d, u64 types, const event_set *set) {
    CHECK(optional_on_gpu(d));
    CHECK(on_set(set));
    return (int)d->gpu == no_events || types & ~(u64)supported(d) ? NOT_SUPPORTED : SUCCESS;
}

API(nvmlDeviceGetSupportedEventTypes, (device *d, u64 *types), on_gpu(d),
    *types = supported(d), SUCCESS)
API(nvmlDeviceRegisterEvents, (device *d, u64 types, event_set *set), on_events(d, types, set),
    LOCKED(set->types[d->gpu] |= types), SUCCESS)
API(nvmlEventSetFree, (event_set *set), on_set(set), LOCKED(set->used = 0), SUCCESS)

/* What a wait meets first among the commands: TIMEOUT when there is nothing. */
static int meet(const event_set *set, event_data *event) {
    unsigned first = hang_at ? hang_at : UINT_MAX;
    int result = hang_at ? HANG : TIMEOUT;
    for (int gpu = 0; gpu < gpus; gpu++) {
        if (!set->types[gpu] || !lost_at[gpu] || lost_at[gpu] > first) continue;
        first = lost_at[gpu];
        result = GPU_IS_LOST;
    }
    while (queued && queue[0].order < first) {
        *event = queue[0].event;
        memmove(queue, queue + 1, --queued * sizeof queue[0]);
        if (set->types[event->device->gpu] & XID_EVENT) return SUCCESS;
    }
    return result;
}

static long long now(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return t.tv_sec * 1000ll + t.tv_nsec / 1000000;
}

int nvmlEventSetWait_v2(event_set *set, event_data *event, unsigned timeout) {
    struct pollfd sources[] = {{fifo, POLLIN, 0}, {wake, POLLIN, 0}};
    for (long long end = now() + timeout;;) {
        int result;
        (void)!read(wake, &(u64){0}, sizeof(u64));
        CHECK(on_set(set));
        LOCKED(result = meet(set, event));
        while (result == HANG) pause();
        long long left = end - now();
        if (result != TIMEOUT || left <= 0) return result;
        poll(sources, 2, left < INT_MAX ? (int)left : INT_MAX);
    }
}
