/* The kernels of lmfacts-cuda on a processor: the .cu sources themselves, over this prelude instead of kernels/prelude.cu.
 *
 * The threads of a block are fibers of one thread of the host, each with its own stack, and blocks run one after the other. A
 * fiber runs until it waits: for the block (`wait_for_block`) or for its warp (shuffles, votes). Within a block only these order
 * the fibers, so that what CUDA leaves open is one fixed order here; a race between threads that this order hides would not be
 * found. Memory that is shared in a block is static, and keeps its content from block to block, so that a kernel which forgets to
 * clear it is found.
 *
 * `lmfacts_launch` is what the Rust side calls in place of cuLaunchKernel.
 */
#define _GNU_SOURCE
#include <math.h>
#include <setjmp.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <ucontext.h>

typedef uint8_t u8;
typedef uint16_t u16;
typedef uint32_t u32;
typedef unsigned long long u64;
typedef long long i64;
typedef float f32;
typedef double f64;

#define MOST_THREADS 1024
#define STACK_BYTES (64 * 1024)
#define LANES 32

typedef struct {
    ucontext_t context; /* for its start only: later turns are taken by jumps, which need no call of the system */
    jmp_buf place;
    u32 thread, is_started, is_done;
    u32 turn; /* which of two places of the warp's exchange is next */
} Fiber;

static Fiber fibers[MOST_THREADS];
static ucontext_t start_of_scheduler;
static jmp_buf scheduler;
static char *stacks;
static u32 running, n_threads, block[3], n_blocks[3];
static u32 n_waiting, n_alive, block_generation;
static u32 warp_waiting[MOST_THREADS / LANES], warp_generation[MOST_THREADS / LANES];
static u64 exchange[2][MOST_THREADS];
static u32 shared_words[256 * 1024 / 4];
static void (*kernel_to_run)(const void *);
static const void *arguments_to_pass;

#define KERNEL(n_threads, blocks_at_once) static void
#define ARGUMENTS(type) const type
#define INLINE static inline
#define RARE static
#define SHARED static
#define DYNAMIC_SHARED(name) u32 *const name = shared_words
#define UNROLL
#define AS_IN_RUST(condition) _Static_assert(condition, "not as in Rust: " #condition)
#define OFFSET_OF(type, field) __builtin_offsetof(type, field)

#define THREAD (fibers[running].thread)
#define N_THREADS n_threads
#define BLOCK (block[0])
#define BLOCK_Y (block[1])
#define BLOCK_Z (block[2])
#define N_BLOCKS (n_blocks[0])
#define N_BLOCKS_Y (n_blocks[1])

static void give_way(void) {
    if (_setjmp(fibers[running].place) == 0) {
        _longjmp(scheduler, 1);
    }
}

static void wait_for_block(void) {
    const u32 generation = block_generation;
    if (++n_waiting == n_alive) {
        n_waiting = 0;
        block_generation++;
    }
    while (generation == block_generation) {
        give_way();
    }
}

static void wait_for_warp(void) {
    const u32 warp = THREAD / LANES;
    const u32 generation = warp_generation[warp];
    if (++warp_waiting[warp] == LANES) {
        warp_waiting[warp] = 0;
        warp_generation[warp]++;
    }
    while (generation == warp_generation[warp]) {
        give_way();
    }
}

/* Two places in turn: no lane can be two exchanges ahead of another. */
static const u64 *exchanged(u64 value) {
    const u32 turn = fibers[running].turn ^= 1;
    exchange[turn][THREAD] = value;
    wait_for_warp();
    return &exchange[turn][THREAD / LANES * LANES];
}

static u64 shuffle_u64(u64 value, u32 lanes) { return exchanged(value)[(THREAD % LANES) ^ lanes]; }

static f64 shuffle_f64(f64 value, u32 lanes) {
    u64 bits;
    memcpy(&bits, &value, 8);
    bits = shuffle_u64(bits, lanes);
    memcpy(&value, &bits, 8);
    return value;
}

static u32 shuffle_u32(u32 value, u32 lanes) { return (u32)shuffle_u64(value, lanes); }

static u64 u64_of_lane(u64 value, u32 lane) { return exchanged(value)[lane]; }

static f64 f64_of_lane(f64 value, u32 lane) {
    u64 bits;
    memcpy(&bits, &value, 8);
    bits = u64_of_lane(bits, lane);
    memcpy(&value, &bits, 8);
    return value;
}

static f32 f32_of_lane(f32 value, u32 lane) { return (f32)f64_of_lane(value, lane); }

static u32 warp_ballot(u32 flag) {
    const u64 *of_warp = exchanged(flag != 0);
    u32 all = 0;
    for (u32 lane = 0; lane < LANES; lane++) {
        all |= (u32)of_warp[lane] << lane;
    }
    return all;
}

static u32 count_bits(u32 bits) { return (u32)__builtin_popcount(bits); }
static u32 highest_bit(u32 bits) { return 31u - (u32)__builtin_clz(bits); }

typedef struct {
    u32 word[4];
} Words;

static Words load_words(const void *address) {
    if ((uintptr_t)address % 16 != 0) {
        abort(); /* as a GPU would */
    }
    Words words;
    memcpy(&words, address, 16);
    return words;
}

static f32 f32_of_bits(u32 bits) {
    f32 value;
    memcpy(&value, &bits, 4);
    return value;
}

static u32 bits_of_f32(f32 value) {
    u32 bits;
    memcpy(&bits, &value, 4);
    return bits;
}

static f32 f32_of_f16(u32 bits) {
    const u32 exponent = bits >> 10 & 31, mantissa = bits & 1023;
    f32 magnitude = exponent == 31 ? (mantissa ? NAN : INFINITY)
                    : exponent     ? ldexpf((f32)(1024 + mantissa), (int)exponent - 25)
                                   : ldexpf((f32)mantissa, -24);
    return bits >> 15 & 1 ? -magnitude : magnitude;
}

static void count_one(u32 *counter) { *counter += 1; }
static u32 take_number(u32 *counter) { return (*counter)++; }
static void add_count(u64 *counter, u64 amount) { *counter += amount; }
static void atomic_min(u32 *smallest, u32 value) { *smallest = value < *smallest ? value : *smallest; }

static u32 smaller_halves(u32 a, u32 b) {
    const u32 low = (a & 0xffff) < (b & 0xffff) ? a & 0xffff : b & 0xffff;
    const u32 high = a >> 16 < b >> 16 ? a >> 16 : b >> 16;
    return high << 16 | low;
}

static u32 larger_halves(u32 a, u32 b) {
    const u32 low = (a & 0xffff) > (b & 0xffff) ? a & 0xffff : b & 0xffff;
    const u32 high = a >> 16 > b >> 16 ? a >> 16 : b >> 16;
    return high << 16 | low;
}

static f32 fused_f32(f32 a, f32 b, f32 c) { return fmaf(a, b, c); }
static f32 smaller_f32(f32 a, f32 b) { return fminf(a, b); }
static f32 larger_f32(f32 a, f32 b) { return fmaxf(a, b); }

#if LMFACTS_DTYPE == 0
static u32 smaller_values(u32 a, u32 b) { return bits_of_f32(fminf(f32_of_bits(a), f32_of_bits(b))); }
static u32 larger_values(u32 a, u32 b) { return bits_of_f32(fmaxf(f32_of_bits(a), f32_of_bits(b))); }
#else
static f32 half_of(u32 word, u32 half) {
    const u32 bits = word >> 16 * half & 0xffff;
    return LMFACTS_DTYPE == 1 ? f32_of_bits(bits << 16) : f32_of_f16(bits);
}

/* The halves of b where they are chosen, or where a has NaN; else those of a. */
static u32 chosen_values(u32 a, u32 b, int (*is_chosen)(f32, f32)) {
    u32 word = 0;
    for (u32 half = 0; half < 2; half++) {
        const f32 of_a = half_of(a, half), of_b = half_of(b, half);
        const u32 from = isnan(of_a) || is_chosen(of_b, of_a) ? b : a;
        word |= from & 0xffffu << 16 * half;
    }
    return word;
}

static int is_less(f32 a, f32 b) { return a < b; }
static int is_greater(f32 a, f32 b) { return a > b; }
static u32 smaller_values(u32 a, u32 b) { return chosen_values(a, b, is_less); }
static u32 larger_values(u32 a, u32 b) { return chosen_values(a, b, is_greater); }
#endif

#include "kernels.h"

#define RUNS(name, type) \
    static void run_##name(const void *arguments) { name(*(const type *)arguments); }
EACH_KERNEL(RUNS) /* defined after the kernels, by who builds this */

static const struct {
    const char *name;
    void (*run)(const void *);
    uint64_t argument_bytes;
} known[] = {
#define KNOWN(name, type) {#name, run_##name, sizeof(type)},
    EACH_KERNEL(KNOWN)
};

static void start_fiber(void) {
    kernel_to_run(arguments_to_pass);
    fibers[running].is_done = 1;
    n_alive--;
    if (n_alive > 0 && n_waiting == n_alive) { /* as on a GPU, those that are done are not waited for */
        n_waiting = 0;
        block_generation++;
    }
    give_way();
}

static void run_block(void) {
    n_alive = n_threads;
    n_waiting = 0;
    memset(warp_waiting, 0, sizeof warp_waiting);
    for (u32 i = 0; i < n_threads; i++) {
        Fiber *fiber = &fibers[i];
        fiber->thread = i;
        fiber->is_started = fiber->is_done = fiber->turn = 0;
        getcontext(&fiber->context);
        fiber->context.uc_stack.ss_sp = stacks + (size_t)i * STACK_BYTES;
        fiber->context.uc_stack.ss_size = STACK_BYTES;
        fiber->context.uc_link = &start_of_scheduler;
        makecontext(&fiber->context, start_fiber, 0);
    }
    while (n_alive > 0) {
        for (running = 0; running < n_threads; running++) {
            Fiber *fiber = &fibers[running];
            if (fiber->is_done || _setjmp(scheduler) != 0) {
                continue;
            }
            if (fiber->is_started) {
                _longjmp(fiber->place, 1);
            }
            fiber->is_started = 1;
            swapcontext(&start_of_scheduler, &fiber->context);
        }
    }
}

/* 0 if all went well; 1 for a kernel that is not known, 2 for arguments of another size, 3 for a launch that a GPU would refuse. */
int lmfacts_launch(const char *name, const u32 grid[3], u32 threads, u32 shared_bytes, const void *arguments,
                   uint64_t argument_bytes) {
    for (size_t i = 0; i < sizeof known / sizeof *known; i++) {
        if (strcmp(known[i].name, name) != 0) {
            continue;
        }
        if (known[i].argument_bytes != argument_bytes) {
            return 2;
        }
        if (threads == 0 || threads > MOST_THREADS || threads % LANES || shared_bytes > sizeof shared_words
            || grid[0] == 0 || grid[1] == 0 || grid[2] == 0 || grid[1] > 65535 || grid[2] > 65535) {
            return 3;
        }
        if (stacks == NULL) {
            stacks = malloc((size_t)MOST_THREADS * STACK_BYTES);
        }
        kernel_to_run = known[i].run;
        arguments_to_pass = arguments;
        n_threads = threads;
        memcpy(n_blocks, grid, sizeof n_blocks);
        memset(shared_words, 0xa5, shared_bytes);
        for (block[2] = 0; block[2] < grid[2]; block[2]++) {
            for (block[1] = 0; block[1] < grid[1]; block[1]++) {
                for (block[0] = 0; block[0] < grid[0]; block[0]++) {
                    run_block();
                }
            }
        }
        return 0;
    }
    return 1;
}
