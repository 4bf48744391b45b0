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
// Blocks of a multiprocessor at once; `SiteLayout::scratch` divides the rows by it.
#define DIMS_BLOCKS 4
#define PIVOT_STEP 8
#define ROWS_AT_A_TIME 32

#if LMFACTS_DTYPE == LMFACTS_F32
typedef f64 Part;
#define ROWS_IN_FLIGHT 4
#define IN_WORD 1
#define PART_OF_LANE f64_of_lane
#else
typedef f32 Part;
#define ROWS_IN_FLIGHT 8
#define IN_WORD 2
#define PART_OF_LANE f32_of_lane
#endif

// Below this sum of scaled squares, fourth powers may be lost to a float32.
#define SMALLEST_SQUARES 8.673617379884035e-19f

enum { P_N, P_PIVOT, P_T1, P_T2, P_T3, P_T4, P_UNIT, P_UNIT_SQUARE, P_NOT_FINITE, P_MIN, P_MAX, P_REACHED, N_PARTIALS };
// What a thread sums in shared memory: the partials from P_T1 to P_NOT_FINITE. The three behind them it has in registers.
#define N_TOTALS (P_MIN - P_T1)

typedef f64 Totals[N_TOTALS][4][DIMS_THREADS];

// Four values that stand side by side in a row, or one.
typedef struct {
    u32 word[4 / IN_WORD];
} Columns;

// The sums of 32 rows of a thread's columns.
typedef struct {
    Part t1[4], t2[4], t3[4], t4[4], unit[4], unit_square[4];
    Columns min, max;
} Sums;

// What is kept of a thread's columns from group to group, beside the totals.
typedef struct {
    Columns min, max;
    u32 n_reached[4];
} Kept;

typedef struct {
    f32 pivot[4], scale[4];
    f32 shift[4]; // minus the scaled pivot
} Pivots;

INLINE Columns load_columns(const u8 *address, const u32 n_columns) {
    Columns columns;
    if (n_columns == 1) {
        UNROLL for (u32 i = 1; i < 4 / IN_WORD; i++) {
            columns.word[i] = 0;
        }
        columns.word[0] = load_value(address, 0);
    } else {
#if VALUE_BYTES == 4
        const Words words = load_words(address);
        UNROLL for (u32 i = 0; i < 4; i++) {
            columns.word[i] = words.word[i];
        }
#else
        const u64 all = *(const u64 *)address;
        columns.word[0] = (u32)all;
        columns.word[1] = (u32)(all >> 32);
#endif
    }
    return columns;
}

INLINE u32 column_bits(const Columns *columns, u32 c) {
#if IN_WORD == 1
    return columns->word[c];
#else
    return c % 2 ? columns->word[c / 2] >> 16 : columns->word[c / 2] & 0xffffu;
#endif
}

INLINE void set_column(Columns *columns, u32 c, u32 bits) {
#if IN_WORD == 1
    columns->word[c] = bits;
#else
    const u32 kept = columns->word[c / 2] & (c % 2 ? 0xffffu : 0xffff0000u);
    columns->word[c / 2] = kept | bits << (c % 2 ? 16 : 0);
#endif
}

INLINE f32 magnitude_of(f32 value) { return f32_of_bits(bits_of_f32(value) & 0x7fffffffu); }

#define MINUS_INFINITY_BITS (INFINITY_KEY | (MAGNITUDE + 1))

INLINE void clear_extremes(Columns *min, Columns *max) {
    const u32 all = IN_WORD == 2 ? 0x10001u : 1u;
    UNROLL for (u32 i = 0; i < 4 / IN_WORD; i++) {
        min->word[i] = all * INFINITY_KEY;
        max->word[i] = all * MINUS_INFINITY_BITS;
    }
}

// NaN is left out, as far as there is anything else.
INLINE void widen_extremes(Columns *min, Columns *max, const Columns *low, const Columns *high) {
    UNROLL for (u32 i = 0; i < 4 / IN_WORD; i++) {
        min->word[i] = smaller_values(min->word[i], low->word[i]);
        max->word[i] = larger_values(max->word[i], high->word[i]);
    }
}

INLINE void clear_sums(Sums *sums) {
    UNROLL for (u32 c = 0; c < 4; c++) {
        sums->t1[c] = sums->t2[c] = sums->t3[c] = sums->t4[c] = sums->unit[c] = sums->unit_square[c] = 0;
    }
    clear_extremes(&sums->min, &sums->max);
}

INLINE void add_row(Sums *sums, u32 *n_reached, const Pivots *pivots, const Columns *columns, f32 threshold, Part inverse,
                    const u32 n_columns, const u32 with_units) {
    UNROLL for (u32 c = 0; c < n_columns; c++) {
        const f32 x = value_of(column_bits(columns, c));
#if LMFACTS_DTYPE == LMFACTS_F32
        const Part y = (f64)x - (f64)pivots->pivot[c];
#else
        // (x - pivot) * scale: a power of two rounds nothing.
        const Part y = fused_f32(x, pivots->scale[c], pivots->shift[c]);
#endif
        const Part y2 = y * y;
        sums->t1[c] += y;
        sums->t2[c] += y2;
        sums->t3[c] += y2 * y;
        sums->t4[c] += y2 * y2;
        if (magnitude_of(x) >= threshold) {
            n_reached[c]++;
        }
        if (with_units) {
            const Part unit = (Part)x * inverse;
            sums->unit[c] += unit;
            sums->unit_square[c] += unit * unit;
        }
    }
    widen_extremes(&sums->min, &sums->max, columns, columns);
}

// Whether the sums of a column can be trusted.
INLINE u32 is_sound(const Sums *sums, u32 c, const u32 with_units) {
    u32 sound = sums->t4[c] - sums->t4[c] == 0;
    if (with_units) {
        sound &= sums->unit_square[c] - sums->unit_square[c] == 0;
    }
#if LMFACTS_DTYPE != LMFACTS_F32
    const f32 min = value_of(column_bits(&sums->min, c)), max = value_of(column_bits(&sums->max, c));
    sound &= sums->t2[c] >= SMALLEST_SQUARES || (sums->t1[c] == 0 && min == max);
#endif
    return sound;
}

// Scaled, as are the sums.
INLINE void add_sums(Totals totals, const Sums *sums, u32 c, const u32 with_units) {
    totals[0][c][THREAD] += sums->t1[c];
    totals[P_T2 - P_T1][c][THREAD] += sums->t2[c];
    totals[P_T3 - P_T1][c][THREAD] += sums->t3[c];
    totals[P_T4 - P_T1][c][THREAD] += sums->t4[c];
    if (with_units) {
        totals[P_UNIT - P_T1][c][THREAD] += sums->unit[c];
        totals[P_UNIT_SQUARE - P_T1][c][THREAD] += sums->unit_square[c];
    }
}

typedef struct {
    u32 min, max; // as bits
} Extremes;

// The sums of one column over up to 32 rows, value by value, in float64; what is not finite is counted and left out. Gives the
// extremes of the rest.
RARE Extremes add_column_again(const Update *u, u32 population, u32 index, u32 end, u32 dim, f64 pivot, f64 scale, Totals totals,
                               u32 c) {
    Extremes extremes = {INFINITY_KEY, MINUS_INFINITY_BITS};
    for (u32 i = 0; i < ROWS_AT_A_TIME && index < end; i++, index += DIMS_WARPS) {
        const u32 row = listed_row(u, population, index);
        const u32 bits = load_value(row_at(u, row), dim);
        if (key_of(bits) >= INFINITY_KEY) {
            totals[P_NOT_FINITE - P_T1][c][THREAD] += 1.0;
            continue;
        }
        const f32 x = value_of(bits);
        const f64 y = ((f64)x - pivot) * scale, y2 = y * y;
        totals[0][c][THREAD] += y;
        totals[P_T2 - P_T1][c][THREAD] += y2;
        totals[P_T3 - P_T1][c][THREAD] += y2 * y;
        totals[P_T4 - P_T1][c][THREAD] += y2 * y2;
        extremes.min = x < value_of(extremes.min) ? bits : extremes.min;
        extremes.max = x > value_of(extremes.max) ? bits : extremes.max;
        const f64 unit = (f64)x * u->row_inverses[row];
        totals[P_UNIT - P_T1][c][THREAD] += unit;
        totals[P_UNIT_SQUARE - P_T1][c][THREAD] += unit * unit;
    }
    return extremes;
}

// The mean of the sampled rows, and for 16-bit values the power of two that brings their spread to 1.
INLINE void find_pivots(const Update *u, u32 population, u32 start, u32 end, u32 dim, Pivots *pivots, Totals totals,
                        const u32 n_columns) {
    f64 sum[4] = {0.0, 0.0, 0.0, 0.0};
    u32 n[4] = {0, 0, 0, 0};
    f32 min[4], max[4];
    UNROLL for (u32 c = 0; c < n_columns; c++) {
        min[c] = LARGEST_F32;
        max[c] = -LARGEST_F32;
    }
    const u32 step = DIMS_WARPS * PIVOT_STEP;
    for (u32 first = start + THREAD / WARP; first < end; first += step * ROWS_IN_FLIGHT) {
        u32 rows[ROWS_IN_FLIGHT];
        Columns columns[ROWS_IN_FLIGHT];
        UNROLL for (u32 i = 0; i < ROWS_IN_FLIGHT; i++) {
            rows[i] = listed_row(u, population, first + i * step < end ? first + i * step : end - 1);
        }
        UNROLL for (u32 i = 0; i < ROWS_IN_FLIGHT; i++) {
            columns[i] = load_columns(row_at(u, rows[i]) + (u64)dim * VALUE_BYTES, n_columns);
        }
        UNROLL for (u32 c = 0; c < n_columns; c++) {
            Part part = 0;
            u32 n_part = 0;
            UNROLL for (u32 i = 0; i < ROWS_IN_FLIGHT; i++) {
                const u32 bits = column_bits(&columns[i], c);
                if (first + i * step < end && key_of(bits) < INFINITY_KEY) {
                    const f32 x = value_of(bits);
                    part += x;
                    n_part++;
                    min[c] = smaller_f32(min[c], x);
                    max[c] = larger_f32(max[c], x);
                }
            }
            if (part - part == 0) { // any pivot does, if it is a number
                sum[c] += part;
                n[c] += n_part;
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
        UNROLL for (u32 warp = 0; warp < DIMS_WARPS; warp++) {
            const u32 thread = warp * WARP + THREAD % WARP;
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
        pivots->shift[c] = -pivot * pivots->scale[c];
    }
    wait_for_block();
}

// The rows of a warp that are summed together, up to 32: each lane has the place of one, which it hands to the others. Otherwise
// each lane would find out the place of every row.
typedef struct {
    u64 address;
    Part inverse;
} RowOfLane;

INLINE void sum_rows(Sums *sums, u32 *n_reached, const Pivots *pivots, RowOfLane of_lane, u32 n_rows, f32 threshold, u64 offset,
                     const u32 is_whole, const u32 n_columns, const u32 with_units) {
    for (u32 group = 0; is_whole ? group < ROWS_AT_A_TIME : group < n_rows; group += ROWS_IN_FLIGHT) {
        Columns columns[ROWS_IN_FLIGHT];
        UNROLL for (u32 i = 0; i < ROWS_IN_FLIGHT; i++) {
            columns[i] = load_columns((const u8 *)(u64)(u64_of_lane(of_lane.address, group + i) + offset), n_columns);
        }
        UNROLL for (u32 i = 0; i < ROWS_IN_FLIGHT; i++) {
            const Part inverse = with_units ? PART_OF_LANE(of_lane.inverse, group + i) : 0;
            if (is_whole || group + i < n_rows) {
                add_row(sums, n_reached, pivots, &columns[i], threshold, inverse, n_columns, with_units);
            }
        }
    }
}

INLINE void sum_dims(const Update *u, Totals totals, const u32 n_columns, const u32 with_units) {
    const u32 population = BLOCK_Z, lane = THREAD % WARP;
    const u32 own_dim = (BLOCK * WARP + lane) * n_columns;
    const u32 is_active = own_dim < u->n_dims;
    const u32 dim = is_active ? own_dim : 0; // lanes behind the end go along, for the others need them
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
    find_pivots(u, population, start, end, dim, &pivots, totals, n_columns);
    Kept kept;
    clear_extremes(&kept.min, &kept.max);
    UNROLL for (u32 c = 0; c < n_columns; c++) {
        kept.n_reached[c] = 0;
        UNROLL for (u32 i = 0; i < N_TOTALS; i++) {
            totals[i][c][THREAD] = 0.0;
        }
    }
    for (u32 first = start + THREAD / WARP; first < end; first += DIMS_WARPS * ROWS_AT_A_TIME) {
        const u32 n_left = (end - first + DIMS_WARPS - 1) / DIMS_WARPS;
        const u32 row = listed_row(u, population, lane < n_left ? first + lane * DIMS_WARPS : end - 1);
        RowOfLane of_lane;
        of_lane.address = (u64)row_at(u, row);
        of_lane.inverse = with_units ? (Part)u->row_inverses[row] : 0;
        Sums sums;
        clear_sums(&sums);
        if (n_left >= ROWS_AT_A_TIME) {
            sum_rows(&sums, kept.n_reached, &pivots, of_lane, n_left, u->threshold, (u64)dim * VALUE_BYTES, 1, n_columns, with_units);
        } else {
            sum_rows(&sums, kept.n_reached, &pivots, of_lane, n_left, u->threshold, (u64)dim * VALUE_BYTES, 0, n_columns, with_units);
        }
        UNROLL for (u32 c = 0; c < n_columns; c++) {
            if (is_sound(&sums, c, with_units)) {
                add_sums(totals, &sums, c, with_units);
            } else if (is_active) {
                const Extremes extremes = add_column_again(u, population, first, end, dim + c, pivots.pivot[c], pivots.scale[c],
                                                           totals, c);
                set_column(&sums.min, c, extremes.min);
                set_column(&sums.max, c, extremes.max);
            }
        }
        widen_extremes(&kept.min, &kept.max, &sums.min, &sums.max);
    }
    wait_for_block();
    if (THREAD < WARP && is_active) {
        UNROLL for (u32 c = 0; c < n_columns; c++) {
            partials[(u64)P_N * u->n_dims + dim + c] = end - start;
            partials[(u64)P_PIVOT * u->n_dims + dim + c] = pivots.pivot[c];
            const f64 unscale = 1.0 / pivots.scale[c];
            f64 unscales = 1.0;
            UNROLL for (u32 i = 0; i < N_TOTALS; i++) {
                f64 total = 0.0;
                UNROLL for (u32 warp = 0; warp < DIMS_WARPS; warp++) {
                    total += totals[i][c][warp * WARP + lane];
                }
                unscales = P_T1 + i <= P_T4 ? unscales * unscale : 1.0;
                partials[(u64)(P_T1 + i) * u->n_dims + dim + c] = total * unscales;
            }
        }
    }
    wait_for_block();
    UNROLL for (u32 c = 0; c < n_columns; c++) {
        totals[0][c][THREAD] = value_of(column_bits(&kept.min, c));
        totals[1][c][THREAD] = value_of(column_bits(&kept.max, c));
        totals[2][c][THREAD] = kept.n_reached[c];
    }
    wait_for_block();
    if (THREAD < WARP && is_active) {
        UNROLL for (u32 c = 0; c < n_columns; c++) {
            f64 min = totals[0][c][THREAD], max = totals[1][c][THREAD], n_reached = totals[2][c][THREAD];
            UNROLL for (u32 warp = 1; warp < DIMS_WARPS; warp++) {
                const u32 thread = warp * WARP + lane;
                min = totals[0][c][thread] < min ? totals[0][c][thread] : min;
                max = totals[1][c][thread] > max ? totals[1][c][thread] : max;
                n_reached += totals[2][c][thread];
            }
            partials[(u64)P_MIN * u->n_dims + dim + c] = min;
            partials[(u64)P_MAX * u->n_dims + dim + c] = max;
            partials[(u64)P_REACHED * u->n_dims + dim + c] = n_reached;
        }
    }
}

KERNEL(DIMS_THREADS, DIMS_BLOCKS) dims(ARGUMENTS(Update) u) {
    SHARED Totals totals;
    sum_dims(&u, totals, 4, 0);
}

KERNEL(DIMS_THREADS, DIMS_BLOCKS) dims_with_units(ARGUMENTS(Update) u) {
    SHARED Totals totals;
    sum_dims(&u, totals, 4, 1);
}

// For rows that cannot be read 16 bytes at a time.
KERNEL(DIMS_THREADS, DIMS_BLOCKS) dims_one_by_one(ARGUMENTS(Update) u) {
    SHARED Totals totals;
    sum_dims(&u, totals, 1, 1);
}
