// Values and the largest of their block of 16 or 32: the statistic of `value_blocks.rs` in lmfacts-core.
//
// A warp takes 32 neighbouring values of a row, a lane one of them, so that a block of values lies within it.

#define N_LARGEST 640
#define N_BLOCK_COLUMNS 233
#define FINE_OCTAVES 5
#define COARSE_OCTAVES 16
#define COLUMN_COARSE (FINE_OCTAVES * 32)
#define COLUMN_SMALLER (COLUMN_COARSE + COARSE_OCTAVES * 4)
#define COLUMN_ITSELF (COLUMN_SMALLER + 1)
#define FIRST_EXPONENT (127 - 20)

// The upper half of a magnitude as a float32.
INLINE u32 upper_half(u32 bits) { return bits_of_f32(value_of(bits)) >> 16 & 0x7fffu; }

INLINE void count_blocks(const StatisticUpdate *s, u32 size) {
    const Update *u = &s->call;
    const u32 lane = THREAD % WARP, dim = BLOCK * WARP + lane;
    for (u32 population = FIRST; population <= REST; population++) {
        u64 *counts = (u64 *)s->state + (u64)population * N_LARGEST * N_BLOCK_COLUMNS;
        const u32 n = u->row_counts[population], end = start_of_part(n, N_BLOCKS_Y, BLOCK_Y + 1);
        for (u32 index = start_of_part(n, N_BLOCKS_Y, BLOCK_Y) + THREAD / WARP; index < end; index += N_THREADS / WARP) {
            const u32 is_value = dim < u->n_dims;
            const u32 bits = is_value ? load_value(row_at(u, listed_row(u, population, index)), dim) : 0;
            // Equal magnitudes: the first lane has the larger complement.
            const u64 own = (u64)key_of(bits) << 32 | (ALL_INDICES - lane);
            u64 largest = own;
            for (u32 lanes = size / 2; lanes > 0; lanes /= 2) {
                const u64 other = shuffle_u64(largest, lanes);
                largest = other > largest ? other : largest;
            }
            const u32 key = (u32)(largest >> 32);
            if (!is_value || key == 0 || key >= INFINITY_KEY) {
                continue;
            }
            const u32 of_largest = upper_half(key), of_value = upper_half(bits);
            const int octave = (int)(of_largest >> 7) - FIRST_EXPONENT;
            const u32 row = octave < 0 ? 0 : octave >= N_LARGEST / 16 ? N_LARGEST - 1 : (u32)octave * 16 + (of_largest >> 3 & 15u);
            const u32 octaves_below = (of_largest >> 7) - (of_value >> 7);
            u32 column = COLUMN_SMALLER;
            if (octaves_below < FINE_OCTAVES) {
                column = octaves_below * 32 + (of_value >> 2 & 31u);
            } else if (octaves_below < FINE_OCTAVES + COARSE_OCTAVES) {
                column = COLUMN_COARSE + (octaves_below - FINE_OCTAVES) * 4 + (of_value >> 5 & 3u);
            }
            column = own == largest ? COLUMN_ITSELF + (of_largest & 7u) : column;
            add_count(&counts[row * N_BLOCK_COLUMNS + column], 1);
        }
    }
}

KERNEL(256, 4) blocks_of_16(ARGUMENTS(StatisticUpdate) s) { count_blocks(&s, 16); }
