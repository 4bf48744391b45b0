// Where the largest value of each dim stands: the statistic of `dim_places.rs` in lmfacts-core.
//
// A block has 32 dims of a population. What the call's largest magnitudes are, the partial moments say; rows are searched only for
// dims whose largest value here may come before the one that is known, each warp some rows, each lane a dim.

typedef struct {
    u32 key, bits; // of the magnitude as a float32, plus 1, and 0 for none; of the value as a float32
    i64 sequence, position, token_id;
    u64 unused;
} DimPlace;

// Whether one comes before another that may be none: a larger magnitude, then an earlier place.
INLINE u32 dim_place_is_first(const DimPlace *one, const DimPlace *other) {
    if (one->key != other->key) {
        return one->key > other->key;
    }
    return one->sequence != other->sequence ? one->sequence < other->sequence : one->position < other->position;
}

KERNEL(256, 4) dim_places(ARGUMENTS(StatisticUpdate) s) {
    const Update *u = &s.call;
    SHARED DimPlace found[256];
    const u32 population = BLOCK_Y, lane = THREAD % WARP, warp = THREAD / WARP, dim = BLOCK * WARP + lane;
    DimPlace *state = (DimPlace *)s.state + (u64)population * u->n_dims + dim;
    const u32 n = u->row_counts[population];
    DimPlace best = {0, 0, 0, 0, 0, 0};
    f64 largest = -1.0;
    for (u32 split = 0; dim < u->n_dims && split < u->n_splits; split++) {
        const f64 *partial = u->partials + ((u64)(population * u->n_splits + split) * N_PARTIALS) * u->n_dims + dim;
        const f64 min = partial[(u64)P_MIN * u->n_dims], max = partial[(u64)P_MAX * u->n_dims];
        if (partial[(u64)P_N * u->n_dims] > 0.0 && min <= max) {
            const f64 magnitude = -min > max ? -min : max;
            largest = magnitude > largest ? magnitude : largest;
        }
    }
    // -0 becomes +0.
    const u32 key = largest < 0.0 ? 0 : bits_of_f32((f32)largest + 0.0f) + 1;
    if (key > 0 && key >= state->key) {
        for (u32 index = warp; index < n; index += N_THREADS / WARP) {
            const u32 row = listed_row(u, population, index);
            const u32 bits = bits_of_f32(value_of(load_value(row_at(u, row), dim)));
            if ((bits & 0x7fffffffu) + 1 == key) {
                const DimPlace here = {key, bits, u->sequence[row], u->position[row], u->token_id[row], 0};
                if (dim_place_is_first(&here, &best)) {
                    best = here;
                }
            }
        }
    }
    found[THREAD] = best;
    wait_for_block();
    if (warp == 0 && dim < u->n_dims) {
        for (u32 other = lane; other < N_THREADS; other += WARP) {
            if (found[other].key > 0 && dim_place_is_first(&found[other], &best)) {
                best = found[other];
            }
        }
        if (best.key > 0 && dim_place_is_first(&best, state)) {
            *state = best;
        }
    }
}
