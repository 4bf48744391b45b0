// A coarse histogram of each dim of the tokens that are not the first: the bins of `dim_histograms.rs` in lmfacts-core.
//
// A block counts 32 dims of a part of the rows in shared memory; a warp takes a row, a lane one dim, and the counters of a dim
// lie in one bank, so that no two lanes of a warp wait for each other.

#define FIRST_QUARTER ((127 - 16) * 4)
#define BINS_OF_A_SIGN 128

INLINE u32 bin_of(f32 value) {
    const u32 bits = bits_of_f32(value);
    int of_sign = (int)((bits & 0x7fffffffu) >> 21) - FIRST_QUARTER;
    of_sign = of_sign < 0 ? 0 : of_sign >= BINS_OF_A_SIGN ? BINS_OF_A_SIGN - 1 : of_sign;
    return (u32)of_sign + (bits >> 31) * BINS_OF_A_SIGN;
}

KERNEL(256, 4) dim_histograms(ARGUMENTS(StatisticUpdate) s) {
    const Update *u = &s.call;
    u64 *bins = (u64 *)s.state; // [n_dims][N_DIM_BINS]
    SHARED u32 counters[N_DIM_BINS * 32];
    for (u32 slot = THREAD; slot < N_DIM_BINS * 32; slot += N_THREADS) {
        counters[slot] = 0;
    }
    wait_for_block();
    const u32 lane = THREAD % WARP, dim = BLOCK * WARP + lane;
    const u32 n = u->row_counts[REST];
    const u32 end = start_of_part(n, N_BLOCKS_Y, BLOCK_Y + 1);
    if (dim < u->n_dims) {
        for (u32 index = start_of_part(n, N_BLOCKS_Y, BLOCK_Y) + THREAD / WARP; index < end; index += N_THREADS / WARP) {
            const u32 bits = load_value(row_at(u, listed_row(u, REST, index)), dim);
            if (key_of(bits) < INFINITY_KEY) {
                count_one(&counters[bin_of(value_of(bits)) * WARP + lane]);
            }
        }
    }
    wait_for_block();
    for (u32 slot = THREAD; slot < N_DIM_BINS * 32; slot += N_THREADS) {
        const u32 of_dim = BLOCK * WARP + slot % WARP;
        if (counters[slot] > 0 && of_dim < u->n_dims) {
            add_count(&bins[(u64)of_dim * N_DIM_BINS + slot / WARP], counters[slot]);
        }
    }
}
