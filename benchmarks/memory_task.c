/* A task that uses memory as real ones do: it ramps up to a peak, holds it, and ends.
 *
 *     memory_task PLAN NUMBER
 *
 * Line NUMBER (from 0) of PLAN holds three integers: peak in bytes, milliseconds of the ramp, milliseconds of the plateau.
 * The peak is in the file and not among the arguments, so that nobody who watches command lines can learn it from there.
 * It goes on in steps and sleeps between them for what is left of each, so a task that was frozen has that much more to do.
 */
#define _GNU_SOURCE
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>

enum { STEP_MS = 20 };

static double now_ms(void) {
    struct timespec at;
    clock_gettime(CLOCK_MONOTONIC, &at);
    return at.tv_sec * 1e3 + at.tv_nsec / 1e6;
}

static void sleep_rest_of_step(double began_ms) {
    double left_ms = STEP_MS - (now_ms() - began_ms);
    if (left_ms <= 0) return;
    struct timespec rest = {(time_t)(left_ms / 1e3), (long)(left_ms * 1e6) % 1000000000L};
    nanosleep(&rest, NULL);
}

int main(int argc, char **argv) {
    if (argc != 3) {
        fprintf(stderr, "usage: memory_task PLAN NUMBER\n");
        return 2;
    }
    FILE *plan = fopen(argv[1], "r");
    if (plan == NULL) {
        perror(argv[1]);
        return 2;
    }
    long number = atol(argv[2]), ramp_ms, hold_ms;
    size_t peak;
    for (long line = 0; line <= number; line++) {
        if (fscanf(plan, "%zu %ld %ld", &peak, &ramp_ms, &hold_ms) != 3) {
            fprintf(stderr, "%s: no line %ld\n", argv[1], number);
            return 2;
        }
    }
    fclose(plan);

    char *memory = mmap(NULL, peak, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (memory == MAP_FAILED) {
        perror("mmap");
        return 1;
    }
    /* Huge pages: touching memory should cost little, for it is memory that is measured here and not the CPU. */
    madvise(memory, peak, MADV_HUGEPAGE);
    long ramp_steps = ramp_ms / STEP_MS > 0 ? ramp_ms / STEP_MS : 1, hold_steps = hold_ms / STEP_MS;
    size_t touched = 0;
    for (long step = 1; step <= ramp_steps; step++) {
        double began_ms = now_ms();
        size_t until = step == ramp_steps ? peak : peak / ramp_steps * step;
        for (; touched < until; touched += 4096) memory[touched] = 1;
        sleep_rest_of_step(began_ms);
    }
    for (long step = 0; step < hold_steps; step++) sleep_rest_of_step(now_ms());
    return memory[peak / 2 / 4096 * 4096] == 1 ? 0 : 1;
}
