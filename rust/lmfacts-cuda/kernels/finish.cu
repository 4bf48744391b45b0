// The end of a call: what its kernels have found goes into the site's state. Each block has one task, told by its number: moments
// of 32 dims, then moments of a quantity of a group of tokens, then the outliers of a population, then the maxima.

#define FINISH_THREADS 256

// Parts of the rows are joined by so many warps, each taking some of them in their order, and then those of the warps in theirs.
#define JOINERS (FINISH_THREADS / 32)

enum { X_NOT_FINITE, X_REACHED, X_UNIT, X_UNIT_SQUARE, N_EXTRA };

// Joins the parts of the rows to the moments of 32 dims.
INLINE void join_dims(const Update *u, u32 population, u32 first_dim, Moments (*moments_of)[32], f64 (*extra_of)[JOINERS][32]) {
    const u32 lane = THREAD % WARP, joiner = THREAD / WARP, dim = first_dim + lane;
    Moments moments = {0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0};
    f64 extra[N_EXTRA] = {0.0, 0.0, 0.0, 0.0};
    const u32 end = dim < u->n_dims ? start_of_part(u->n_splits, JOINERS, joiner + 1) : 0;
    for (u32 split = start_of_part(u->n_splits, JOINERS, joiner); split < end; split++) {
        const f64 *partial = u->partials + ((u64)(population * u->n_splits + split) * N_PARTIALS) * u->n_dims + dim;
        const f64 n_rows = partial[(u64)P_N * u->n_dims];
        if (n_rows == 0.0) {
            continue;
        }
        const f64 n = n_rows - partial[(u64)P_NOT_FINITE * u->n_dims];
        if (n > 0.0) {
            Moments part;
            set_central(&part, n, partial[(u64)P_PIVOT * u->n_dims], partial[(u64)P_T1 * u->n_dims],
                        partial[(u64)P_T2 * u->n_dims], partial[(u64)P_T3 * u->n_dims], partial[(u64)P_T4 * u->n_dims]);
            part.min = partial[(u64)P_MIN * u->n_dims] + 0.0; // -0 becomes +0: which zero came first must not show
            part.max = partial[(u64)P_MAX * u->n_dims] + 0.0;
            merge_moments(&moments, &part);
        }
        extra[X_NOT_FINITE] += partial[(u64)P_NOT_FINITE * u->n_dims];
        extra[X_REACHED] += partial[(u64)P_REACHED * u->n_dims];
        extra[X_UNIT] += partial[(u64)P_UNIT * u->n_dims];
        extra[X_UNIT_SQUARE] += partial[(u64)P_UNIT_SQUARE * u->n_dims];
    }
    moments_of[joiner][lane] = moments;
    UNROLL for (u32 i = 0; i < N_EXTRA; i++) {
        extra_of[i][joiner][lane] = extra[i];
    }
    wait_for_block();
    if (joiner > 0 || dim >= u->n_dims) {
        return;
    }
    Moments *state = &u->dim_moments[(u64)population * u->n_dims + dim];
    moments = *state;
    for (u32 other = 0; other < JOINERS; other++) {
        merge_moments(&moments, &moments_of[other][lane]);
        UNROLL for (u32 i = 0; other > 0 && i < N_EXTRA; i++) {
            extra[i] += extra_of[i][other][lane];
        }
    }
    *state = moments;
    u64 *counts = &u->dim_counts[(u64)population * 2 * u->n_dims + dim];
    counts[0] += (u64)extra[X_NOT_FINITE];
    counts[u->n_dims] += (u64)extra[X_REACHED];
    if (u->unit_sums != 0) {
        f64 *sums = &u->unit_sums[(u64)population * 2 * u->n_dims + dim];
        sums[0] += extra[X_UNIT];
        sums[u->n_dims] += extra[X_UNIT_SQUARE];
    }
}

INLINE u32 is_finite(f64 value) { return value - value == 0.0; }

// Values that a thread has in flight.
#define TOKENS_IN_FLIGHT 8

typedef struct {
    f64 values[TOKENS_IN_FLIGHT]; // NaN for one of another group, or behind the end
    u32 n_tokens; // of the group, finite or not
} SomeTokens;

// Some values of a quantity, of the tokens of a group: those that stand N_THREADS apart, from `first` on.
INLINE SomeTokens load_tokens(const f64 *values, const u32 *blocks, u32 n_listed, u32 group, u32 first) {
    SomeTokens some;
    u32 is_of_group[TOKENS_IN_FLIGHT];
    UNROLL for (u32 i = 0; i < TOKENS_IN_FLIGHT; i++) {
        const u32 index = first + i * N_THREADS;
        is_of_group[i] = index < n_listed;
        some.values[i] = 0.0;
        if (index < n_listed) {
            some.values[i] = values[index];
            is_of_group[i] = group == 0 || blocks[index] == group - 1;
        }
    }
    some.n_tokens = 0;
    UNROLL for (u32 i = 0; i < TOKENS_IN_FLIGHT; i++) {
        some.n_tokens += is_of_group[i];
        some.values[i] = is_of_group[i] ? some.values[i] : sqrt(-1.0);
    }
    return some;
}

// The moments of a quantity over a group of tokens: the mean, then sums about it, as `ScalarMoments::of` in lmfacts-core.
INLINE void join_tokens(const Update *u, u32 population, u32 group, u32 quantity, f64 *scratch) {
    const u32 n_listed = u->row_counts[population], start = population == FIRST ? 0 : u->row_counts[FIRST];
    const f64 *values = u->quantities + (u64)quantity * u->n_rows + start;
    const u32 *blocks = u->blocks + start;
    f64 n_tokens = 0.0, n = 0.0, sum = 0.0;
    for (u32 first = THREAD; first < n_listed; first += N_THREADS * TOKENS_IN_FLIGHT) {
        const SomeTokens some = load_tokens(values, blocks, n_listed, group, first);
        n_tokens += some.n_tokens;
        UNROLL for (u32 i = 0; i < TOKENS_IN_FLIGHT; i++) {
            if (is_finite(some.values[i])) {
                n += 1.0;
                sum += some.values[i];
            }
        }
    }
    n_tokens = sum_of_block(n_tokens, scratch);
    n = sum_of_block(n, scratch);
    sum = sum_of_block(sum, scratch);
    if (THREAD == 0 && quantity == 0) {
        u->n_tokens[population * N_TOKEN_GROUPS + group] += (u64)n_tokens;
    }
    if (n == 0.0) {
        return;
    }
    const f64 pivot = sum / n;
    f64 t1 = 0.0, t2 = 0.0, t3 = 0.0, t4 = 0.0, least = LARGEST_F64, most = -LARGEST_F64;
    for (u32 first = THREAD; first < n_listed; first += N_THREADS * TOKENS_IN_FLIGHT) {
        const SomeTokens some = load_tokens(values, blocks, n_listed, group, first);
        UNROLL for (u32 i = 0; i < TOKENS_IN_FLIGHT; i++) {
            const f64 value = some.values[i];
            if (is_finite(value)) {
                const f64 y = value - pivot, y2 = y * y;
                t1 += y;
                t2 += y2;
                t3 += y2 * y;
                t4 += y2 * y2;
                least = value < least ? value : least;
                most = value > most ? value : most;
            }
        }
    }
    t1 = sum_of_block(t1, scratch);
    t2 = sum_of_block(t2, scratch);
    t3 = sum_of_block(t3, scratch);
    t4 = sum_of_block(t4, scratch);
    for (u32 lanes = WARP / 2; lanes > 0; lanes /= 2) {
        const f64 other_least = shuffle_f64(least, lanes), other_most = shuffle_f64(most, lanes);
        least = other_least < least ? other_least : least;
        most = other_most > most ? other_most : most;
    }
    wait_for_block();
    if (THREAD % WARP == 0) {
        scratch[2 * (THREAD / WARP)] = least;
        scratch[2 * (THREAD / WARP) + 1] = most;
    }
    wait_for_block();
    if (THREAD == 0) {
        for (u32 warp = 0; warp < N_THREADS / WARP; warp++) {
            least = scratch[2 * warp] < least ? scratch[2 * warp] : least;
            most = scratch[2 * warp + 1] > most ? scratch[2 * warp + 1] : most;
        }
        Moments moments;
        set_central(&moments, n, pivot, t1, t2, t3, t4);
        moments.min = least + 0.0;
        moments.max = most + 0.0;
        merge_moments(&u->token_moments[(population * N_TOKEN_GROUPS + group) * N_TOKEN_QUANTITIES + quantity], &moments);
    }
}

KERNEL(FINISH_THREADS, 2) finish(ARGUMENTS(Update) u) {
    SHARED u64 held[FULL];
    SHARED f64 scratch[2 * FINISH_THREADS / 32];
    SHARED u32 bounds[N_MAXIMA + 1];
    SHARED Moments moments_of[JOINERS][32];
    SHARED f64 extra_of[N_EXTRA][JOINERS][32];
    const u32 n_dim_blocks = (u.n_dims + WARP - 1) / WARP;
    const u32 n_groups = u.maxima != 0 ? N_TOKEN_GROUPS : 1;
    const u32 n_token_blocks = n_groups * N_TOKEN_QUANTITIES;
    u32 task = BLOCK;
    for (u32 population = 0; population < 2; population++) {
        if (task < n_dim_blocks) {
            join_dims(&u, population, task * WARP, moments_of, extra_of);
            return;
        }
        task -= n_dim_blocks;
        if (task < n_token_blocks) {
            join_tokens(&u, population, task / N_TOKEN_QUANTITIES, task % N_TOKEN_QUANTITIES, scratch);
            return;
        }
        task -= n_token_blocks;
        if (task == 0) {
            join_outliers(&u, population, held);
            if (population == FIRST && THREAD == 0) {
                *u.n_calls += 1;
            }
            return;
        }
        task -= 1;
        if (u.maxima != 0) {
            if (task == 0) {
                find_maxima(&u, population, bounds);
                return;
            }
            task -= 1;
        }
    }
}
