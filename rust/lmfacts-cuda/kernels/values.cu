// Values as bits: how they widen, how their magnitudes are ordered, and what their 16-bit code is, as `Element` in lmfacts-core
// has it.
//
// LMFACTS_DTYPE says which type this compilation is for; LMFACTS_SLOTS and LMFACTS_FIRST_KEY, which keys have a counter in shared
// memory.

#define LMFACTS_F32 0
#define LMFACTS_BF16 1
#define LMFACTS_F16 2

#if LMFACTS_DTYPE == LMFACTS_F32
#define VALUE_BYTES 4
#define INFINITY_KEY 0x7f800000u
#define MAGNITUDE 0x7fffffffu
#else
#define VALUE_BYTES 2
#define MAGNITUDE 0x7fffu
#if LMFACTS_DTYPE == LMFACTS_BF16
#define INFINITY_KEY 0x7f80u
#else
#define INFINITY_KEY 0x7c00u
#endif
#endif

// Values in 16 bytes.
#define PER_WORDS (16 / VALUE_BYTES)

#define N_CODES 65536
#define FIRST 0
#define REST 1
#define N_SEQUENCE_BLOCKS 8
#define N_MAXIMA 64
#define N_DIM_BINS 256
// The whole population, then the blocks of sequences.
#define N_TOKEN_GROUPS (1 + N_SEQUENCE_BLOCKS)
#define N_TOKEN_QUANTITIES 3

#define WARP 32u
#define LARGEST_F32 3.4028234663852886e38f
#define LARGEST_F64 1.7976931348623157e308
#define ALL_INDICES 0xffffffffu

typedef struct {
    f64 n, mean, mean_lo, m2, m3, m4, min, max;
} Moments;

typedef struct {
    u32 key; // of the magnitude, for comparing
    u32 bits; // of the value as a float32, sign included
    i64 sequence, position, dim, token_id;
} Outlier;

// One call of a site: the tensor, its tokens, the site's state and scratch memory. Assertions behind it compare it with `site.rs`.
typedef struct {
    const u8 *values;
    i64 outer_stride, inner_stride; // between groups of rows, and between the rows of a group; in values
    u32 n_rows, inner_rows, n_dims;
    u32 aligned; // whether every row can be read 16 bytes at a time

    const i64 *sequence, *position, *token_id; // of each row
    const u32 *row_lists; // rows of the first tokens, ascending, then n_rows further on those of the others
    const u32 *row_counts; // how many there are of either

    u64 *codes; // [1 + 1 or 8][N_CODES]: first, then rest or its blocks of sequences
    u64 *norm_codes; // [2][N_CODES]
    Moments *dim_moments; // [2][n_dims]
    u64 *dim_counts; // [2][2][n_dims]: not finite, at least the threshold
    f64 *unit_sums; // [2][2][n_dims]: unit vectors, their squares; null if not asked for
    Moments *token_moments; // [2][N_TOKEN_GROUPS][N_TOKEN_QUANTITIES]
    u64 *n_tokens; // [2][N_TOKEN_GROUPS]
    u64 *n_calls;
    Outlier *outliers; // [2][k], in order
    u32 *n_outliers; // [2]
    Outlier *maxima; // [2][N_MAXIMA]: the largest of each of the first sequences; null if not asked for
    u32 *has_maximum; // [2][N_MAXIMA]

    f64 *quantities; // [N_TOKEN_QUANTITIES][n_rows]: of the listed rows, first and then rest; NaN where the row is not finite
    u32 *blocks; // [n_rows]: of the sequences of the listed rows
    f64 *row_inverses; // [n_rows]: 1 / norm; 0 where that is no number
    u64 *row_maxima; // [n_rows]: key + 1 and ~dim of the largest finite magnitude, 0 if there is none
    f64 *partials; // [2][n_splits][N_PARTIALS][n_dims]
    u64 *candidates; // [2][n_candidate_slots]: key and ~index
    u32 *n_candidates; // [2]; more than n_candidate_slots: they must be collected
    Outlier *contenders; // [2][2 k]

    u32 k, n_splits, n_candidate_slots, n_collectors;
    u32 by_block; // whether codes of the rest are kept by blocks of sequences
    f32 threshold; // the smallest float32 that reaches the threshold
} Update;

// The same call for the kernels of one statistic, with its own part of the state and of the scratch memory.
typedef struct {
    Update call;
    void *state;
    void *scratch;
} StatisticUpdate;

INLINE f32 value_of(u32 bits) {
#if LMFACTS_DTYPE == LMFACTS_F32
    return f32_of_bits(bits);
#elif LMFACTS_DTYPE == LMFACTS_BF16
    return f32_of_bits(bits << 16);
#else
    return f32_of_f16(bits);
#endif
}

INLINE u32 key_of(u32 bits) { return bits & MAGNITUDE; }

// Of any value: a NaN never gets the code of infinity.
INLINE u32 code_of(u32 bits) {
#if LMFACTS_DTYPE == LMFACTS_F32
    return (bits & MAGNITUDE) > INFINITY_KEY ? (0x7fc0u | ((bits >> 31) << 15)) : bits >> 16;
#else
    return bits;
#endif
}

// The code that a float64 has: that of the float32 next to it toward zero.
INLINE u32 code_of_f64(f64 value) {
    const f32 rounded = (f32)value;
    const f64 magnitude = value < 0.0 ? -value : value;
    const f64 of_rounded = rounded < 0.0f ? -(f64)rounded : (f64)rounded;
    return (bits_of_f32(rounded) - (of_rounded > magnitude ? 1u : 0u)) >> 16;
}

INLINE const u8 *row_at(const Update *u, u32 row) {
    i64 offset;
    if (u->inner_rows == u->n_rows) {
        offset = (i64)row * u->inner_stride;
    } else {
        offset = (i64)(row / u->inner_rows) * u->outer_stride + (i64)(row % u->inner_rows) * u->inner_stride;
    }
    return u->values + offset * VALUE_BYTES;
}

INLINE u32 load_value(const u8 *row, u32 dim) {
#if VALUE_BYTES == 4
    return ((const u32 *)row)[dim];
#else
    return ((const u16 *)row)[dim];
#endif
}

INLINE u32 value_in(const Words *words, u32 index) {
#if VALUE_BYTES == 4
    return words->word[index];
#else
    return index & 1 ? words->word[index / 2] >> 16 : words->word[index / 2] & 0xffffu;
#endif
}

INLINE u32 listed_row(const Update *u, u32 population, u32 index) { return u->row_lists[population * u->n_rows + index]; }

INLINE u32 block_of(i64 sequence) { return (u32)(sequence & (N_SEQUENCE_BLOCKS - 1)); }

// Part `index` of `n` things that are divided into `n_parts` parts of nearly the same size: where it starts.
INLINE u32 start_of_part(u32 n, u32 n_parts, u32 index) { return (u32)((u64)n * index / n_parts); }
