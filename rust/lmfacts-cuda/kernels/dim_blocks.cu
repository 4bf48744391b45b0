// Sums of each dim by blocks of sequences: the statistic of `dim_blocks.rs` in lmfacts-core.
//
// A block of threads has 32 dims of a part of the rows, each lane one dim. It goes through the rows once for each block of sequences that
// they may be of, and of 32 rows at a time takes those that are; the values are read once. The sums of the parts are joined in order,
// so that no result depends on which block was faster.

#define SUMS_WARPS (256 / 32)
#define N_DIM_SUMS 3
// Rows whose values a thread has in flight.
#define SUMS_IN_FLIGHT 4

typedef struct {
    u64 n_parts, unused;
} DimBlocksHead;

KERNEL(256, 4) dim_blocks(ARGUMENTS(StatisticUpdate) s) {
    const Update *u = &s.call;
    SHARED f64 sums[SUMS_WARPS][N_DIM_SUMS][32];
    const u32 lane = THREAD % WARP, warp = THREAD / WARP, dim = BLOCK * WARP + lane;
    const u32 n_first = u->row_counts[FIRST], n = u->row_counts[REST];
    const u32 start = start_of_part(n, N_BLOCKS_Y, BLOCK_Y), end = start_of_part(n, N_BLOCKS_Y, BLOCK_Y + 1);
    f64 *of_part = (f64 *)((DimBlocksHead *)s.scratch + 1) + (u64)BLOCK_Y * N_SEQUENCE_BLOCKS * N_DIM_SUMS * u->n_dims;
    if (BLOCK == 0 && BLOCK_Y == 0 && THREAD == 0) {
        ((DimBlocksHead *)s.scratch)->n_parts = N_BLOCKS_Y;
    }
    for (u32 block = 0; block < N_SEQUENCE_BLOCKS; block++) {
        f64 sum = 0.0, square = 0.0, unit = 0.0;
        for (u32 first = start + warp * WARP; first < end; first += SUMS_WARPS * WARP) {
            const u32 index = first + lane < end ? first + lane : end - 1;
            const u32 row = listed_row(u, REST, index);
            const f64 inverse = u->row_inverses[row], norm = u->quantities[n_first + index];
            // A row that is not finite has no norm.
            u32 here = warp_ballot(first + lane < end && u->blocks[n_first + index] == block && norm == norm);
            while (here != 0) {
                f64 x[SUMS_IN_FLIGHT], inverses[SUMS_IN_FLIGHT];
                UNROLL for (u32 i = 0; i < SUMS_IN_FLIGHT; i++) {
                    const u32 taken = here != 0 ? highest_bit(here) : 0, is_row = here != 0;
                    here &= ~(1u << taken);
                    const u32 taken_row = (u32)u64_of_lane(row, taken);
                    inverses[i] = f64_of_lane(inverse, taken);
                    x[i] = is_row && dim < u->n_dims ? (f64)value_of(load_value(row_at(u, taken_row), dim)) : 0.0;
                }
                UNROLL for (u32 i = 0; i < SUMS_IN_FLIGHT; i++) {
                    sum += x[i];
                    square += x[i] * x[i];
                    unit += x[i] * inverses[i];
                }
            }
        }
        sums[warp][0][lane] = sum;
        sums[warp][1][lane] = square;
        sums[warp][2][lane] = unit;
        wait_for_block();
        if (warp < N_DIM_SUMS && dim < u->n_dims) {
            f64 total = 0.0;
            UNROLL for (u32 other = 0; other < SUMS_WARPS; other++) {
                total += sums[other][warp][lane];
            }
            of_part[(u64)(block * N_DIM_SUMS + warp) * u->n_dims + dim] = total;
        }
        wait_for_block();
    }
}

// Adds the sums of the parts to those of the state, and counts the tokens.
KERNEL(256, 4) join_dim_blocks(ARGUMENTS(StatisticUpdate) s) {
    const Update *u = &s.call;
    SHARED u32 n_tokens[2 * N_SEQUENCE_BLOCKS]; // finite ones of each block, then those with a direction
    const u32 n_first = u->row_counts[FIRST], n = u->row_counts[REST], n_sums = N_SEQUENCE_BLOCKS * N_DIM_SUMS;
    const u32 n_parts = (u32)((const DimBlocksHead *)s.scratch)->n_parts;
    const f64 *parts = (const f64 *)((const DimBlocksHead *)s.scratch + 1);
    f64 *state = (f64 *)s.state;
    if (BLOCK_Y != REST) {
        return;
    }
    for (u32 slot = THREAD; slot < n_sums * WARP; slot += N_THREADS) {
        const u32 of = slot / WARP, dim = BLOCK * WARP + slot % WARP;
        if (dim < u->n_dims) {
            f64 total = 0.0;
            for (u32 part = 0; part < n_parts; part++) {
                total += parts[((u64)part * n_sums + of) * u->n_dims + dim];
            }
            state[(u64)of * u->n_dims + dim] += total;
        }
    }
    if (BLOCK > 0) {
        return;
    }
    if (THREAD < 2 * N_SEQUENCE_BLOCKS) {
        n_tokens[THREAD] = 0;
    }
    wait_for_block();
    for (u32 index = THREAD; index < n; index += N_THREADS) {
        const f64 norm = u->quantities[n_first + index];
        const u32 block = u->blocks[n_first + index];
        if (norm == norm) {
            count_one(&n_tokens[block]);
            if (u->row_inverses[listed_row(u, REST, index)] > 0.0) {
                count_one(&n_tokens[N_SEQUENCE_BLOCKS + block]);
            }
        }
    }
    wait_for_block();
    if (THREAD < 2 * N_SEQUENCE_BLOCKS) {
        ((u64 *)(state + (u64)n_sums * u->n_dims))[THREAD] += n_tokens[THREAD];
    }
}
