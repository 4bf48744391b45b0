// Where the largest value of each dim stands: the statistic of `dim_places.rs` in lmfacts-core.
//
// A block has 32 dims of a population, each lane of its warps one of them. What the largest magnitude of a part of the rows is, the
// partial moments say. Rows are searched only for dims whose largest value here may come before the one that is known, and of
// these only the first part that has it: listed rows ascend in their places.

typedef struct {
    u32 key, bits; // of the magnitude as a float32, plus 1, and 0 for none; of the value as a float32
    i64 sequence, position, token_id;
    u64 unused;
} DimPlace;

#define PLACES_WARPS (256 / 32)
// Parts and rows that a thread has in flight.
#define PLACES_IN_FLIGHT 8

// The largest magnitude of a dim over a part of the rows, as in `DimPlace`.
INLINE u32 largest_of_part(const Update *u, u32 population, u32 split, u32 dim) {
    const f64 *partial = u->partials + ((u64)(population * u->n_splits + split) * N_PARTIALS) * u->n_dims + dim;
    const f64 n_rows = partial[(u64)P_N * u->n_dims], min = partial[(u64)P_MIN * u->n_dims], max = partial[(u64)P_MAX * u->n_dims];
    const f64 magnitude = -min > max ? -min : max;
    // -0 becomes +0. Without finite values the minimum is above the maximum.
    return n_rows > 0.0 && min <= max ? bits_of_f32((f32)magnitude + 0.0f) + 1 : 0;
}

INLINE u32 is_before(i64 sequence, i64 position, const DimPlace *other) {
    return sequence != other->sequence ? sequence < other->sequence : position < other->position;
}

KERNEL(256, 4) dim_places(ARGUMENTS(StatisticUpdate) s) {
    const Update *u = &s.call;
    SHARED u64 largest_of[PLACES_WARPS][32];
    SHARED u32 found_by[PLACES_WARPS][32];
    const u32 population = BLOCK_Y, lane = THREAD % WARP, warp = THREAD / WARP, dim = BLOCK * WARP + lane;
    const u32 n = u->row_counts[population];
    DimPlace *state = (DimPlace *)s.state + (u64)population * u->n_dims + dim;

    // The largest key; of equal ones the first part has the largest complement.
    u64 largest = 0;
    for (u32 first = warp; dim < u->n_dims && first < u->n_splits; first += PLACES_WARPS * PLACES_IN_FLIGHT) {
        UNROLL for (u32 i = 0; i < PLACES_IN_FLIGHT; i++) {
            const u32 split = first + i * PLACES_WARPS;
            if (split < u->n_splits) {
                const u64 of_part = (u64)largest_of_part(u, population, split, dim) << 32 | (ALL_INDICES - split);
                largest = of_part > largest ? of_part : largest;
            }
        }
    }
    largest_of[warp][lane] = largest;
    wait_for_block();
    UNROLL for (u32 other = 0; other < PLACES_WARPS; other++) {
        largest = largest_of[other][lane] > largest ? largest_of[other][lane] : largest;
    }

    const u32 key = (u32)(largest >> 32), split = ALL_INDICES - (u32)largest;
    u32 is_open = dim < u->n_dims && n > 0 && key > 0 && key >= state->key;
    if (is_open && key == state->key) {
        const u32 row = listed_row(u, population, 0);
        is_open = is_before(u->sequence[row], u->position[row], state);
    }
    u32 found = ALL_INDICES; // among the listed rows
    const u32 end = is_open ? start_of_part(n, u->n_splits, split + 1) : 0;
    u32 first = is_open ? start_of_part(n, u->n_splits, split) + warp : 0;
    for (; first < end && found == ALL_INDICES; first += PLACES_WARPS * PLACES_IN_FLIGHT) {
        u32 rows[PLACES_IN_FLIGHT], bits[PLACES_IN_FLIGHT];
        UNROLL for (u32 i = 0; i < PLACES_IN_FLIGHT; i++) {
            const u32 index = first + i * PLACES_WARPS;
            rows[i] = listed_row(u, population, index < end ? index : end - 1);
        }
        UNROLL for (u32 i = 0; i < PLACES_IN_FLIGHT; i++) {
            bits[i] = bits_of_f32(value_of(load_value(row_at(u, rows[i]), dim)));
        }
        UNROLL for (u32 i = 0; i < PLACES_IN_FLIGHT; i++) {
            const u32 index = first + i * PLACES_WARPS;
            if (index < end && index < found && (bits[i] & 0x7fffffffu) + 1 == key) {
                found = index;
            }
        }
    }
    found_by[warp][lane] = found;
    wait_for_block();
    if (warp > 0) {
        return;
    }
    UNROLL for (u32 other = 0; other < PLACES_WARPS; other++) {
        found = found_by[other][lane] < found ? found_by[other][lane] : found;
    }
    if (found != ALL_INDICES) {
        const u32 row = listed_row(u, population, found);
        const u32 bits = bits_of_f32(value_of(load_value(row_at(u, row), dim)));
        if (key > state->key || is_before(u->sequence[row], u->position[row], state)) {
            const DimPlace here = {key, bits, u->sequence[row], u->position[row], u->token_id[row], 0};
            *state = here;
        }
    }
}
