/*
 * A stand-in for NVIDIA's management library, libnvidia-ml.so.1, for tests where there is no GPU.
 * It exports what nvidia-ml-py calls for enumeration, MIG, topology, NVLink, fabric, usage and
 * events; any other symbol is missing: the binding reports NVML_ERROR_FUNCTION_NOT_FOUND.
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
 *   STANDIN_NVML_OLD=1               MIG, NVLink and field values answer NOT_SUPPORTED
 *   STANDIN_NVML_WITHOUT=<gpu>|all   every optional call on that GPU (for all: also the event set)
 *                                    answers NOT_SUPPORTED: all but handle, UUID, name and PCI
 *   STANDIN_NVML_GARBLED=<gpu>       the name of that GPU is no UTF-8
 *   STANDIN_NVML_LINKS=<count>       so many NVLinks of each GPU are active, not 2
 *   STANDIN_NVML_FABRIC=<state>      nvmlGpuFabricState_t of each GPU, not 3 (it has joined); 0: the
 *                                    GPUs are in no fabric
 *   STANDIN_NVML_CC=<0|1>            confidential computing is on, and the GPUs accept work (1) or not
 *   STANDIN_NVML_LICENCE=<0|1>       each GPU is a virtual one in a guest, with a licence (1) or without
 *   STANDIN_NVML_GPUS=<count>        so many H100 (up to 16) in place of the two, none in MIG mode
 *   STANDIN_NVML_NAMES=<name>[;<name>]  GPUs with these names in place of the two, none in MIG mode. One
 *                                    with (nvgpu) in its name is integrated: it has a UUID without
 *                                    GPU-, no PCI address, and no optional call
 *   STANDIN_NVML_PROCESSES=<count>   so many compute processes, PIDs from 1, use each GPU, 1 GiB each
 *   STANDIN_NVML_HANG_INIT=1         nvmlInit never returns
 *   STANDIN_NVML_MODES=<folder>      keeps each GPU's compute mode in the file mode-<gpu> there, for
 *                                    all processes; without it, a mode ends with its process
 * and those that give a command below before the process's first nvmlInit; a comma separates more:
 *   STANDIN_NVML_LOST=<gpu>          lost
 *   STANDIN_NVML_HANG=<gpu>[:<call>] hang
 *   STANDIN_NVML_SLOW=<gpu>|all:<ms> slow
 *   STANDIN_NVML_FAIL=<gpu>:<call>:<code> fail
 *   STANDIN_NVML_DENIED=<code>       denied
 *
 * Commands, one line each, written to the FIFO while one process has it open:
 *   xid <gpu> <code> [<gi> [<ci>]]   an Xid event of that GPU, its device the GPU's own handle
 *   lost <gpu>                       GPU_IS_LOST from every call on it and its instances, and from
 *                                    every wait on a set that has it registered
 *   recover <gpu>                    undoes lost
 *   links <gpu> <count>              so many NVLinks are active; -1: asked for any, NOT_SUPPORTED
 *   figure <gpu> <name> <value>      what shows a grey failure: width and generation (of the PCIe link,
 *                                    usually 16 and 5), reasons (of the clocks), clock (MHz), corrected
 *                                    (memory errors), spare (banks without a spare row), persistence,
 *                                    health (the mask of the fabric)
 *   process <gpu> <pid> <mib> <sm> [<kind> [<gi>]]
 *                                    a process uses so much memory and so many percent of the GPU, or
 *                                    of its instance; its kind is compute (else graphics, mps); it is
 *                                    there until it uses 0 MiB
 *   hang                             the wait that comes to it never returns
 *   hang <gpu>                       no call on it and its instances returns, nor any wait on a set
 *                                    that has it registered, whatever its timeout, until `answer`
 *   hang <gpu> <call>                so does only that function (named as for `fail`) for it
 *   hang driver <call>               so does that function, if it is about no GPU (such as
 *                                    nvmlDeviceGetCount and nvmlEventSetCreate); undone by
 *                                    `answer driver`
 *   slow <gpu>|all <ms>              each call on it and its instances takes so much longer (the
 *                                    wait does not); 0: no longer
 *   fail <gpu> <call> <code>         that function, without its version (nvmlDeviceGetMemoryInfo,
 *                                    nvmlEventSetWait), answers this code for it; 0: no longer
 *   answer <gpu>                     undoes hang, slow and fail; calls that hang or are slow go on
 *   denied [<code>]                  every call on a device and every wait answers this code (999,
 *                                    UNKNOWN), as to a process that has lost its device nodes
 *   allowed                          undoes denied
 *   fabric <state>                   as STANDIN_NVML_FABRIC
 *   cc <0|1>, licence <0|1>          as STANDIN_NVML_CC and STANDIN_NVML_LICENCE
 * Each call obeys the written commands before it answers, so a command is in force once its write
 * has returned; a call that hangs, is slow or waits obeys them at once. A wait meets them in the
 * order of writing. An event goes to every set that has its GPU registered at that moment, and is
 * kept until a wait on that set takes it. Nothing outlives the process.
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
       TIMEOUT = 10, GPU_IS_LOST = 15, OPERATING_SYSTEM = 17, NO_MEMORY = 20, UNKNOWN = 999,
       HANG = -1 };
enum { MOST_GPUS = 16, PLACES = 7, LINKS = 18, ACTIVE_LINKS = 2, SETS = 64, FAILURES = 64 };
enum { INTERNAL = 0, SINGLE = 10, FIELD_LINK_COUNT = 91, VALUE_UNSIGNED_INT = 1 };
enum { FABRIC_INFO_V2 = 0x02000024, JOINED = 3 };
enum { XID_EVENT = 0x08, USUAL_EVENTS = 0x1F, EVENTS_WITHOUT_XID = 0x14 };
#define NO_INSTANCE 0xFFFFFFFFu
#define SECOND 1000000000ll /* in nanoseconds, as all times below */
#define MILLISECOND 1000000ll
#define LONG (3600 * SECOND)
#define H100 "NVIDIA H100 80GB HBM3"
#define CHECK(call) do { int result_ = (call); if (result_ != SUCCESS) return result_; } while (0)
#define LOCKED(...) \
    do { pthread_mutex_lock(&lock); __VA_ARGS__; pthread_mutex_unlock(&lock); } while (0)
/* An exported function: its check, what it does when the check passed, and what it returns then. */
#define API(name, parameters, check, does, returns) \
    int name parameters { calling = #name; CHECK(check); does; return returns; }

typedef unsigned long long u64;
typedef struct { const char *uuid, *name; unsigned gpu, mig, place, minor, bus, gi, mib; } device;
typedef struct { char old_id[16]; unsigned domain, bus, slot, model, board; char id[32]; } pci_info;
typedef struct { u64 total, free, used; } memory_info;
typedef struct { unsigned version; u64 total, reserved, free, used; } memory_info_v2;
typedef struct { unsigned gpu, mem; } utilization;
typedef struct { unsigned pid; u64 memory; unsigned gi, ci; } process_info;
typedef struct { u64 time; unsigned pid, sm, mem, enc, dec, jpg, ofa; } process_use;
typedef struct { unsigned version, count; u64 since; process_use *uses; } process_uses;
typedef struct { unsigned pid; u64 time; unsigned sm, mem, enc, dec; } process_sample;
typedef struct { unsigned sms, copy, dec, enc, jpeg, ofa, gi_size, ci_size; u64 mib; } attributes;
typedef struct { device *device; u64 type, data; unsigned gi, ci; } event_data;
typedef struct { unsigned version; unsigned char cluster[16]; int status; unsigned clique;
                 unsigned char state; unsigned health; } fabric_info;
typedef struct { unsigned id, scope; u64 times[2]; unsigned type; int result; u64 value; } field;
typedef struct entry { struct entry *next; unsigned order; event_data event; } entry;
typedef struct { int used; u64 types[MOST_GPUS]; entry *first, *last; } event_set;

/* A handle is the address of one of these: first the GPUs by index, then the instances of GPU 1. */
static device devices[MOST_GPUS] = {
    {"GPU-5a2f1c30-7b1e-4c55-9a44-0d3f6e8b1000", H100, 0, 0, 0, 3, 0x07, 0, 81559},
    {"GPU-5a2f1c30-7b1e-4c55-9a44-0d3f6e8b1001", H100, 1, 0, 0, 5, 0x0A, 0, 81559},
    {"MIG-9c6e40d2-3f0a-5b8d-8e21-6a7b2c4d2007", H100 " MIG 1g.10gb", 1, 1, 0, 0, 0, 7, 9984},
    {"MIG-9c6e40d2-3f0a-5b8d-8e21-6a7b2c4d2008", H100 " MIG 1g.10gb", 1, 1, 2, 0, 0, 8, 9984},
};
static int gpus = 2, handles = 4, mig_gpu = 1;

/* The function that this thread is in, for `fail`. */
static _Thread_local const char *calling = "";

/* All of the state, guarded by one lock; nothing waits while it holds the lock. */
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static int users, fifo = -1, wake = -1, old, no_events = -1, garbled = -1;
enum { NONE = -1, ALL = -2 };
static int without = NONE, links_up[MOST_GPUS];
static event_set sets[SETS];
/* When it began, as a command's ordinal; 0: not so. */
static unsigned order, lost_at[MOST_GPUS], hung_at[MOST_GPUS + 1], hang_at, denied_at;
enum { DRIVER = MOST_GPUS }; /* what is about no GPU */
static char hung_call[MOST_GPUS + 1][64]; /* the only function that hangs; empty: each does */
static unsigned slow_by[MOST_GPUS]; /* milliseconds */
static int denied_code, fabric_state, cc_ready, licensed; /* the last two: -1: not supported */
enum { WIDTH, GENERATION, REASONS, CLOCK, CORRECTED, SPARE, PERSISTENCE, HEALTH, FIGURES };
static const char *const figure_names[FIGURES] = {
    "width", "generation", "reasons", "clock", "corrected", "spare", "persistence", "health"};
static const int usual_figures[FIGURES] = {16, 5, 0, 1980, 0, 0, 1, 0x1AA};
static int figures[MOST_GPUS][FIGURES];
static struct { unsigned gpu, order; char call[64]; int code; } failures[FAILURES]; /* 0: free */
enum { PROCESSES = 4096, RESERVED_MIB = 605 };
static struct { unsigned gpu, gi, pid, mib, sm; char kind[16]; } processes[PROCESSES]; /* 0: free */

/* ---- commands ---- */

static int read_line(char *line, size_t size) {
    size_t length = 0;
    while (length + 1 < size && read(fifo, line + length, 1) == 1 && line[length] != '\n') length++;
    line[length] = '\0';
    return length > 0;
}

static void deliver(event_data event) {
    for (event_set *set = sets; set < sets + SETS; set++) {
        if (!set->used || !(set->types[event.device->gpu] & XID_EVENT)) continue;
        entry *new = malloc(sizeof *new);
        if (!new) abort();
        *new = (entry){NULL, order, event};
        if (set->first) set->last->next = new; else set->first = new;
        set->last = new;
    }
}

static void drop_first(event_set *set) {
    entry *first = set->first;
    set->first = first->next;
    free(first);
}

static void fail(unsigned gpu, const char *call, int code) {
    int i = 0;
    while (i < FAILURES && !(failures[i].code && failures[i].gpu == gpu
                             && strcmp(failures[i].call, call) == 0)) i++;
    if (i == FAILURES) for (i = 0; i < FAILURES && failures[i].code;) i++;
    if (i == FAILURES) abort();
    failures[i].gpu = gpu;
    failures[i].order = order;
    failures[i].code = code;
    snprintf(failures[i].call, sizeof failures[i].call, "%s", call);
}

static void answer(unsigned gpu) {
    hung_at[gpu] = slow_by[gpu] = 0;
    for (int i = 0; i < FAILURES; i++) if (failures[i].gpu == gpu) failures[i].code = 0;
}

static void hang(unsigned gpu, const char *call) {
    hung_at[gpu] = order;
    snprintf(hung_call[gpu], sizeof hung_call[gpu], "%s", call);
}

static void figure(unsigned gpu, const char *name, int value) {
    int i = 0;
    while (i < FIGURES && strcmp(figure_names[i], name) != 0) i++;
    if (i == FIGURES) fprintf(stderr, "stand-in for NVML: no such figure: %s\n", name);
    else figures[gpu][i] = value;
}

static void use(unsigned gpu, unsigned gi, unsigned pid, unsigned mib, unsigned sm, const char *kind) {
    int i = 0;
    while (i < PROCESSES && !(processes[i].mib && processes[i].gpu == gpu && processes[i].gi == gi
                              && processes[i].pid == pid)) i++;
    if (i == PROCESSES) for (i = 0; i < PROCESSES && processes[i].mib;) i++;
    if (i == PROCESSES) abort();
    processes[i].gpu = gpu;
    processes[i].gi = gi;
    processes[i].pid = pid;
    processes[i].mib = mib;
    processes[i].sm = sm;
    snprintf(processes[i].kind, sizeof processes[i].kind, "%s", kind);
}

#define OF_A_GPU(least, ...) (sscanf(line, __VA_ARGS__) >= (least) && gpu < (unsigned)gpus)

static void obey(const char *line) {
    unsigned gpu = 0, gi = NO_INSTANCE, ci = NO_INSTANCE, milliseconds, pid, mib, sm;
    int number = UNKNOWN;
    char call[64] = "";
    u64 xid;
    order++;
    if (OF_A_GPU(2, "xid %u %llu %u %u", &gpu, &xid, &gi, &ci)) {
        deliver((event_data){&devices[gpu], XID_EVENT, xid, gi, ci});
    } else if (OF_A_GPU(1, "lost %u", &gpu)) {
        if (!lost_at[gpu]) lost_at[gpu] = order;
    } else if (OF_A_GPU(1, "recover %u", &gpu)) {
        lost_at[gpu] = 0;
    } else if (OF_A_GPU(2, "links %u %d", &gpu, &number)) {
        links_up[gpu] = number;
    } else if (OF_A_GPU(3, "figure %u %63s %d", &gpu, call, &number)) {
        figure(gpu, call, number);
    } else if (OF_A_GPU(4, "process %u %u %u %u %15s %u", &gpu, &pid, &mib, &sm, call, &gi)) {
        use(gpu, gi == NO_INSTANCE ? 0 : gi, pid, mib, sm, *call ? call : "compute");
    } else if (OF_A_GPU(1, "hang %u %63s", &gpu, call)) {
        if (!hung_at[gpu]) hang(gpu, call);
    } else if (sscanf(line, "hang driver %63s", call) == 1) {
        hang(DRIVER, call);
    } else if (strcmp(line, "answer driver") == 0) {
        hung_at[DRIVER] = 0;
    } else if (strcmp(line, "hang") == 0) {
        if (!hang_at) hang_at = order;
    } else if (OF_A_GPU(2, "slow %u %u", &gpu, &milliseconds)) {
        slow_by[gpu] = milliseconds;
    } else if (sscanf(line, "slow all %u", &milliseconds) == 1) {
        for (gpu = 0; gpu < (unsigned)gpus; gpu++) slow_by[gpu] = milliseconds;
    } else if (OF_A_GPU(3, "fail %u %63s %d", &gpu, call, &number)) {
        fail(gpu, call, number);
    } else if (OF_A_GPU(1, "answer %u", &gpu)) {
        answer(gpu);
    } else if (strcmp(line, "denied") == 0 || sscanf(line, "denied %d", &number) == 1) {
        denied_code = number;
        if (!denied_at) denied_at = order;
    } else if (sscanf(line, "fabric %d", &number) == 1) {
        fabric_state = number;
    } else if (sscanf(line, "cc %d", &number) == 1) {
        cc_ready = number;
    } else if (sscanf(line, "licence %d", &number) == 1) {
        licensed = number;
    } else if (strcmp(line, "allowed") == 0) {
        denied_at = 0;
    } else {
        fprintf(stderr, "stand-in for NVML: no such command: %s\n", line);
    }
}

/* ---- how threads sleep until a command comes ---- */

static pthread_cond_t told = PTHREAD_COND_INITIALIZER;
static int reading; /* one of the sleepers reads the FIFO, the others wait until they are told */

/* Obeys what was written and tells the sleepers. */
static void obey_all(void) {
    char line[128];
    unsigned before = order;
    while (fifo >= 0 && read_line(line, sizeof line)) obey(line);
    if (order == before) return;
    pthread_cond_broadcast(&told);
    if (reading) (void)!write(wake, &(u64){1}, sizeof(u64));
}

static struct timespec timespec_of(long long nanoseconds) {
    return (struct timespec){nanoseconds / SECOND, nanoseconds % SECOND};
}

static long long now(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return t.tv_sec * SECOND + t.tv_nsec;
}

/* Gives the lock away until commands were obeyed, at most for so long; may return early. */
static void sleep_until_told(long long nanoseconds) {
    struct pollfd sources[] = {{fifo, POLLIN, 0}, {wake, POLLIN, 0}};
    struct timespec span = timespec_of(nanoseconds), end = timespec_of(now() + nanoseconds);
    if (reading) {
        pthread_cond_clockwait(&told, &lock, CLOCK_MONOTONIC, &end);
        return;
    }
    reading = 1;
    pthread_mutex_unlock(&lock);
    ppoll(sources, 2, &span, NULL);
    pthread_mutex_lock(&lock);
    reading = 0;
    (void)!read(wake, &(u64){0}, sizeof(u64));
    obey_all();
    pthread_cond_broadcast(&told); /* another one has to read now */
}

/* ---- what the calls begin with ---- */

static int is_call(const char *name) {
    size_t length = strlen(name);
    if (strncmp(calling, name, length) != 0) return 0;
    return !calling[length] || strncmp(calling + length, "_v", 2) == 0;
}

static int hangs(unsigned gpu) {
    return hung_at[gpu] && (!*hung_call[gpu] || is_call(hung_call[gpu]));
}

/* Holds the call up while its GPU hangs or is slow. */
static void hold_up(unsigned gpu) {
    while (users && hangs(gpu)) sleep_until_told(LONG);
    if (gpu == DRIVER) return;
    long long left, begun = now();
    while (users && (left = begun + slow_by[gpu] * MILLISECOND - now()) > 0)
        sleep_until_told(left);
}

static int state_of(unsigned gpu) {
    if (denied_at) return denied_code;
    if (lost_at[gpu]) return GPU_IS_LOST;
    for (int i = 0; i < FAILURES; i++)
        if (failures[i].code && failures[i].gpu == gpu && is_call(failures[i].call))
            return failures[i].code;
    return SUCCESS;
}

static int enter(const device *d) {
    int result;
    LOCKED(obey_all();
           hold_up(d ? d->gpu : DRIVER);
           result = !users ? UNINITIALIZED : d ? state_of(d->gpu) : SUCCESS);
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

static int integrated(const device *d) { return !d->mig && !d->bus; }

static int lacking(const device *d) {
    return without == ALL || without == (int)d->gpu || integrated(d);
}

static int on_pci(const device *d) {
    CHECK(on_gpu(d));
    return integrated(d) ? NOT_SUPPORTED : SUCCESS;
}

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

static int is_set(const event_set *set) {
    return set >= sets && set < sets + SETS && set->used;
}

static int on_set(const event_set *set) {
    CHECK(enter(NULL));
    return is_set(set) ? SUCCESS : INVALID_ARGUMENT;
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

static void have_named(const char *text) {
    static char items[512], uuids[MOST_GPUS][41];
    char *rest = items, *name;
    snprintf(items, sizeof items, "%s", text);
    mig_gpu = -1;
    for (gpus = 0; gpus < MOST_GPUS && (name = strsep(&rest, ";")); gpus++) {
        unsigned i = gpus, in_chip = strstr(name, "(nvgpu)") != NULL;
        const char *form = in_chip ? "54d0709b-558d-5a59-9c65-0c5fc14a2%03u"
                                   : "GPU-5a2f1c30-7b1e-4c55-9a44-0d3f6e8b1%03u";
        snprintf(uuids[i], sizeof uuids[i], form, i);
        devices[i] = (device){uuids[i], name, i, 0, 0, i, in_chip ? 0 : 1 + i, 0, 24564};
    }
    handles = gpus;
}

/* Obeys the commands in the environment: a comma ends one, a colon separates its words. */
static void obey_environment(const char *name, const char *command) {
    const char *text = getenv(name);
    char items[512], line[128], *rest = items, *item;
    snprintf(items, sizeof items, "%s", text ? text : "");
    while ((item = strsep(&rest, ","))) {
        if (!*item) continue;
        snprintf(line, sizeof line, "%s %s", command, item);
        for (char *c = line; *c; c++) if (*c == ':') *c = ' ';
        obey(line);
    }
}

static void begin_as_the_environment_says(void) {
    for (int gpu = 0; gpu < MOST_GPUS; gpu++)
        links_up[gpu] = number("STANDIN_NVML_LINKS", ACTIVE_LINKS);
    for (int gpu = 0; gpu < MOST_GPUS; gpu++)
        memcpy(figures[gpu], usual_figures, sizeof usual_figures);
    fabric_state = number("STANDIN_NVML_FABRIC", JOINED);
    cc_ready = number("STANDIN_NVML_CC", NONE);
    licensed = number("STANDIN_NVML_LICENCE", NONE);
    for (int pid = 1; pid <= number("STANDIN_NVML_PROCESSES", 0); pid++)
        for (int gpu = 0; gpu < gpus; gpu++) use(gpu, 0, pid, 1024, 2, "compute");
    obey_environment("STANDIN_NVML_LOST", "lost");
    obey_environment("STANDIN_NVML_HANG", "hang");
    obey_environment("STANDIN_NVML_SLOW", "slow");
    obey_environment("STANDIN_NVML_FAIL", "fail");
    obey_environment("STANDIN_NVML_DENIED", "denied");
}

static int initialise(void) {
    static int first = 1;
    int count = number("STANDIN_NVML_GPUS", 0);
    CHECK(number("STANDIN_NVML_INIT_ERROR", SUCCESS));
    CHECK(open_commands());
    old = number("STANDIN_NVML_OLD", 0);
    no_events = number("STANDIN_NVML_NO_EVENTS", -1);
    garbled = number("STANDIN_NVML_GARBLED", -1);
    without = number("STANDIN_NVML_WITHOUT", NONE);
    const char *lacks = getenv("STANDIN_NVML_WITHOUT");
    if (lacks && strcmp(lacks, "all") == 0) without = ALL;
    if (count > 0 && count <= MOST_GPUS) have(count);
    if (getenv("STANDIN_NVML_NAMES")) have_named(getenv("STANDIN_NVML_NAMES"));
    if (first) begin_as_the_environment_says();
    first = 0;
    users++;
    return SUCCESS;
}

int nvmlInitWithFlags(unsigned flags) {
    int result;
    (void)flags;
    while (number("STANDIN_NVML_HANG_INIT", 0)) pause();
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
API(nvmlSystemGetCudaDriverVersion, (int *version), enter(NULL), *version = 13000, SUCCESS)
API(nvmlSystemGetNVMLVersion, (char *to, unsigned n), enter(NULL), , copy(to, n, "13.580.95.05"))

/* ---- devices ---- */

static pci_info pci_of(const device *d) {
    pci_info pci = {.bus = d->bus, .model = 0x233010DE, .board = 0x16C110DE};
    snprintf(pci.old_id, sizeof pci.old_id, "0000:%02X:00.0", d->bus & 0xFF);
    snprintf(pci.id, sizeof pci.id, "00000000:%02X:00.0", d->bus & 0xFF);
    return pci;
}

/* A process of an instance uses its GPU too. */
static int is_on(int i, const device *d) {
    return processes[i].mib && processes[i].gpu == d->gpu && (!d->mig || processes[i].gi == d->gi);
}

static u64 used_of(const device *d) {
    u64 mib = 0;
    for (int i = 0; i < PROCESSES; i++) if (is_on(i, d)) mib += processes[i].mib;
    return mib << 20;
}

static memory_info memory_of(const device *d) {
    u64 bytes = (u64)d->mib << 20, used = used_of(d);
    return (memory_info){bytes, bytes - used, used};
}

static memory_info_v2 memory_v2_of(const device *d) {
    u64 bytes = (u64)d->mib << 20, reserved = d->mig ? 0 : RESERVED_MIB << 20, used = used_of(d);
    return (memory_info_v2){0x02000028, bytes, reserved, bytes - reserved - used, used};
}

static int modes[MOST_GPUS];
enum { HIGHEST_MODE = 3 }; /* NVML_COMPUTEMODE_EXCLUSIVE_PROCESS */

static FILE *mode_file(const device *d, const char *how) {
    const char *folder = getenv("STANDIN_NVML_MODES");
    char path[PATH_MAX];
    snprintf(path, sizeof path, "%s/mode-%u", folder ? folder : "", d->gpu);
    return folder ? fopen(path, how) : NULL;
}

static int mode_of(const device *d) {
    FILE *file = mode_file(d, "r");
    if (!file) return modes[d->gpu];
    if (fscanf(file, "%d", &modes[d->gpu]) != 1) abort();
    fclose(file);
    return modes[d->gpu];
}

static int set_mode(const device *d, int mode) {
    if (mode < 0 || mode > HIGHEST_MODE) return INVALID_ARGUMENT;
    LOCKED(modes[d->gpu] = mode);
    FILE *file = mode_file(d, "w");
    if (!file) return SUCCESS;
    fprintf(file, "%d\n", mode);
    fclose(file);
    return SUCCESS;
}

int nvmlDeviceGetHandleByIndex_v2(unsigned index, device **d) {
    calling = __func__;
    CHECK(enter(index < (unsigned)gpus ? &devices[index] : NULL));
    if (index >= (unsigned)gpus) return INVALID_ARGUMENT;
    *d = &devices[index];
    return SUCCESS;
}

int nvmlDeviceGetHandleByUUID(const char *uuid, device **d) {
    calling = __func__;
    CHECK(enter(NULL));
    for (*d = devices; *d < devices + handles; ++*d)
        if (strcmp(uuid, (*d)->uuid) == 0) return on_device(*d);
    return NOT_FOUND;
}

API(nvmlDeviceGetCount_v2, (unsigned *n), enter(NULL), *n = gpus, SUCCESS)
API(nvmlDeviceGetUUID, (device *d, char *to, unsigned n), on_device(d), , copy(to, n, d->uuid))
API(nvmlDeviceGetName, (device *d, char *to, unsigned n), on_device(d), ,
    copy(to, n, (int)d->gpu == garbled ? "\xF8" : d->name))
API(nvmlDeviceGetIndex, (device *d, unsigned *n), on_device(d),
    *n = d->mig ? d->place : d->gpu, SUCCESS)
API(nvmlDeviceGetMemoryInfo, (device *d, memory_info *m), optional_on_device(d),
    LOCKED(*m = memory_of(d)), SUCCESS)
API(nvmlDeviceGetMemoryInfo_v2, (device *d, memory_info_v2 *m), optional_on_device(d),
    LOCKED(*m = memory_v2_of(d)), SUCCESS)
API(nvmlDeviceGetMinorNumber, (device *d, unsigned *n), optional_on_gpu(d), *n = d->minor, SUCCESS)
API(nvmlDeviceGetPciInfo_v3, (device *d, pci_info *pci), on_pci(d), *pci = pci_of(d), SUCCESS)
API(nvmlDeviceGetCudaComputeCapability, (device *d, int *major, int *minor), optional_on_gpu(d),
    *major = 9; *minor = 0, SUCCESS)

/* ---- MIG ---- */

int nvmlDeviceGetMigDeviceHandleByIndex(device *d, unsigned index, device **instance) {
    calling = __func__;
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

/* ---- fabric and virtualization ---- */

enum { VGPU = 2 };

API(nvmlDeviceGetVirtualizationMode, (device *d, int *mode), optional_on_gpu(d),
    *mode = licensed < 0 ? 0 : VGPU, SUCCESS)

typedef struct { unsigned year; unsigned short rest[5]; unsigned char status; } expiry;
typedef struct { int code; unsigned state; char info[128], product[128]; unsigned enabled;
                 expiry expires; } feature;
typedef struct { int supported; unsigned count; feature features[3]; } features;

static int on_virtual(const device *d) {
    CHECK(optional_on_gpu(d));
    return licensed < 0 ? NOT_SUPPORTED : SUCCESS;
}

API(nvmlDeviceGetGridLicensableFeatures_v4, (device *d, features *f), on_virtual(d),
    LOCKED(*f = ((features){1, 1, {{.code = 1, .enabled = 1, .state = licensed}}})), SUCCESS)

typedef struct { unsigned environment, feature, tools; } cc_state;

static int on_cc(void) {
    CHECK(enter(NULL));
    return cc_ready < 0 ? NOT_SUPPORTED : SUCCESS;
}

API(nvmlSystemGetConfComputeState, (cc_state *state), on_cc(), *state = ((cc_state){2, 1, 0}), SUCCESS)
API(nvmlSystemGetConfComputeGpusReadyState, (unsigned *ready), on_cc(), LOCKED(*ready = cc_ready),
    SUCCESS)

static const unsigned char cluster[16] = {0x5A, 0x2F, 0x1C, 0x30, 0x7B, 0x1E, 0x4C, 0x55,
                                          0x9A, 0x44, 0x0D, 0x3F, 0x6E, 0x8B, 0x1F, 0x00};

static int on_fabric(const device *d, const fabric_info *info) {
    CHECK(optional_on_gpu(d));
    if (old || !fabric_state) return NOT_SUPPORTED;
    return info->version == FABRIC_INFO_V2 ? SUCCESS : INVALID_ARGUMENT;
}

static fabric_info fabric_now(const device *d) {
    fabric_info info = {.version = FABRIC_INFO_V2, .clique = 7, .state = fabric_state,
                        .health = figures[d->gpu][HEALTH]};
    memcpy(info.cluster, cluster, sizeof cluster);
    return info;
}

API(nvmlDeviceGetGpuFabricInfoV, (device *d, fabric_info *info), on_fabric(d, info),
    LOCKED(*info = fabric_now(d)), SUCCESS)

/* ---- topology and NVLink ---- */

static int read_fields(field *fields, int count) {
    for (field *f = fields; f < fields + count; f++) {
        f->type = VALUE_UNSIGNED_INT;
        f->value = LINKS;
        f->result = f->id == FIELD_LINK_COUNT ? SUCCESS : NOT_SUPPORTED;
    }
    return SUCCESS;
}

API(nvmlDeviceGetTopologyCommonAncestor, (device *a, device *b, unsigned *level),
    optional_on_gpu(a),
    CHECK(optional_on_gpu(b)); *level = a == b ? INTERNAL : SINGLE, SUCCESS)
API(nvmlDeviceGetNvLinkState, (device *d, unsigned link, unsigned *active), on_link(d, link),
    *active = (int)link < links_up[d->gpu], SUCCESS)
API(nvmlDeviceGetNvLinkRemotePciInfo_v2, (device *d, unsigned link, pci_info *pci),
    on_active_link(d, link), *pci = pci_of(&devices[d->gpu ^ 1]), SUCCESS)
API(nvmlDeviceGetNvLinkRemoteDeviceType, (device *d, unsigned link, unsigned *type),
    on_active_link(d, link), *type = 0 /* a GPU */, SUCCESS)
API(nvmlDeviceGetFieldValues, (device *d, int count, field *fields), optional_on_gpu(d), ,
    old ? NOT_SUPPORTED : read_fields(fields, count))

/* ---- usage ---- */

/* Neither a GPU in MIG mode nor an instance tells how busy it is. */
static int on_busy(const device *d) {
    CHECK(optional_on_gpu(d));
    return (int)d->gpu == mig_gpu ? NOT_SUPPORTED : SUCCESS;
}

static utilization utilization_of(const device *d) {
    unsigned sum = 0;
    for (int i = 0; i < PROCESSES; i++) if (is_on(i, d)) sum += processes[i].sm;
    return (utilization){sum < 100 ? sum : 100, sum / 4 < 100 ? sum / 4 : 100};
}

/* As the library does: with too small a count, the count that is needed. */
static int list(const device *d, const char *kind, unsigned *count, process_info *to) {
    unsigned found = 0;
    for (int i = 0; i < PROCESSES; i++) {
        if (!is_on(i, d) || strcmp(processes[i].kind, kind) != 0) continue;
        if (found++ < *count)
            to[found - 1] = (process_info){processes[i].pid, (u64)processes[i].mib << 20,
                                           d->mig ? d->gi : NO_INSTANCE, d->mig ? 0 : NO_INSTANCE};
    }
    int fits = found <= *count;
    *count = found;
    return fits ? SUCCESS : INSUFFICIENT_SIZE;
}

static int uses_since(const device *d, u64 since, unsigned *count, process_use *to) {
    struct timespec t;
    unsigned found = 0;
    clock_gettime(CLOCK_REALTIME, &t);
    u64 microseconds = (u64)t.tv_sec * 1000000 + t.tv_nsec / 1000;
    if (since >= microseconds) return NOT_FOUND;
    for (int i = 0; i < PROCESSES; i++) {
        if (!is_on(i, d) || !processes[i].sm) continue;
        if (found++ < *count)
            to[found - 1] = (process_use){.time = microseconds, .pid = processes[i].pid,
                                          .sm = processes[i].sm};
    }
    if (!found) return NOT_FOUND;
    int fits = found <= *count;
    *count = found;
    return fits ? SUCCESS : INSUFFICIENT_SIZE;
}

static int old_uses_since(const device *d, u64 since, unsigned *count, process_sample *to) {
    static process_use uses[PROCESSES];
    CHECK(uses_since(d, since, count, uses));
    for (unsigned i = 0; i < *count; i++)
        to[i] = (process_sample){.pid = uses[i].pid, .time = uses[i].time, .sm = uses[i].sm};
    return SUCCESS;
}

/* An exported function that returns what is found under the lock. */
#define FINDS(name, parameters, check, found) \
    int name parameters { \
        int result_; \
        calling = #name; \
        CHECK(check); \
        LOCKED(result_ = found); \
        return result_; \
    }

API(nvmlDeviceGetUtilizationRates, (device *d, utilization *u), on_busy(d),
    LOCKED(*u = utilization_of(d)), SUCCESS)
API(nvmlDeviceGetTemperature, (device *d, int sensor, unsigned *celsius), optional_on_gpu(d),
    *celsius = 41, sensor ? INVALID_ARGUMENT : SUCCESS)
API(nvmlDeviceGetPowerUsage, (device *d, unsigned *milliwatts), optional_on_gpu(d),
    *milliwatts = 71250, SUCCESS)
API(nvmlDeviceGetEnforcedPowerLimit, (device *d, unsigned *milliwatts), optional_on_gpu(d),
    *milliwatts = 700000, SUCCESS)
API(nvmlDeviceGetClockInfo, (device *d, unsigned kind, unsigned *mhz), optional_on_gpu(d),
    LOCKED(*mhz = kind == 2 ? 2619 : figures[d->gpu][CLOCK]), SUCCESS)
API(nvmlDeviceGetMaxClockInfo, (device *d, unsigned kind, unsigned *mhz), optional_on_gpu(d),
    *mhz = kind == 2 ? 2619 : 1980, SUCCESS)
API(nvmlDeviceGetComputeMode, (device *d, int *mode), optional_on_gpu(d),
    LOCKED(*mode = mode_of(d)), SUCCESS)
API(nvmlDeviceSetComputeMode, (device *d, int mode), optional_on_gpu(d), ,
    set_mode(d, mode))
FINDS(nvmlDeviceGetComputeRunningProcesses_v3, (device *d, unsigned *count, process_info *to),
      optional_on_device(d), list(d, "compute", count, to))
FINDS(nvmlDeviceGetGraphicsRunningProcesses_v3, (device *d, unsigned *count, process_info *to),
      optional_on_device(d), list(d, "graphics", count, to))
FINDS(nvmlDeviceGetMPSComputeRunningProcesses_v3, (device *d, unsigned *count, process_info *to),
      optional_on_device(d), list(d, "mps", count, to))
FINDS(nvmlDeviceGetProcessesUtilizationInfo, (device *d, process_uses *to), on_busy(d),
      old ? NOT_SUPPORTED : uses_since(d, to->since, &to->count, to->uses))
FINDS(nvmlDeviceGetProcessUtilization,
      (device *d, process_sample *to, unsigned *count, u64 since), on_busy(d),
      old_uses_since(d, since, count, to))

/* ---- grey failures ---- */

typedef struct { unsigned max, high, partial, low, none; } rows;
enum { BANKS = 640, CORRECTED_ERRORS = 0 };

#define FIGURE(name, place) \
    API(name, (device *d, unsigned *n), optional_on_gpu(d), LOCKED(*n = figures[d->gpu][place]), SUCCESS)
FIGURE(nvmlDeviceGetCurrPcieLinkWidth, WIDTH)
FIGURE(nvmlDeviceGetCurrPcieLinkGeneration, GENERATION)
FIGURE(nvmlDeviceGetPersistenceMode, PERSISTENCE)
API(nvmlDeviceGetMaxPcieLinkWidth, (device *d, unsigned *n), optional_on_gpu(d), *n = 16, SUCCESS)
API(nvmlDeviceGetMaxPcieLinkGeneration, (device *d, unsigned *n), optional_on_gpu(d), *n = 5, SUCCESS)
API(nvmlDeviceGetCurrentClocksEventReasons, (device *d, u64 *mask), optional_on_gpu(d),
    LOCKED(*mask = figures[d->gpu][REASONS]), SUCCESS)
API(nvmlDeviceGetTotalEccErrors, (device *d, int kind, int counter, u64 *n), optional_on_gpu(d),
    (void)counter; LOCKED(*n = kind == CORRECTED_ERRORS ? figures[d->gpu][CORRECTED] : 0), SUCCESS)
API(nvmlDeviceGetRowRemapperHistogram, (device *d, rows *found), optional_on_gpu(d),
    LOCKED(*found = ((rows){.max = BANKS - figures[d->gpu][SPARE], .none = figures[d->gpu][SPARE]})),
    SUCCESS)

/* ---- events ---- */

int nvmlEventSetCreate(event_set **set) {
    calling = __func__;
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
API(nvmlEventSetFree, (event_set *set), on_set(set),
    LOCKED(set->used = 0; while (set->first) drop_first(set)), SUCCESS)

/* What a wait meets first among the commands: TIMEOUT when there is nothing. */
static int meet(event_set *set, event_data *event) {
    unsigned first = UINT_MAX;
    int result = TIMEOUT;
#define MEETS(began, answer) if ((began) && (began) < first) { first = (began); result = (answer); }
    obey_all();
    if (!users) return UNINITIALIZED;
    if (!is_set(set)) return INVALID_ARGUMENT;
    MEETS(hang_at, HANG)
    MEETS(denied_at, denied_code)
    for (int gpu = 0; gpu < gpus; gpu++) {
        if (!set->types[gpu]) continue;
        MEETS(lost_at[gpu], GPU_IS_LOST)
        MEETS(hangs(gpu) ? hung_at[gpu] : 0, HANG)
        for (int i = 0; i < FAILURES; i++)
            if (failures[i].code && failures[i].gpu == (unsigned)gpu && is_call(failures[i].call))
                MEETS(failures[i].order, failures[i].code)
    }
    if (!set->first || set->first->order > first) return result;
    *event = set->first->event;
    drop_first(set);
    return SUCCESS;
}

int nvmlEventSetWait_v2(event_set *set, event_data *event, unsigned timeout) {
    long long end = now() + timeout * MILLISECOND, left;
    int result;
    calling = __func__;
    LOCKED(while ((result = meet(set, event)) == HANG || result == TIMEOUT) {
               left = result == HANG ? LONG : end - now();
               if (left <= 0) break;
               sleep_until_told(left);
           });
    return result;
}
