// The sum over finite tokens of the square of the largest magnitude: a block for each population.

KERNEL(256, 4) token_maxima(ARGUMENTS(StatisticUpdate) s) {
    SHARED f64 sums[256 / 32];
    const Update *u = &s.call;
    const u32 n_listed = u->row_counts[BLOCK], start = BLOCK == FIRST ? 0 : u->row_counts[FIRST];
    f64 squares = 0.0;
    for (u32 first = THREAD; first < n_listed; first += N_THREADS * TOKENS_IN_FLIGHT) {
        u32 rows[TOKENS_IN_FLIGHT];
        f64 norms[TOKENS_IN_FLIGHT]; // NaN where the row is not finite, or behind the end
        u64 largest[TOKENS_IN_FLIGHT];
        UNROLL for (u32 i = 0; i < TOKENS_IN_FLIGHT; i++) {
            const u32 index = first + i * N_THREADS;
            rows[i] = listed_row(u, BLOCK, index < n_listed ? index : n_listed - 1);
            norms[i] = index < n_listed ? u->quantities[start + index] : sqrt(-1.0);
        }
        UNROLL for (u32 i = 0; i < TOKENS_IN_FLIGHT; i++) {
            largest[i] = u->row_maxima[rows[i]] >> 32;
        }
        UNROLL for (u32 i = 0; i < TOKENS_IN_FLIGHT; i++) {
            if (norms[i] == norms[i] && largest[i] > 0) {
                const f64 value = (f64)value_of((u32)largest[i] - 1);
                squares += value * value;
            }
        }
    }
    squares = sum_of_block(squares, sums);
    if (THREAD == 0) {
        ((f64 *)s.state)[BLOCK] += squares;
    }
}
