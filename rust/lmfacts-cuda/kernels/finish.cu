// The end of a call: what its kernels have found goes into the site's state. Each block has one task, told by its number: moments
// of 256 dims, then moments of a quantity of a group of tokens, then the outliers of a population, then the maxima.

#define FINISH_THREADS 256

// Joins the parts of the rows, in their order, to the moments of a dim.
INLINE void join_dim(const Update *u, u32 population, u32 dim) {
    Moments *state = &u->dim_moments[(u64)population * u->n_dims + dim];
    u64 *not_finite = &u->dim_counts[(u64)population * 2 * u->n_dims + dim];
    Moments moments = *state;
    f64 n_not_finite = 0.0, n_reached = 0.0, unit = 0.0, unit_square = 0.0;
    for (u32 split = 0; split < u->n_splits; split++) {
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
        n_not_finite += partial[(u64)P_NOT_FINITE * u->n_dims];
        n_reached += partial[(u64)P_REACHED * u->n_dims];
        unit += partial[(u64)P_UNIT * u->n_dims];
        unit_square += partial[(u64)P_UNIT_SQUARE * u->n_dims];
    }
    *state = moments;
    not_finite[0] += (u64)n_not_finite;
    not_finite[u->n_dims] += (u64)n_reached;
    if (u->unit_sums != 0) {
        f64 *sums = &u->unit_sums[(u64)population * 2 * u->n_dims + dim];
        sums[0] += unit;
        sums[u->n_dims] += unit_square;
    }
}

// A token's quantity: its norm, the logarithm of that, the logarithm of the norm after centering.
INLINE f64 quantity_of(const Update *u, u32 row, u32 quantity) {
    return quantity == 0 ? u->row_norms[row] : log(quantity == 1 ? u->row_norms[row] : u->row_centered[row]);
}

INLINE u32 is_finite(f64 value) { return value - value == 0.0; }

// The moments of a quantity over a group of tokens: the mean, then sums about it, as `ScalarMoments::of` in lmfacts-core.
INLINE void join_tokens(const Update *u, u32 population, u32 group, u32 quantity, f64 *room) {
    const u32 n_listed = u->row_counts[population];
    f64 n_tokens = 0.0, n = 0.0, sum = 0.0;
    for (u32 index = THREAD; index < n_listed; index += N_THREADS) {
        const u32 row = listed_row(u, population, index);
        if (group == 0 || block_of(u->sequence[row]) == group - 1) {
            const f64 value = quantity_of(u, row, quantity);
            n_tokens += 1.0;
            if (is_finite(value)) {
                n += 1.0;
                sum += value;
            }
        }
    }
    n_tokens = sum_of_block(n_tokens, room);
    n = sum_of_block(n, room);
    sum = sum_of_block(sum, room);
    if (THREAD == 0 && quantity == 0) {
        u->n_tokens[population * N_TOKEN_GROUPS + group] += (u64)n_tokens;
    }
    if (n == 0.0) {
        return;
    }
    const f64 pivot = sum / n;
    f64 t1 = 0.0, t2 = 0.0, t3 = 0.0, t4 = 0.0, least = LARGEST_F64, most = -LARGEST_F64;
    for (u32 index = THREAD; index < n_listed; index += N_THREADS) {
        const u32 row = listed_row(u, population, index);
        const f64 value = quantity_of(u, row, quantity);
        if (is_finite(value) && (group == 0 || block_of(u->sequence[row]) == group - 1)) {
            const f64 y = value - pivot, y2 = y * y;
            t1 += y;
            t2 += y2;
            t3 += y2 * y;
            t4 += y2 * y2;
            least = value < least ? value : least;
            most = value > most ? value : most;
        }
    }
    t1 = sum_of_block(t1, room);
    t2 = sum_of_block(t2, room);
    t3 = sum_of_block(t3, room);
    t4 = sum_of_block(t4, room);
    for (u32 lanes = WARP / 2; lanes > 0; lanes /= 2) {
        const f64 other_least = shuffle_f64(least, lanes), other_most = shuffle_f64(most, lanes);
        least = other_least < least ? other_least : least;
        most = other_most > most ? other_most : most;
    }
    wait_for_block();
    if (THREAD % WARP == 0) {
        room[2 * (THREAD / WARP)] = least;
        room[2 * (THREAD / WARP) + 1] = most;
    }
    wait_for_block();
    if (THREAD == 0) {
        for (u32 warp = 0; warp < N_THREADS / WARP; warp++) {
            least = room[2 * warp] < least ? room[2 * warp] : least;
            most = room[2 * warp + 1] > most ? room[2 * warp + 1] : most;
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
    SHARED f64 room[2 * FINISH_THREADS / 32];
    const u32 n_dim_blocks = (u.n_dims + FINISH_THREADS - 1) / FINISH_THREADS;
    const u32 n_groups = u.maxima != 0 ? N_TOKEN_GROUPS : 1;
    const u32 n_token_blocks = n_groups * N_TOKEN_QUANTITIES;
    u32 task = BLOCK;
    for (u32 population = 0; population < 2; population++) {
        if (task < n_dim_blocks) {
            const u32 dim = task * FINISH_THREADS + THREAD;
            if (dim < u.n_dims) {
                join_dim(&u, population, dim);
            }
            return;
        }
        task -= n_dim_blocks;
        if (task < n_token_blocks) {
            join_tokens(&u, population, task / N_TOKEN_QUANTITIES, task % N_TOKEN_QUANTITIES, room);
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
                find_maxima(&u, population);
                return;
            }
            task -= 1;
        }
    }
}
