// What the kernels use of CUDA, under names of their own. The kernels are written in the common part of C and CUDA C++ and
// include nothing, so that a host compiler can build them too, with another prelude under them (tests/gpu/emulator.c), and run
// them without a GPU.

typedef unsigned char u8;
typedef unsigned short u16;
typedef unsigned int u32;
typedef unsigned long long u64;
typedef long long i64;
typedef float f32;
typedef double f64;

#define KERNEL(n_threads, blocks_at_once) extern "C" __global__ void __launch_bounds__(n_threads, blocks_at_once)
// A kernel's arguments, whose address can be taken without a copy of them.
#define ARGUMENTS(type) const __grid_constant__ type
#define INLINE static __device__ __forceinline__
#define RARE static __device__ __noinline__
#define SHARED static __shared__
#define DYNAMIC_SHARED(name) extern __shared__ u32 name[]
#define UNROLL _Pragma("unroll")
// What is laid out as in Rust, from assertions that Rust appends. The function is how this front end spells a constant `offsetof`.
#define AS_IN_RUST(condition) static_assert(condition, "not as in Rust: " #condition)
#define OFFSET_OF(type, field) __INTADDR__(&((type *)0)->field)

#define THREAD threadIdx.x
#define N_THREADS blockDim.x
#define BLOCK blockIdx.x
#define BLOCK_Y blockIdx.y
#define BLOCK_Z blockIdx.z
#define N_BLOCKS gridDim.x
#define N_BLOCKS_Y gridDim.y

typedef struct {
    u32 word[4];
} Words;

INLINE Words load_words(const void *address) {
    const uint4 loaded = *(const uint4 *)address;
    Words words;
    words.word[0] = loaded.x;
    words.word[1] = loaded.y;
    words.word[2] = loaded.z;
    words.word[3] = loaded.w;
    return words;
}

INLINE f32 f32_of_bits(u32 bits) { return __uint_as_float(bits); }
INLINE u32 bits_of_f32(f32 value) { return __float_as_uint(value); }

INLINE f32 f32_of_f16(u32 bits) {
    f32 value;
    asm("cvt.f32.f16 %0, %1;" : "=f"(value) : "h"((u16)bits));
    return value;
}

INLINE void wait_for_block(void) { __syncthreads(); }
INLINE f64 shuffle_f64(f64 value, u32 lanes) { return __shfl_xor_sync(0xffffffffu, value, lanes); }
INLINE u64 shuffle_u64(u64 value, u32 lanes) { return __shfl_xor_sync(0xffffffffu, value, lanes); }
INLINE u32 shuffle_u32(u32 value, u32 lanes) { return __shfl_xor_sync(0xffffffffu, value, lanes); }
INLINE u64 u64_of_lane(u64 value, u32 lane) { return __shfl_sync(0xffffffffu, value, lane); }
INLINE f64 f64_of_lane(f64 value, u32 lane) { return __shfl_sync(0xffffffffu, value, lane); }
INLINE f32 f32_of_lane(f32 value, u32 lane) { return __shfl_sync(0xffffffffu, value, lane); }
INLINE u32 warp_ballot(u32 flag) { return __ballot_sync(0xffffffffu, (int)flag); }
INLINE u32 count_bits(u32 bits) { return (u32)__popc(bits); }
INLINE u32 highest_bit(u32 bits) { return 31u - (u32)__clz((int)bits); }

// The address is in shared memory, the amount constant, the result unused: what compiles to ATOMS.POPC.INC.
INLINE void count_one(u32 *counter) { atomicAdd(counter, 1u); }
INLINE u32 take_number(u32 *counter) { return atomicAdd(counter, 1u); }
INLINE void add_count(u64 *counter, u64 amount) { atomicAdd(counter, amount); }
INLINE void atomic_min(u32 *smallest, u32 value) { atomicMin(smallest, value); }

// Of both halves of a word at once.
INLINE u32 smaller_halves(u32 a, u32 b) { return __vminu2(a, b); }
INLINE u32 larger_halves(u32 a, u32 b) { return __vmaxu2(a, b); }

INLINE f32 fused_f32(f32 a, f32 b, f32 c) { return __fmaf_rn(a, b, c); } // a * b + c

// Of two numbers; of one and NaN, the number.
INLINE f32 smaller_f32(f32 a, f32 b) { return fminf(a, b); }
INLINE f32 larger_f32(f32 a, f32 b) { return fmaxf(a, b); }

// The same of values as their bits, of 16-bit ones of both halves of a word.
#if LMFACTS_DTYPE == 0
INLINE u32 smaller_values(u32 a, u32 b) { return bits_of_f32(fminf(f32_of_bits(a), f32_of_bits(b))); }
INLINE u32 larger_values(u32 a, u32 b) { return bits_of_f32(fmaxf(f32_of_bits(a), f32_of_bits(b))); }
#else
#if LMFACTS_DTYPE == 1
#define OF_VALUES "bf16x2"
#else
#define OF_VALUES "f16x2"
#endif
INLINE u32 smaller_values(u32 a, u32 b) {
    u32 smaller;
    asm("min." OF_VALUES " %0, %1, %2;" : "=r"(smaller) : "r"(a), "r"(b));
    return smaller;
}
INLINE u32 larger_values(u32 a, u32 b) {
    u32 larger;
    asm("max." OF_VALUES " %0, %1, %2;" : "=r"(larger) : "r"(a), "r"(b));
    return larger;
}
#endif
