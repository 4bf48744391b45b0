// Row by row: the norm before and after centering, and where the largest finite magnitude stands. A warp takes a row.

// Below this share of the sum of squares, the centered one has lost too many digits to be a difference of sums.
#define CENTERED_SHARE 1e-3

typedef struct {
    f64 sum, square;
    u32 all; // the largest key
    u32 largest, dim; // of finite values: the largest key + 1 (0: none), and its first dim
} RowSums;

INLINE void take_value(RowSums *sums, u32 bits, u32 dim) {
    const u32 key = key_of(bits);
    const f64 x = (f64)value_of(bits);
    sums->sum += x;
    sums->square += x * x;
    sums->all = key > sums->all ? key : sums->all;
    if (key >= sums->largest && key < INFINITY_KEY) {
        sums->largest = key + 1;
        sums->dim = dim;
    }
}

INLINE f64 squares_about(const Update *u, const u8 *row, f64 mean) {
    f64 square = 0.0;
    for (u32 dim = THREAD % WARP; dim < u->n_dims; dim += WARP) {
        const f64 distance = (f64)value_of(load_value(row, dim)) - mean;
        square += distance * distance;
    }
    for (u32 lanes = WARP / 2; lanes > 0; lanes /= 2) {
        square += shuffle_f64(square, lanes);
    }
    return square;
}

KERNEL(256, 4) rows(ARGUMENTS(Update) u) {
    const u32 lane = THREAD % WARP;
    if (BLOCK == 0 && THREAD < 2) {
        u.n_candidates[THREAD] = 0; // for the kernels that follow
    }
    const u32 n_first = u.row_counts[FIRST], n_rest = u.row_counts[REST];
    for (u32 index = BLOCK * (N_THREADS / WARP) + THREAD / WARP; index < n_first + n_rest;
         index += N_BLOCKS * (N_THREADS / WARP)) {
        const u32 population = index < n_first ? FIRST : REST;
        const u32 row_index = listed_row(&u, population, population == FIRST ? index : index - n_first);
        const u8 *row = row_at(&u, row_index);
        RowSums sums = {0.0, 0.0, 0, 0, 0};
        if (u.aligned) {
            const u32 n = u.n_dims / PER_WORDS;
            u32 at = lane;
            for (; at + 3 * WARP < n; at += 4 * WARP) {
                Words words[4];
                UNROLL for (u32 i = 0; i < 4; i++) {
                    words[i] = load_words(row + 16 * (u64)(at + i * WARP));
                }
                UNROLL for (u32 i = 0; i < 4; i++) {
                    UNROLL for (u32 j = 0; j < PER_WORDS; j++) {
                        take_value(&sums, value_in(&words[i], j), (at + i * WARP) * PER_WORDS + j);
                    }
                }
            }
            for (; at < n; at += WARP) {
                const Words words = load_words(row + 16 * (u64)at);
                UNROLL for (u32 j = 0; j < PER_WORDS; j++) {
                    take_value(&sums, value_in(&words, j), at * PER_WORDS + j);
                }
            }
        } else {
            for (u32 dim = lane; dim < u.n_dims; dim += WARP) {
                take_value(&sums, load_value(row, dim), dim);
            }
        }
        // Equal magnitudes: the smaller dim has the larger complement.
        u64 largest = sums.largest == 0 ? 0 : ((u64)sums.largest << 32) | (ALL_INDICES - sums.dim);
        u64 all = sums.all;
        for (u32 lanes = WARP / 2; lanes > 0; lanes /= 2) {
            sums.sum += shuffle_f64(sums.sum, lanes);
            sums.square += shuffle_f64(sums.square, lanes);
            const u64 other = shuffle_u64(largest, lanes), other_all = shuffle_u64(all, lanes);
            largest = other > largest ? other : largest;
            all = other_all > all ? other_all : all;
        }
        f64 norm = sqrt(-1.0), centered_norm = norm; // no norm: not a number
        if (all < INFINITY_KEY) {
            const f64 mean = sums.sum / u.n_dims;
            f64 centered = sums.square - sums.sum * mean;
            if (centered <= CENTERED_SHARE * sums.square) {
                centered = squares_about(&u, row, mean);
            }
            norm = sqrt(sums.square);
            centered_norm = sqrt(centered);
            if (lane == 0) {
                add_count(&u.norm_codes[(u64)population * N_CODES + code_of_f64(norm)], 1);
            }
        }
        if (lane == 0) {
            const f64 inverse = 1.0 / norm;
            u.row_inverses[row_index] = inverse > 0.0 && inverse < LARGEST_F64 ? inverse : 0.0;
            u.row_maxima[row_index] = largest;
            u.blocks[index] = block_of(u.sequence[row_index]);
        }
        // A lane for each quantity: the norm, its logarithm, that of the norm after centering.
        if (lane < N_TOKEN_QUANTITIES) {
            const f64 of_lane = lane == 2 ? centered_norm : norm;
            u.quantities[lane * u.n_rows + index] = lane == 0 ? norm : log(of_lane);
        }
    }
}
