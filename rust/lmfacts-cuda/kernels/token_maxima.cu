// The sum over finite tokens of the square of the largest magnitude: a block for each population.

KERNEL(256, 4) token_maxima(ARGUMENTS(StatisticUpdate) s) {
    SHARED f64 sums[256 / 32];
    const Update *u = &s.call;
    const u32 n_listed = u->row_counts[BLOCK], start = BLOCK == FIRST ? 0 : u->row_counts[FIRST];
    f64 squares = 0.0;
    for (u32 index = THREAD; index < n_listed; index += N_THREADS) {
        const f64 norm = u->quantities[start + index]; // NaN where the row is not finite
        const u64 largest = u->row_maxima[listed_row(u, BLOCK, index)] >> 32;
        if (norm == norm && largest > 0) {
            const f64 value = (f64)value_of((u32)largest - 1);
            squares += value * value;
        }
    }
    squares = sum_of_block(squares, sums);
    if (THREAD == 0) {
        ((f64 *)s.state)[BLOCK] += squares;
    }
}
