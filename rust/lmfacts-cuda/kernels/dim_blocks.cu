// Sums of each dim by blocks of sequences: the statistic of `dim_blocks.rs` in lmfacts-core.
//
// A block of threads has 32 dims of a part of the rows, each lane one dim. A warp takes 32 rows at a time, lane by lane those that
// are of one block of sequences, and has the sums of that block in registers until it comes to another, which is seldom: rows
// that follow one another are mostly of one sequence. The sums of warps and of parts are joined in order, so that no result depends on
// which was faster.

#define SUMS_WARPS (256 / 32)
#define N_DIM_SUMS 3
// Rows whose values a thread has in flight.
#define SUMS_IN_FLIGHT 4
// Of each block of sequences, how many rows are finite, then how many of them have a direction.
#define N_ROW_COUNTS (2 * N_SEQUENCE_BLOCKS)

// The scratch memory: this, the counts of each part of the rows, the sums of each part.
typedef struct {
    u64 n_parts, unused;
} DimBlocksHead;

typedef struct {
    u32 of_warp[SUMS_WARPS][N_ROW_COUNTS];
} PartCounts;

INLINE PartCounts *part_counts(const StatisticUpdate *s) { return (PartCounts *)((DimBlocksHead *)s->scratch + 1); }

INLINE f64 *part_sums(const StatisticUpdate *s, u32 n_parts, u32 part) {
    return (f64 *)(part_counts(s) + n_parts) + (u64)part * N_SEQUENCE_BLOCKS * N_DIM_SUMS * s->call.n_dims;
}

KERNEL(256, 4) dim_blocks(ARGUMENTS(StatisticUpdate) s) {
    const Update *u = &s.call;
    SHARED f64 sums[N_SEQUENCE_BLOCKS][N_DIM_SUMS][SUMS_WARPS][32];
    const u32 lane = THREAD % WARP, warp = THREAD / WARP, dim = BLOCK * WARP + lane, is_dim = dim < u->n_dims;
    const u32 n_first = u->row_counts[FIRST], n = u->row_counts[REST];
    const u32 start = start_of_part(n, N_BLOCKS_Y, BLOCK_Y), end = start_of_part(n, N_BLOCKS_Y, BLOCK_Y + 1);
    for (u32 slot = 0; slot < N_SEQUENCE_BLOCKS * N_DIM_SUMS; slot++) {
        sums[slot / N_DIM_SUMS][slot % N_DIM_SUMS][warp][lane] = 0.0;
    }
    f64 sum = 0.0, square = 0.0, unit = 0.0;
    u32 current = 0, count = 0; // a lane has one of the counts
    for (u32 first = start + warp * WARP; first < end; first += SUMS_WARPS * WARP) {
        const u32 index = first + lane < end ? first + lane : end - 1;
        const u32 row = listed_row(u, REST, index), of_row = u->blocks[n_first + index];
        const u64 address = (u64)row_at(u, row);
        const f64 inverse = u->row_inverses[row], norm = u->quantities[n_first + index];
        // A row that is not finite has no norm.
        u32 left = warp_ballot(first + lane < end && norm == norm);
        while (left != 0) {
            const u32 next = (u32)u64_of_lane(of_row, highest_bit(left));
            if (next != current) {
                sums[current][0][warp][lane] += sum;
                sums[current][1][warp][lane] += square;
                sums[current][2][warp][lane] += unit;
                sum = square = unit = 0.0;
                current = next;
            }
            u32 here = left & warp_ballot(of_row == current);
            left &= ~here;
            const u32 directed = here & warp_ballot(inverse > 0.0);
            count += lane == current ? count_bits(here) : lane == N_SEQUENCE_BLOCKS + current ? count_bits(directed) : 0;
            while (here != 0) {
                f64 x[SUMS_IN_FLIGHT], inverses[SUMS_IN_FLIGHT];
                UNROLL for (u32 i = 0; i < SUMS_IN_FLIGHT; i++) {
                    const u32 is_row = here != 0, taken = is_row ? highest_bit(here) : 0;
                    here &= ~(1u << taken);
                    const u8 *values = (const u8 *)u64_of_lane(address, taken);
                    inverses[i] = f64_of_lane(inverse, taken);
                    x[i] = is_row && is_dim ? (f64)value_of(load_value(values, dim)) : 0.0;
                }
                UNROLL for (u32 i = 0; i < SUMS_IN_FLIGHT; i++) {
                    sum += x[i];
                    square += x[i] * x[i];
                    unit += x[i] * inverses[i];
                }
            }
        }
    }
    sums[current][0][warp][lane] += sum;
    sums[current][1][warp][lane] += square;
    sums[current][2][warp][lane] += unit;
    if (BLOCK == 0 && lane < N_ROW_COUNTS) {
        part_counts(&s)[BLOCK_Y].of_warp[warp][lane] = count;
    }
    if (BLOCK == 0 && BLOCK_Y == 0 && THREAD == 0) {
        ((DimBlocksHead *)s.scratch)->n_parts = N_BLOCKS_Y;
    }
    wait_for_block();
    f64 *of_part = part_sums(&s, N_BLOCKS_Y, BLOCK_Y);
    for (u32 slot = warp; is_dim && slot < N_SEQUENCE_BLOCKS * N_DIM_SUMS; slot += SUMS_WARPS) {
        f64 total = 0.0;
        UNROLL for (u32 other = 0; other < SUMS_WARPS; other++) {
            total += sums[slot / N_DIM_SUMS][slot % N_DIM_SUMS][other][lane];
        }
        of_part[(u64)slot * u->n_dims + dim] = total;
    }
}

// Adds the sums and the counts of the parts to those of the state.
KERNEL(256, 4) join_dim_blocks(ARGUMENTS(StatisticUpdate) s) {
    const Update *u = &s.call;
    const u32 n_sums = N_SEQUENCE_BLOCKS * N_DIM_SUMS, n_parts = (u32)((const DimBlocksHead *)s.scratch)->n_parts;
    f64 *state = (f64 *)s.state;
    if (BLOCK_Y != REST) {
        return;
    }
    for (u32 slot = THREAD; slot < n_sums * WARP; slot += N_THREADS) {
        const u32 of = slot / WARP, dim = BLOCK * WARP + slot % WARP;
        if (dim < u->n_dims) {
            f64 total = 0.0;
            for (u32 part = 0; part < n_parts; part++) {
                total += part_sums(&s, n_parts, part)[(u64)of * u->n_dims + dim];
            }
            state[(u64)of * u->n_dims + dim] += total;
        }
    }
    if (BLOCK == 0 && THREAD < N_ROW_COUNTS) {
        u64 total = 0;
        for (u32 part = 0; part < n_parts; part++) {
            UNROLL for (u32 warp = 0; warp < SUMS_WARPS; warp++) {
                total += part_counts(&s)[part].of_warp[warp][THREAD];
            }
        }
        ((u64 *)(state + (u64)n_sums * u->n_dims))[THREAD] += total;
    }
}
