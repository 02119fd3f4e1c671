/* Lets callgrind count the instructions between two calls, and nothing before and after them.
 *
 * What is not counted runs twenty times faster.
 */
#include <valgrind/callgrind.h>

void begin(void);
void end(void);

void begin(void) {
    CALLGRIND_START_INSTRUMENTATION;
    CALLGRIND_ZERO_STATS;
}

/* Writes the counts to the next file. */
void end(void) {
    CALLGRIND_DUMP_STATS;
    CALLGRIND_STOP_INSTRUMENTATION;
}
