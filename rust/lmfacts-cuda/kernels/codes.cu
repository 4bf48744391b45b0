// The histogram of codes, and the outliers' candidates.
//
// A block counts its share of the rows into 32-bit counters in shared memory, one for each key from LMFACTS_FIRST_KEY on. A key
// is a code with its sign rotated to the end, so that keys are ordered as magnitudes and those of ordinary values lie together;
// all others (huge values, NaN, tiny ones if the table does not begin at zero) are counted in global memory one by one, exactly
// and rarely. When a block is done, or comes to rows of another table, its counters are added to the table's 64-bit ones and
// cleared. A block counts fewer than 2^32 values in a launch, so that no counter wraps.
//
// The slot of a key is swizzled over the banks of shared memory: values with few mantissa bits would otherwise meet in few banks.

// With a table that does not begin at zero, the two zeros have slots of their own behind it.
#define N_SLOTS (LMFACTS_SLOTS + (LMFACTS_FIRST_KEY ? 2 : 0))
#define OUTSIDE 0xffffu

INLINE u32 swizzled(u32 slot) { return slot ^ ((slot >> 5) & 31u); }

INLINE u32 rotated(u32 code) { return ((code << 1) | (code >> 15)) & 0xffffu; }

INLINE u32 code_of_slot(u32 slot) {
    u32 key = swizzled(slot) + LMFACTS_FIRST_KEY; // the swizzle undoes itself: the bits that it reads stay
    if (LMFACTS_FIRST_KEY && slot >= LMFACTS_SLOTS) {
        key = slot - LMFACTS_SLOTS;
    }
    return (key >> 1) | ((key & 1) << 15);
}

// What is the same for all values of a population in a call.
typedef struct {
    u64 *table; // of codes, in global memory
    u64 *candidates;
    u32 *n_candidates;
    u32 n_slots; // for candidates
    u32 floor; // keys of magnitudes below it are no candidates
} Counting;

// The magnitude's key from which on a value may belong among the outliers. While the list is not full, every value may, and the
// collecting kernel has to find them: it is told so by a count that is too high.
INLINE u32 floor_of(const Update *u, u32 population) {
    if (u->n_outliers[population] < u->k || u->row_counts[population] == 0) {
        if (u->k > 0 && BLOCK == 0 && THREAD == 0 && u->row_counts[population] > 0) {
            *(u->n_candidates + population) = u->n_candidate_slots + 1;
        }
        return INFINITY_KEY;
    }
    if (u->k == 0) {
        return INFINITY_KEY;
    }
    const Outlier *last = &u->outliers[(u64)population * u->k + u->k - 1];
    // Rows come in the order of their places. If all of them come later than the last of the list, an equal magnitude is not
    // enough.
    const u32 row = listed_row(u, population, 0);
    const i64 sequence = u->sequence[row];
    const u32 later = sequence > last->sequence || (sequence == last->sequence && u->position[row] > last->position);
    return last->key + later;
}

INLINE u32 slot_or_outside(u32 code) {
    const u32 key = rotated(code);
    if (LMFACTS_FIRST_KEY && key < 2) {
        return LMFACTS_SLOTS + key;
    }
    const u32 slot = key - LMFACTS_FIRST_KEY;
    return slot < LMFACTS_SLOTS ? swizzled(slot) : OUTSIDE;
}

RARE void offer_candidate(u64 *candidates, u32 *n_candidates, u32 n_slots, u64 number) {
    if (*(volatile u32 *)n_candidates <= n_slots) {
        const u32 place = take_number(n_candidates);
        if (place < n_slots) {
            candidates[place] = number;
        }
    }
}

// A value that may need more than a counter in shared memory; one that has such a counter is counted by the caller if
// `is_counted`.
INLINE void take_rare_value(const Counting *counting, u32 bits, u32 index, u32 is_counted) {
    const u32 key = key_of(bits);
    const u32 code = code_of(bits);
    if (!is_counted || slot_or_outside(code) == OUTSIDE) {
        add_count(&counting->table[code], 1);
    }
    if (key >= counting->floor && key < INFINITY_KEY) {
        offer_candidate(counting->candidates, counting->n_candidates, counting->n_slots, ((u64)key << 32) | (ALL_INDICES - index));
    }
}

INLINE void take_single_value(u32 *counters, const Counting *counting, u32 bits, u32 index) {
    const u32 slot = slot_or_outside(code_of(bits));
    if (slot != OUTSIDE) {
        count_one(&counters[slot]);
    }
    if (slot == OUTSIDE || key_of(bits) >= counting->floor) {
        take_rare_value(counting, bits, index, 1);
    }
}

// A table that begins at zero takes two codes at a time, each a half of a word.
INLINE void count_halves(u32 *counters, u32 codes, u32 *largest) {
    u32 keys = ((codes << 1) & 0xfffefffeu) | ((codes >> 15) & 0x00010001u);
    *largest = larger_halves(*largest, keys);
    keys = smaller_halves(keys, LMFACTS_SLOTS * 0x10001u); // the slot behind the table takes what has none
    const u32 slots = keys ^ ((keys >> 5) & 0x001f001fu);
    count_one(&counters[slots & 0xffffu]);
    count_one(&counters[slots >> 16]);
}

INLINE void take_words(u32 *counters, const Counting *counting, const Words *words, u32 index) {
#if LMFACTS_FIRST_KEY
    UNROLL for (u32 i = 0; i < PER_WORDS; i++) {
        take_single_value(counters, counting, value_in(words, i), index + i);
    }
#else
    u32 largest = 0;
    u32 is_rare;
#if VALUE_BYTES == 4
    UNROLL for (u32 i = 0; i < 4; i += 2) {
        count_halves(counters, (words->word[i] >> 16) | (words->word[i + 1] & 0xffff0000u), &largest);
    }
    u32 largest_key = 0;
    UNROLL for (u32 i = 0; i < 4; i++) {
        const u32 key = key_of(words->word[i]);
        largest_key = key > largest_key ? key : largest_key;
    }
    is_rare = largest_key >= counting->floor;
    is_rare |= larger_halves(largest, LMFACTS_SLOTS * 0x10001u - 0x10001u) != LMFACTS_SLOTS * 0x10001u - 0x10001u;
#else
    UNROLL for (u32 i = 0; i < 4; i++) {
        count_halves(counters, words->word[i], &largest);
    }
    const u32 floor = 2 * counting->floor;
    const u32 below = (floor < LMFACTS_SLOTS ? floor : LMFACTS_SLOTS) * 0x10001u - 0x10001u;
    is_rare = floor == 0 || larger_halves(largest, below) != below;
#endif
    if (is_rare) {
        for (u32 i = 0; i < PER_WORDS; i++) {
            const u32 bits = value_in(words, i);
            if (key_of(bits) >= counting->floor || slot_or_outside(code_of(bits)) == OUTSIDE) {
                take_rare_value(counting, bits, index + i, 1);
            }
        }
    }
#endif
}

// Counts the listed rows `start..end`, whose values lie in one table.
INLINE void count_rows(const Update *u, u32 *counters, const Counting *counting, u32 start, u32 end) {
    const u32 per_row = u->aligned ? u->n_dims / PER_WORDS : u->n_dims;
    const u32 n_rows_a_step = N_THREADS / per_row, n_more_a_step = N_THREADS % per_row;
    u32 index = start + THREAD / per_row, at = THREAD % per_row;
    while (index < end) {
        Words words[4];
        u32 starts[4], n = 0;
        UNROLL for (u32 i = 0; i < 4; i++) {
            starts[i] = index * u->n_dims + at * (u->aligned ? PER_WORDS : 1);
            if (index < end) {
                const u8 *row = row_at(u, listed_row(u, REST, index));
                if (u->aligned) {
                    words[i] = load_words(row + 16 * (u64)at);
                } else {
                    words[i].word[0] = load_value(row, at);
                }
                n = i + 1;
            }
            index += n_rows_a_step;
            at += n_more_a_step;
            if (at >= per_row) {
                at -= per_row;
                index++;
            }
        }
        UNROLL for (u32 i = 0; i < 4; i++) {
            if (i < n) {
                if (u->aligned) {
                    take_words(counters, counting, &words[i], starts[i]);
                } else {
                    take_single_value(counters, counting, words[i].word[0], starts[i]);
                }
            }
        }
    }
}

// Adds what was counted to the table and clears the counters.
INLINE void flush(u32 *counters, u64 *table) {
    wait_for_block();
    for (u32 slot = THREAD; slot < N_SLOTS; slot += N_THREADS) {
        const u32 count = counters[slot];
        if (count > 0) {
            counters[slot] = 0;
            add_count(&table[code_of_slot(slot)], count);
        }
    }
    wait_for_block();
}

KERNEL(1024, 1) codes(ARGUMENTS(Update) u) {
    DYNAMIC_SHARED(counters);
    SHARED u32 segment_end;
    for (u32 slot = THREAD; slot <= N_SLOTS; slot += N_THREADS) {
        counters[slot] = 0;
    }
    Counting counting;
    counting.n_slots = u.n_candidate_slots;
    const u32 n = u.row_counts[REST];
    const u32 end = start_of_part(n, N_BLOCKS, BLOCK + 1);
    u32 start = start_of_part(n, N_BLOCKS, BLOCK);
    counting.candidates = u.candidates + (u64)REST * u.n_candidate_slots;
    counting.n_candidates = u.n_candidates + REST;
    counting.floor = floor_of(&u, REST);
    while (start < end) {
        u32 block = 0;
        if (u.by_block) {
            block = block_of(u.sequence[listed_row(&u, REST, start)]);
        }
        wait_for_block();
        if (THREAD == 0) {
            segment_end = end;
        }
        wait_for_block();
        for (u32 index = start + THREAD; u.by_block && index < end; index += N_THREADS) {
            if (block_of(u.sequence[listed_row(&u, REST, index)]) != block) {
                atomic_min(&segment_end, index);
                break;
            }
        }
        wait_for_block();
        counting.table = u.codes + (u64)(1 + block) * N_CODES;
        const u32 until = segment_end;
        count_rows(&u, counters, &counting, start, until);
        flush(counters, counting.table);
        start = until;
    }

    // The first tokens are few, and all different tables: they are counted in global memory.
    counting.table = u.codes;
    counting.candidates = u.candidates;
    counting.n_candidates = u.n_candidates;
    counting.floor = floor_of(&u, FIRST);
    for (u32 index = BLOCK; index < u.row_counts[FIRST]; index += N_BLOCKS) {
        const u8 *row = row_at(&u, listed_row(&u, FIRST, index));
        for (u32 dim = THREAD; dim < u.n_dims; dim += N_THREADS) {
            take_rare_value(&counting, load_value(row, dim), index * u.n_dims + dim, 0);
        }
    }
}
