// Values and the largest of their block of 16 or 32: the statistic of `value_blocks.rs` in lmfacts-core.
//
// A warp takes 32 neighbouring values of a row, a lane one of them, so that a block of values lies within it. The largest of blocks
// are mostly of a few octaves: counts of three octaves around the first ones seen are kept in shared memory, others go straight
// to the state.

#define N_LARGEST 640
#define N_BLOCK_COLUMNS 233
#define FINE_OCTAVES 5
#define COARSE_OCTAVES 16
#define COLUMN_COARSE (FINE_OCTAVES * 32)
#define COLUMN_SMALLER (COLUMN_COARSE + COARSE_OCTAVES * 4)
#define COLUMN_ITSELF (COLUMN_SMALLER + 1)
#define FIRST_EXPONENT (127 - 20)
#define WINDOW_ROWS 48

// The upper half of a magnitude as a float32.
INLINE u32 upper_half(u32 bits) { return bits_of_f32(value_of(bits)) >> 16 & 0x7fffu; }

// The row of the table for a largest magnitude, whose upper half is given.
INLINE u32 table_row(u32 of_largest) {
    const int octave = (int)(of_largest >> 7) - FIRST_EXPONENT;
    return octave < 0 ? 0 : octave >= N_LARGEST / 16 ? N_LARGEST - 1 : (u32)octave * 16 + (of_largest >> 3 & 15u);
}

// The column for a value that is not the largest itself.
INLINE u32 table_column(u32 of_largest, u32 of_value) {
    const u32 octaves_below = (of_largest >> 7) - (of_value >> 7);
    if (octaves_below < FINE_OCTAVES) {
        return octaves_below * 32 + (of_value >> 2 & 31u);
    }
    if (octaves_below < FINE_OCTAVES + COARSE_OCTAVES) {
        return COLUMN_COARSE + (octaves_below - FINE_OCTAVES) * 4 + (of_value >> 5 & 3u);
    }
    return COLUMN_SMALLER;
}

INLINE u32 largest_of_block(u32 key, u32 size) {
    for (u32 lanes = size / 2; lanes > 0; lanes /= 2) {
        const u32 other = shuffle_u32(key, lanes);
        key = other > key ? other : key;
    }
    return key;
}

INLINE void count_blocks(const StatisticUpdate *s, u32 size) {
    const Update *u = &s->call;
    SHARED u32 window[WINDOW_ROWS * N_BLOCK_COLUMNS];
    SHARED u32 first_row; // of the table, in the window
    const u32 lane = THREAD % WARP, dim = BLOCK * WARP + lane, is_value = dim < u->n_dims;
    // The lanes of this one's block before it.
    const u32 before = ((1u << lane) - 1) & ~((1u << (lane & ~(size - 1))) - 1);
    for (u32 slot = THREAD; slot < WINDOW_ROWS * N_BLOCK_COLUMNS; slot += N_THREADS) {
        window[slot] = 0;
    }
    const u32 start_of_rest = start_of_part(u->row_counts[REST], N_BLOCKS_Y, BLOCK_Y);
    if (THREAD < WARP && start_of_rest < u->row_counts[REST]) {
        const u32 bits = is_value ? load_value(row_at(u, listed_row(u, REST, start_of_rest)), dim) : 0;
        const u32 row = table_row(upper_half(largest_of_block(key_of(bits), size)));
        if (lane == 0) {
            first_row = row < WINDOW_ROWS / 2 ? 0 : row - WINDOW_ROWS / 2;
        }
    }
    wait_for_block();
    for (u32 population = FIRST; population <= REST; population++) {
        u64 *counts = (u64 *)s->state + (u64)population * N_LARGEST * N_BLOCK_COLUMNS;
        const u32 n = u->row_counts[population], end = start_of_part(n, N_BLOCKS_Y, BLOCK_Y + 1);
        for (u32 first = start_of_part(n, N_BLOCKS_Y, BLOCK_Y) + THREAD / WARP * WARP; first < end; first += N_THREADS) {
            const u32 n_rows = end - first < WARP ? end - first : WARP;
            const u64 address = (u64)row_at(u, listed_row(u, population, first + (lane < n_rows ? lane : 0)));
            for (u32 i = 0; i < n_rows; i++) {
                const u8 *values = (const u8 *)u64_of_lane(address, i);
                const u32 bits = is_value ? load_value(values, dim) : 0, key = key_of(bits);
                const u32 largest = largest_of_block(key, size);
                // Of equal magnitudes the first is the largest.
                const u32 as_large = warp_ballot(key == largest);
                const u32 is_largest = key == largest && (as_large & before) == 0;
                if (!is_value || largest == 0 || largest >= INFINITY_KEY) {
                    continue;
                }
                const u32 of_largest = upper_half(largest), row = table_row(of_largest);
                const u32 column = is_largest ? COLUMN_ITSELF + (of_largest & 7u) : table_column(of_largest, upper_half(bits));
                if (population == REST && row - first_row < WINDOW_ROWS) {
                    count_one(&window[(row - first_row) * N_BLOCK_COLUMNS + column]);
                } else {
                    add_count(&counts[row * N_BLOCK_COLUMNS + column], 1);
                }
            }
        }
    }
    wait_for_block();
    u64 *counts = (u64 *)s->state + (u64)N_LARGEST * N_BLOCK_COLUMNS; // of the rest
    for (u32 slot = THREAD; slot < WINDOW_ROWS * N_BLOCK_COLUMNS; slot += N_THREADS) {
        if (window[slot] > 0) {
            add_count(&counts[first_row * N_BLOCK_COLUMNS + slot], window[slot]);
        }
    }
}

KERNEL(256, 4) blocks_of_16(ARGUMENTS(StatisticUpdate) s) { count_blocks(&s, 16); }
