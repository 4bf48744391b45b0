// Moments of every dim, of a part of the rows, as sums about a pivot.
//
// A block has a group of dims and a part of the rows of a population; a warp of it every fourth of those rows, 32 at a time. The
// pivot of a dim is the mean of every PIVOT_STEP-th row of each warp: it lies within about sqrt(PIVOT_STEP) standard deviations
// of the mean of all of the block's rows, whatever the data, so that turning sums about it into central moments cancels two
// digits at most.
//
// For float32 all sums are in float64. For 16-bit values the sums over 32 rows are in float32, about the pivot and scaled by a
// power of two to the spread of the sampled rows, then added in float64. An addition of them rounds by 2^-24 of the sum so far,
// so that 32 rows give a sum of even powers an error of at most 32 x 2^-24, 2e-6 of itself, and in practice a tenth of that. The
// third sum has that error relative to the sum of |y|^3. Where 32 rows hold what is not finite, or what a float32 cannot hold the
// fourth power of, they are summed again in float64.

#define DIMS_THREADS 128
#define DIMS_WARPS (DIMS_THREADS / 32)
#define PIVOT_STEP 8
#define ROWS_AT_A_TIME 32

#if LMFACTS_DTYPE == LMFACTS_F32
typedef f64 Part;
#define ROWS_IN_FLIGHT 4
#else
typedef f32 Part;
#define ROWS_IN_FLIGHT 8
#endif

// Below this sum of scaled squares, fourth powers may be lost to a float32.
#define SMALLEST_SQUARES 8.673617379884035e-19f

enum { P_N, P_PIVOT, P_T1, P_T2, P_T3, P_T4, P_MIN, P_MAX, P_REACHED, P_NOT_FINITE, P_UNIT, P_UNIT_SQUARE, N_PARTIALS };
// What a thread sums, in shared memory; the partials from P_T1 on.
#define N_TOTALS (N_PARTIALS - P_T1)

typedef struct {
    u32 bits[4];
} Columns;

// The sums of 32 rows of a thread's columns.
typedef struct {
    Part t1[4], t2[4], t3[4], t4[4], unit[4], unit_square[4];
    f32 min[4], max[4];
    u32 n_reached[4];
} Sums;

typedef struct {
    f32 pivot[4], scale[4];
} Pivots;

INLINE Columns load_columns(const u8 *row, u32 dim, const u32 n_columns) {
    Columns columns = {{0, 0, 0, 0}};
    if (n_columns == 1) {
        columns.bits[0] = load_value(row, dim);
    } else {
#if VALUE_BYTES == 4
        const Words words = load_words(row + 4 * (u64)dim);
        UNROLL for (u32 c = 0; c < 4; c++) {
            columns.bits[c] = words.word[c];
        }
#else
        const u64 all = *(const u64 *)(row + 2 * (u64)dim);
        UNROLL for (u32 c = 0; c < 4; c++) {
            columns.bits[c] = (u32)(all >> (16 * c)) & 0xffffu;
        }
#endif
    }
    return columns;
}

INLINE f32 magnitude_of(f32 value) { return f32_of_bits(bits_of_f32(value) & 0x7fffffffu); }

INLINE void clear_sums(Sums *sums, const u32 n_columns) {
    UNROLL for (u32 c = 0; c < n_columns; c++) {
        sums->t1[c] = sums->t2[c] = sums->t3[c] = sums->t4[c] = sums->unit[c] = sums->unit_square[c] = 0;
        sums->min[c] = LARGEST_F32;
        sums->max[c] = -LARGEST_F32;
        sums->n_reached[c] = 0;
    }
}

INLINE void add_row(Sums *sums, const Pivots *pivots, const Columns *columns, f32 threshold, Part inverse, const u32 n_columns,
                    const u32 with_units) {
    UNROLL for (u32 c = 0; c < n_columns; c++) {
        const f32 x = value_of(columns->bits[c]);
#if LMFACTS_DTYPE == LMFACTS_F32
        const Part y = (f64)x - (f64)pivots->pivot[c];
#else
        const Part y = (x - pivots->pivot[c]) * pivots->scale[c];
#endif
        const Part y2 = y * y;
        sums->t1[c] += y;
        sums->t2[c] += y2;
        sums->t3[c] += y2 * y;
        sums->t4[c] += y2 * y2;
        sums->min[c] = x < sums->min[c] ? x : sums->min[c];
        sums->max[c] = x > sums->max[c] ? x : sums->max[c];
        sums->n_reached[c] += magnitude_of(x) >= threshold;
        if (with_units) {
            const Part unit = (Part)x * inverse;
            sums->unit[c] += unit;
            sums->unit_square[c] += unit * unit;
        }
    }
}

// Whether the sums of a column can be trusted.
INLINE u32 is_sound(const Sums *sums, u32 c, const u32 with_units) {
    u32 sound = sums->t4[c] - sums->t4[c] == 0;
    if (with_units) {
        sound &= sums->unit_square[c] - sums->unit_square[c] == 0;
    }
#if LMFACTS_DTYPE != LMFACTS_F32
    sound &= sums->t2[c] >= SMALLEST_SQUARES || (sums->t1[c] == 0 && sums->min[c] == sums->max[c]);
#endif
    return sound;
}

INLINE void add_sums(f64 (*totals)[4][DIMS_THREADS], const Sums *sums, u32 c, f32 scale, const u32 with_units) {
    const f64 unscale = 1.0 / scale, unscale2 = unscale * unscale;
    totals[0][c][THREAD] += unscale * sums->t1[c];
    totals[P_T2 - P_T1][c][THREAD] += unscale2 * sums->t2[c];
    totals[P_T3 - P_T1][c][THREAD] += unscale2 * unscale * sums->t3[c];
    totals[P_T4 - P_T1][c][THREAD] += unscale2 * unscale2 * sums->t4[c];
    if ((f64)sums->min[c] < totals[P_MIN - P_T1][c][THREAD]) {
        totals[P_MIN - P_T1][c][THREAD] = sums->min[c];
    }
    if ((f64)sums->max[c] > totals[P_MAX - P_T1][c][THREAD]) {
        totals[P_MAX - P_T1][c][THREAD] = sums->max[c];
    }
    totals[P_REACHED - P_T1][c][THREAD] += sums->n_reached[c];
    if (with_units) {
        totals[P_UNIT - P_T1][c][THREAD] += sums->unit[c];
        totals[P_UNIT_SQUARE - P_T1][c][THREAD] += sums->unit_square[c];
    }
}

// The sums of one column over up to 32 rows, value by value, in float64; what is not finite is counted and left out.
RARE void add_column_again(const Update *u, u32 population, u32 index, u32 end, u32 dim, f64 pivot, f64 (*totals)[4][DIMS_THREADS],
                           u32 c) {
    for (u32 i = 0; i < ROWS_AT_A_TIME && index < end; i++, index += DIMS_WARPS) {
        const u32 row = listed_row(u, population, index);
        const u32 bits = load_value(row_at(u, row), dim);
        const f32 x = value_of(bits);
        totals[P_REACHED - P_T1][c][THREAD] += magnitude_of(x) >= u->threshold;
        if (key_of(bits) >= INFINITY_KEY) {
            totals[P_NOT_FINITE - P_T1][c][THREAD] += 1.0;
            continue;
        }
        const f64 y = (f64)x - pivot, y2 = y * y;
        totals[0][c][THREAD] += y;
        totals[P_T2 - P_T1][c][THREAD] += y2;
        totals[P_T3 - P_T1][c][THREAD] += y2 * y;
        totals[P_T4 - P_T1][c][THREAD] += y2 * y2;
        if ((f64)x < totals[P_MIN - P_T1][c][THREAD]) {
            totals[P_MIN - P_T1][c][THREAD] = x;
        }
        if ((f64)x > totals[P_MAX - P_T1][c][THREAD]) {
            totals[P_MAX - P_T1][c][THREAD] = x;
        }
        const f64 unit = (f64)x * u->row_inverses[row];
        totals[P_UNIT - P_T1][c][THREAD] += unit;
        totals[P_UNIT_SQUARE - P_T1][c][THREAD] += unit * unit;
    }
}

// The rows that are listed at an index and every `step` after it, the last one in place of those past the end. Their places are
// read together, and so are then the rows: otherwise each row would wait for the place of the one before.
INLINE void list_rows(const Update *u, u32 population, u32 index, u32 step, u32 end, u32 *rows) {
    UNROLL for (u32 i = 0; i < ROWS_IN_FLIGHT; i++) {
        rows[i] = listed_row(u, population, index + i * step < end ? index + i * step : end - 1);
    }
}

// The mean of the sampled rows, and for 16-bit values the power of two that brings their spread to 1.
INLINE void find_pivots(const Update *u, u32 population, u32 start, u32 end, u32 dim, u32 is_active, Pivots *pivots,
                        f64 (*totals)[4][DIMS_THREADS], const u32 n_columns) {
    f64 sum[4] = {0.0, 0.0, 0.0, 0.0}, n[4] = {0.0, 0.0, 0.0, 0.0};
    f32 min[4], max[4];
    UNROLL for (u32 c = 0; c < n_columns; c++) {
        min[c] = LARGEST_F32;
        max[c] = -LARGEST_F32;
    }
    const u32 step = DIMS_WARPS * PIVOT_STEP;
    for (u32 first = start + THREAD / WARP; is_active && first < end; first += step * ROWS_IN_FLIGHT) {
        u32 rows[ROWS_IN_FLIGHT];
        Columns columns[ROWS_IN_FLIGHT];
        list_rows(u, population, first, step, end, rows);
        UNROLL for (u32 i = 0; i < ROWS_IN_FLIGHT; i++) {
            columns[i] = load_columns(row_at(u, rows[i]), dim, n_columns);
        }
        UNROLL for (u32 i = 0; i < ROWS_IN_FLIGHT; i++) {
            UNROLL for (u32 c = 0; c < n_columns; c++) {
                if (first + i * step < end && key_of(columns[i].bits[c]) < INFINITY_KEY) {
                    const f32 x = value_of(columns[i].bits[c]);
                    sum[c] += x;
                    n[c] += 1.0;
                    min[c] = x < min[c] ? x : min[c];
                    max[c] = x > max[c] ? x : max[c];
                }
            }
        }
    }
    UNROLL for (u32 c = 0; c < n_columns; c++) {
        totals[0][c][THREAD] = sum[c];
        totals[1][c][THREAD] = n[c];
        totals[2][c][THREAD] = min[c];
        totals[3][c][THREAD] = max[c];
    }
    wait_for_block();
    UNROLL for (u32 c = 0; c < n_columns; c++) {
        f64 all = 0.0, count = 0.0, least = LARGEST_F32, most = -LARGEST_F32;
        for (u32 thread = THREAD % WARP; thread < DIMS_THREADS; thread += WARP) {
            all += totals[0][c][thread];
            count += totals[1][c][thread];
            least = totals[2][c][thread] < least ? totals[2][c][thread] : least;
            most = totals[3][c][thread] > most ? totals[3][c][thread] : most;
        }
        const f32 pivot = count > 0.0 ? (f32)(all / count) : 0.0f;
        pivots->pivot[c] = pivot;
        pivots->scale[c] = 1.0f;
#if LMFACTS_DTYPE != LMFACTS_F32
        const f64 spread = most - pivot > pivot - least ? most - pivot : pivot - least;
        const u32 exponent = bits_of_f32((f32)spread) >> 23 & 0xffu;
        if (count > 0.0 && exponent > 7 && exponent < 247) {
            pivots->scale[c] = f32_of_bits((254 - exponent) << 23);
        }
#endif
    }
    wait_for_block();
}

INLINE void sum_dims(const Update *u, f64 (*totals)[4][DIMS_THREADS], const u32 n_columns, const u32 with_units) {
    const u32 population = BLOCK_Z;
    const u32 dim = (BLOCK * WARP + THREAD % WARP) * n_columns;
    const u32 is_active = dim < u->n_dims;
    const u32 n = u->row_counts[population];
    const u32 start = start_of_part(n, N_BLOCKS_Y, BLOCK_Y), end = start_of_part(n, N_BLOCKS_Y, BLOCK_Y + 1);
    f64 *partials = u->partials + (u64)(population * N_BLOCKS_Y + BLOCK_Y) * N_PARTIALS * u->n_dims;
    if (start == end) {
        for (u32 c = 0; THREAD < WARP && is_active && c < n_columns; c++) {
            partials[(u64)P_N * u->n_dims + dim + c] = 0.0;
        }
        return;
    }
    Pivots pivots;
    find_pivots(u, population, start, end, dim, is_active, &pivots, totals, n_columns);
    UNROLL for (u32 c = 0; c < n_columns; c++) {
        for (u32 i = 0; i < N_TOTALS; i++) {
            totals[i][c][THREAD] = i == P_MIN - P_T1 ? LARGEST_F64 : i == P_MAX - P_T1 ? -LARGEST_F64 : 0.0;
        }
    }
    for (u32 first = start + THREAD / WARP; is_active && first < end; first += DIMS_WARPS * ROWS_AT_A_TIME) {
        Sums sums;
        clear_sums(&sums, n_columns);
        for (u32 group = 0; group < ROWS_AT_A_TIME; group += ROWS_IN_FLIGHT) {
            u32 rows[ROWS_IN_FLIGHT];
            Columns columns[ROWS_IN_FLIGHT];
            Part inverses[ROWS_IN_FLIGHT];
            list_rows(u, population, first + group * DIMS_WARPS, DIMS_WARPS, end, rows);
            UNROLL for (u32 i = 0; i < ROWS_IN_FLIGHT; i++) {
                columns[i] = load_columns(row_at(u, rows[i]), dim, n_columns);
                inverses[i] = with_units ? (Part)u->row_inverses[rows[i]] : 0;
            }
            UNROLL for (u32 i = 0; i < ROWS_IN_FLIGHT; i++) {
                if (first + (group + i) * DIMS_WARPS < end) {
                    add_row(&sums, &pivots, &columns[i], u->threshold, inverses[i], n_columns, with_units);
                }
            }
        }
        UNROLL for (u32 c = 0; c < n_columns; c++) {
            if (is_sound(&sums, c, with_units)) {
                add_sums(totals, &sums, c, pivots.scale[c], with_units);
            } else {
                add_column_again(u, population, first, end, dim + c, pivots.pivot[c], totals, c);
            }
        }
    }
    wait_for_block();
    if (THREAD < WARP && is_active) {
        UNROLL for (u32 c = 0; c < n_columns; c++) {
            partials[(u64)P_N * u->n_dims + dim + c] = end - start;
            partials[(u64)P_PIVOT * u->n_dims + dim + c] = pivots.pivot[c];
            for (u32 i = 0; i < N_TOTALS; i++) {
                f64 total = totals[i][c][THREAD];
                for (u32 thread = THREAD + WARP; thread < DIMS_THREADS; thread += WARP) {
                    const f64 more = totals[i][c][thread];
                    if (i == P_MIN - P_T1) {
                        total = more < total ? more : total;
                    } else if (i == P_MAX - P_T1) {
                        total = more > total ? more : total;
                    } else {
                        total += more;
                    }
                }
                partials[(u64)(P_T1 + i) * u->n_dims + dim + c] = total;
            }
        }
    }
}

KERNEL(DIMS_THREADS, 3) dims(ARGUMENTS(Update) u) {
    SHARED f64 totals[N_TOTALS][4][DIMS_THREADS];
    sum_dims(&u, totals, 4, 0);
}

KERNEL(DIMS_THREADS, 3) dims_with_units(ARGUMENTS(Update) u) {
    SHARED f64 totals[N_TOTALS][4][DIMS_THREADS];
    sum_dims(&u, totals, 4, 1);
}

// For rows that cannot be read 16 bytes at a time.
KERNEL(DIMS_THREADS, 3) dims_one_by_one(ARGUMENTS(Update) u) {
    SHARED f64 totals[N_TOTALS][4][DIMS_THREADS];
    sum_dims(&u, totals, 1, 1);
}
