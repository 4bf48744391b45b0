// The largest magnitudes and their places, exactly.
//
// A candidate is one number: the key of the magnitude above, below it the complement of the value's index among the listed rows
// of the call. Rows are listed in the order of their places, so the larger number is the one that comes first among outliers,
// ties included, and no two are equal. While the histogram is counted, `codes` notes values that reach the last of the list so
// far. Where these were too many to note (in the first call, or when the data change), `collect` reads the values again, each
// block keeping the k largest of its share.

#define COLLECT_THREADS 256
#define MOST_HELD 4096
// Sorted when so many are held: a step of a block adds at most the other half.
#define FULL 2048

INLINE u64 composite(u32 key, u32 index) { return ((u64)key << 32) | (ALL_INDICES - index); }

// Bitonic sort, largest first. `n` is a power of two.
INLINE void sort_descending(u64 *numbers, u32 n) {
    for (u32 size = 2; size <= n; size *= 2) {
        for (u32 stride = size / 2; stride > 0; stride /= 2) {
            wait_for_block();
            for (u32 pair = THREAD; pair < n / 2; pair += N_THREADS) {
                const u32 low = 2 * pair - (pair & (stride - 1)), high = low + stride;
                const u64 a = numbers[low], b = numbers[high];
                if ((a < b) == ((low & size) == 0)) {
                    numbers[low] = b;
                    numbers[high] = a;
                }
            }
        }
    }
    wait_for_block();
}

KERNEL(COLLECT_THREADS, 1) collect(ARGUMENTS(Update) u) {
    SHARED u64 held[MOST_HELD];
    SHARED u32 n_held;
    for (u32 population = 0; population < 2; population++) {
        if (u.n_candidates[population] <= u.n_candidate_slots) {
            continue;
        }
        const u32 n = u.row_counts[population];
        const u64 end = (u64)start_of_part(n, N_BLOCKS, BLOCK + 1) * u.n_dims;
        u64 floor = 0; // what is not larger cannot be among the k largest
        if (u.n_outliers[population] == u.k) {
            floor = (u64)u.outliers[(u64)population * u.k + u.k - 1].key << 32;
        }
        if (THREAD == 0) {
            n_held = 0;
        }
        wait_for_block();
        // A step of a block takes 2048 values, in the order of their indices.
        for (u64 start = (u64)start_of_part(n, N_BLOCKS, BLOCK) * u.n_dims; start < end; start += FULL) {
            for (u32 i = 0; i < FULL / COLLECT_THREADS; i++) {
                const u64 index = start + THREAD + i * COLLECT_THREADS;
                if (index < end) {
                    const u32 row = listed_row(&u, population, (u32)index / u.n_dims);
                    const u32 key = key_of(load_value(row_at(&u, row), (u32)index % u.n_dims));
                    const u64 number = composite(key, (u32)index);
                    if (key < INFINITY_KEY && number > floor) {
                        held[take_number(&n_held)] = number;
                    }
                }
            }
            wait_for_block();
            const u32 n_now = n_held;
            if (n_now > FULL || start + FULL >= end) {
                for (u32 slot = n_now + THREAD; slot < MOST_HELD; slot += N_THREADS) {
                    held[slot] = 0;
                }
                sort_descending(held, MOST_HELD);
                if (n_now >= u.k) {
                    floor = held[u.k - 1];
                }
                if (THREAD == 0) {
                    n_held = n_now < u.k ? n_now : u.k;
                }
            }
            wait_for_block();
        }
        const u32 n_kept = n_held;
        for (u32 i = THREAD; i < u.k; i += N_THREADS) {
            u.candidates[(u64)population * u.n_candidate_slots + (u64)BLOCK * u.k + i] = i < n_kept ? held[i] : 0;
        }
        wait_for_block();
    }
}

// Whether a comes before b in the list.
INLINE u32 comes_before(const Outlier *a, const Outlier *b) {
    if (a->key != b->key) {
        return a->key > b->key;
    }
    if (a->sequence != b->sequence) {
        return a->sequence < b->sequence;
    }
    if (a->position != b->position) {
        return a->position < b->position;
    }
    if (a->dim != b->dim) {
        return a->dim < b->dim;
    }
    // The same place twice (a user's own numbering): the rest only makes the order total.
    const u32 is_less = a->bits >> 31 < b->bits >> 31;
    return a->bits >> 31 != b->bits >> 31 ? is_less : a->token_id < b->token_id;
}

INLINE Outlier outlier_at(const Update *u, u32 population, u32 index, u32 dim) {
    const u32 row = listed_row(u, population, index);
    const u32 bits = load_value(row_at(u, row), dim);
    Outlier outlier;
    outlier.key = key_of(bits);
    outlier.bits = bits_of_f32(value_of(bits));
    outlier.sequence = u->sequence[row];
    outlier.position = u->position[row];
    outlier.dim = dim;
    outlier.token_id = u->token_id[row];
    return outlier;
}

// The smallest power of two that is not below n.
INLINE u32 power_of_two_from(u32 n) {
    u32 power = 1;
    while (power < n) {
        power *= 2;
    }
    return power;
}

// How many of `n` descending numbers are not zero.
INLINE u32 count_nonzero(const u64 *numbers, u32 n) {
    u32 low = 0, high = n;
    while (low < high) {
        const u32 middle = (low + high) / 2;
        if (numbers[middle] != 0) {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    return low;
}

// How many of the entries of a list do not come after another one.
INLINE u32 count_at_or_before(const Outlier *list, u32 n, const Outlier *other) {
    u32 low = 0, high = n;
    while (low < high) {
        const u32 middle = (low + high) / 2;
        const Outlier entry = list[middle];
        if (comes_before(other, &entry)) {
            high = middle;
        } else {
            low = middle + 1;
        }
    }
    return low;
}

// Joins the candidates of a call to the list; one block does it for a population. `held` has FULL places.
INLINE void join_outliers(const Update *u, u32 population, u64 *held) {
    const u32 n_noted = u->n_candidates[population], k = u->k;
    const u32 n = n_noted > u->n_candidate_slots ? u->n_collectors * k : n_noted;
    if (n == 0 || k == 0) {
        return;
    }
    const u64 *candidates = u->candidates + (u64)population * u->n_candidate_slots;
    u32 n_kept = 0, n_sorted = 0;
    for (u32 next = 0; next < n; next += FULL - k) {
        const u32 n_more = n - next < FULL - k ? n - next : FULL - k;
        n_sorted = power_of_two_from(n_kept + n_more); // FULL is one
        for (u32 i = n_kept + THREAD; i < n_sorted; i += N_THREADS) {
            held[i] = i - n_kept < n_more ? candidates[next + i - n_kept] : 0;
        }
        sort_descending(held, n_sorted);
        n_kept = k;
    }
    // The old list and the new one, side by side; each entry goes to the place that as many entries come before.
    Outlier *old = u->contenders + (u64)population * 2 * k;
    const u32 n_old = u->n_outliers[population];
    Outlier *found = old + n_old;
    const u32 n_new = count_nonzero(held, n_sorted < k ? n_sorted : k);
    for (u32 i = THREAD; i < n_old; i += N_THREADS) {
        old[i] = u->outliers[(u64)population * k + i];
    }
    for (u32 i = THREAD; i < n_new; i += N_THREADS) {
        const u32 index = ALL_INDICES - (u32)held[i];
        found[i] = outlier_at(u, population, index / u->n_dims, index % u->n_dims);
    }
    wait_for_block();
    // Of the new ones the keys alone decide nearly always; that they were listed in the order of their places is not relied on.
    for (u32 i = THREAD; i < n_new; i += N_THREADS) {
        held[i] = found[i].key;
    }
    wait_for_block();
    for (u32 i = THREAD; i < n_old + n_new; i += N_THREADS) {
        const Outlier mine = old[i];
        u32 rank = i < n_old ? i : count_at_or_before(old, n_old, &mine);
        for (u32 j = 0; j < n_new; j++) {
            const u32 key = (u32)held[j];
            rank += key > mine.key;
            if (key == mine.key && n_old + j != i) {
                const Outlier theirs = found[j];
                // Of two that nothing tells apart, the earlier one comes first.
                rank += comes_before(&theirs, &mine) || (n_old + j < i && !comes_before(&mine, &theirs));
            }
        }
        if (rank < k) {
            u->outliers[(u64)population * k + rank] = mine;
        }
    }
    if (THREAD == 0) {
        u->n_outliers[population] = n_old + n_new < k ? n_old + n_new : k;
    }
}

// The largest finite value of each of the first sequences: a warp takes a sequence at a time. `bounds` has N_MAXIMA + 1 places.
INLINE void find_maxima(const Update *u, u32 population, u32 *bounds) {
    const u32 n = u->row_counts[population];
    const u32 lane = THREAD % WARP;
    // Sequences ascend among the listed rows: where the rows of each begin is found by halving.
    if (n == 0 || u->sequence[listed_row(u, population, 0)] >= N_MAXIMA) {
        return;
    }
    if (THREAD <= N_MAXIMA) {
        u32 low = 0, high = n;
        while (low < high) {
            const u32 middle = (low + high) / 2;
            if (u->sequence[listed_row(u, population, middle)] < (i64)THREAD) {
                low = middle + 1;
            } else {
                high = middle;
            }
        }
        bounds[THREAD] = low;
    }
    wait_for_block();
    for (u32 slot = THREAD / WARP; slot < N_MAXIMA; slot += N_THREADS / WARP) {
        u64 best = 0; // the key + 1, and the complement of the row's place in the list
        for (u32 index = bounds[slot] + lane; index < bounds[slot + 1]; index += WARP) {
            const u64 key = u->row_maxima[listed_row(u, population, index)] >> 32;
            const u64 number = key == 0 ? 0 : (key << 32) | (ALL_INDICES - index);
            best = number > best ? number : best;
        }
        for (u32 lanes = WARP / 2; lanes > 0; lanes /= 2) {
            const u64 other = shuffle_u64(best, lanes);
            best = other > best ? other : best;
        }
        if (lane == 0 && best != 0) {
            const u32 index = ALL_INDICES - (u32)best;
            const u32 dim = ALL_INDICES - (u32)u->row_maxima[listed_row(u, population, index)];
            const Outlier found = outlier_at(u, population, index, dim);
            const u32 place = population * N_MAXIMA + slot;
            if (!u->has_maximum[place] || comes_before(&found, &u->maxima[place])) {
                u->maxima[place] = found;
                u->has_maximum[place] = 1;
            }
        }
    }
}
