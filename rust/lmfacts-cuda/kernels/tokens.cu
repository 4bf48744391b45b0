// Which sequence and position the tokens of a pass have, from what `lmfacts.pass_tokens.call` says of them on the device: what
// `lmfacts.pass_tokens.numbering.TokenReader` does on the host, with the numbering of sequences kept in device memory, so that a
// pass that is replayed from a CUDA graph is numbered anew.

typedef struct {
    const u8 *data; // null: not given
    i64 row_stride, column_stride; // in elements
    u32 bytes; // of an element
    u32 is_float;
} Argument;

typedef struct {
    Argument ids, real_given, starts; // token ids; 0 for padding; 0 where a sequence begins
    Argument earlier; // [n_rows][1]: real tokens of each row in earlier passes
    Argument length; // one number: if it is 0, the pass does not go on with anything
    u32 n_rows, n_columns;
    u32 n_earlier; // the same as earlier for all rows, if that is not given
    u32 continues; // whether this pass goes on with the sequences of the one before
    i64 *sequence, *position, *token_id; // [n_rows][n_columns]
    u8 *real; // [n_rows][n_columns]
    u32 *row_lists; // tokens of `first`, ascending, then n_rows x n_columns further on those of `rest`
    u32 *row_counts; // [2]
    i64 *last; // [n_rows]: the sequence of each row's last token
    u32 *begun; // [n_rows]: scratch
    u64 *totals; // sequences, tokens and passes so far
} Tokens;

INLINE u64 element_of(const Argument *argument, u32 row, u32 column) {
    const u8 *address = argument->data + (row * argument->row_stride + column * argument->column_stride) * argument->bytes;
    if (argument->bytes == 8) {
        return *(const u64 *)address;
    }
    if (argument->bytes == 4) {
        return *(const u32 *)address;
    }
    return argument->bytes == 2 ? *(const u16 *)address : *address;
}

INLINE u32 is_nonzero(const Argument *argument, u32 row, u32 column) {
    u64 bits = element_of(argument, row, column);
    if (argument->is_float) {
        bits &= ~((u64)1 << (8 * argument->bytes - 1)); // -0 is zero
    }
    return bits != 0;
}

INLINE u32 is_real(const Tokens *t, u32 row, u32 column) {
    return t->real_given.data == 0 || is_nonzero(&t->real_given, row, column);
}

// A position of 0 is where a sequence begins, and so is a row's first token; padding has no say.
INLINE u32 begins_at(const Tokens *t, u32 row, u32 column, u32 real, u32 n_real_before) {
    return real && (n_real_before == 0 || element_of(&t->starts, row, column) == 0);
}

// A whole number of 4 or 8 bytes, with its sign.
INLINE i64 integer_of(const Argument *argument, u32 row, u32 column) {
    const u64 bits = element_of(argument, row, column);
    return argument->bytes == 8 ? (i64)bits : (i64)(int)(u32)bits;
}

INLINE u32 lanes_below(u32 lane) { return (1u << lane) - 1u; }

// How many sequences begin in a row, and whether one does so after its first token. A warp does it together.
INLINE void count_begins(const Tokens *t, u32 row, u32 *any_inside) {
    const u32 lane = THREAD % WARP;
    u32 n_real = 0, n_begun = 0;
    for (u32 start = 0; start < t->n_columns; start += WARP) {
        const u32 column = start + lane;
        const u32 real = column < t->n_columns && is_real(t, row, column);
        const u32 reals = warp_ballot(real);
        const u32 before = n_real + count_bits(reals & lanes_below(lane));
        const u32 begins = real && begins_at(t, row, column, real, before);
        n_begun += count_bits(warp_ballot(begins));
        if (begins && before > 0) {
            *any_inside = 1;
        }
        n_real += count_bits(reals);
    }
    if (lane == 0) {
        t->begun[row] = n_begun;
    }
}

// Writes what is known of the tokens of a row. `first_sequence` is that of its first token.
INLINE void describe_row(const Tokens *t, u32 row, i64 first_sequence, u32 by_begins) {
    const u32 lane = THREAD % WARP;
    i64 n_earlier = 0;
    if (!by_begins) {
        n_earlier = t->earlier.data == 0 ? (i64)t->n_earlier : integer_of(&t->earlier, row, 0);
    }
    u32 n_real = 0, n_begun = 0, begun_at = 0;
    for (u32 start = 0; start < t->n_columns; start += WARP) {
        const u32 column = start + lane;
        const u32 inside = column < t->n_columns;
        const u32 real = inside && is_real(t, row, column);
        const u32 reals = warp_ballot(real);
        // As a cumulative sum has it: a token of padding has the position of the real one before it.
        const i64 in_row = (i64)(n_real + count_bits(reals & (lanes_below(lane) | (1u << lane)))) - 1;
        i64 sequence = first_sequence, position = n_earlier + in_row;
        if (by_begins) {
            const u32 begins = warp_ballot(real && begins_at(t, row, column, real, n_real + count_bits(reals & lanes_below(lane))));
            const u32 begun = begins & (lanes_below(lane) | (1u << lane));
            sequence += (i64)(n_begun + count_bits(begun)) - 1;
            u32 last_begun_at = begun_at;
            if (begun != 0) {
                last_begun_at = n_real + count_bits(reals & lanes_below(highest_bit(begun)));
            }
            position = in_row - last_begun_at;
            if (begins != 0) {
                begun_at = n_real + count_bits(reals & lanes_below(highest_bit(begins)));
            }
            n_begun += count_bits(begins);
        }
        n_real += count_bits(reals);
        if (inside) {
            const u32 token = row * t->n_columns + column;
            t->sequence[token] = sequence;
            t->position[token] = position;
            i64 id = -1;
            if (t->ids.data != 0) {
                id = integer_of(&t->ids, row, column);
            }
            t->token_id[token] = id;
            t->real[token] = (u8)real;
            if (column == t->n_columns - 1) {
                t->last[row] = sequence;
            }
        }
    }
}

KERNEL(512, 1) tokens(ARGUMENTS(Tokens) t) {
    SHARED u32 any_inside;
    SHARED u32 in_warp[2][16];
    const u32 warp = THREAD / WARP, lane = THREAD % WARP, n_warps = N_THREADS / WARP;
    const i64 n_sequences = (i64)t.totals[0];
    const u32 continues = t.continues && (t.length.data == 0 || is_nonzero(&t.length, 0, 0));
    if (THREAD == 0) {
        any_inside = 0;
    }
    wait_for_block();
    if (!continues && t.starts.data != 0) {
        for (u32 row = warp; row < t.n_rows; row += n_warps) {
            count_begins(&t, row, &any_inside);
        }
    }
    wait_for_block();
    const u32 by_begins = any_inside;
    u64 n_new = continues ? 0 : t.n_rows;
    if (by_begins) {
        n_new = 0;
        for (u32 row = 0; row < t.n_rows; row++) {
            n_new += t.begun[row];
        }
    }
    u32 n_before = 0, counted = 0;
    for (u32 row = warp; row < t.n_rows; row += n_warps) {
        i64 first_sequence = n_sequences + row;
        if (continues) {
            first_sequence = t.last[row];
        } else if (by_begins) {
            for (; counted < row; counted++) {
                n_before += t.begun[counted];
            }
            first_sequence = n_sequences + n_before;
        }
        describe_row(&t, row, first_sequence, by_begins);
    }
    wait_for_block();

    // The rows of either population, in order.
    const u32 n = t.n_rows * t.n_columns;
    u32 n_listed[2] = {0, 0};
    for (u32 start = 0; start < n; start += N_THREADS) {
        const u32 token = start + THREAD;
        const u32 real = token < n && t.real[token];
        const u32 is_first = real && t.position[token] == 0;
        const u32 of[2] = {warp_ballot(is_first), warp_ballot(real && !is_first)};
        if (lane < 2) {
            in_warp[lane][warp] = count_bits(lane == 0 ? of[0] : of[1]);
        }
        wait_for_block();
        UNROLL for (u32 population = 0; population < 2; population++) {
            u32 before = 0, all = 0;
            for (u32 other = 0; other < n_warps; other++) {
                before += other < warp ? in_warp[population][other] : 0;
                all += in_warp[population][other];
            }
            if (real && is_first == (population == FIRST)) {
                const u32 place = n_listed[population] + before + count_bits(of[population] & lanes_below(lane));
                t.row_lists[population * n + place] = token;
            }
            n_listed[population] += all;
        }
        wait_for_block();
    }
    if (THREAD == 0) {
        t.row_counts[FIRST] = n_listed[FIRST];
        t.row_counts[REST] = n_listed[REST];
        t.totals[0] = (u64)n_sequences + n_new;
        t.totals[1] += n_listed[FIRST] + n_listed[REST];
        t.totals[2] += 1;
    }
}
