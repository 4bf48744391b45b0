// Central moments: from sums about a pivot, and merged. Formulas: Pébay, SAND2008-6212; the same steps as in lmfacts-core.

INLINE void two_sum(f64 a, f64 b, f64 *sum, f64 *rest) {
    const f64 rounded = a + b;
    const f64 b_in_sum = rounded - a;
    *sum = rounded;
    *rest = (a - (rounded - b_in_sum)) + (b - b_in_sum);
}

INLINE f64 at_least_zero(f64 sum) { return sum < 0.0 ? 0.0 : sum; }

// The moments of n numbers from the sums of the powers of their distances to a pivot; extremes are left to the caller.
INLINE void set_central(Moments *moments, f64 n, f64 pivot, f64 t1, f64 t2, f64 t3, f64 t4) {
    const f64 delta = t1 / n;
    const f64 delta2 = delta * delta;
    moments->n = n;
    two_sum(pivot, delta, &moments->mean, &moments->mean_lo);
    moments->m2 = at_least_zero(t2 - n * delta2);
    moments->m3 = t3 - 3.0 * delta * t2 + 2.0 * n * delta2 * delta;
    moments->m4 = at_least_zero(t4 - 4.0 * delta * t3 + 6.0 * delta2 * t2 - 3.0 * n * delta2 * delta2);
}

INLINE void merge_moments(Moments *a, const Moments *b) {
    if (b->n == 0.0) {
        return;
    }
    if (a->n == 0.0) {
        *a = *b;
        return;
    }
    const f64 n = a->n + b->n;
    const f64 share_a = a->n / n, share_b = b->n / n;
    const f64 delta = (b->mean - a->mean) + (b->mean_lo - a->mean_lo);
    const f64 delta2 = delta * delta;
    const f64 between2 = delta2 * (a->n * share_b);
    const f64 m2 = a->m2 + b->m2 + between2;
    const f64 m3 = a->m3 + b->m3 + between2 * delta * (share_a - share_b) + 3.0 * delta * (share_a * b->m2 - share_b * a->m2);
    const f64 m4 = a->m4 + b->m4 + between2 * delta2 * (share_a * share_a - share_a * share_b + share_b * share_b)
        + 6.0 * delta2 * (share_a * share_a * b->m2 + share_b * share_b * a->m2)
        + 4.0 * delta * (share_a * b->m3 - share_b * a->m3);
    two_sum(a->mean, a->mean_lo + delta * share_b, &a->mean, &a->mean_lo);
    a->m2 = m2;
    a->m3 = m3;
    a->m4 = m4;
    a->min = b->min < a->min ? b->min : a->min;
    a->max = b->max > a->max ? b->max : a->max;
    a->n = n;
}

// The sum of a value over the threads of a block, in a fixed order; every thread gets it. `scratch` has a place for each warp.
INLINE f64 sum_of_block(f64 value, f64 *scratch) {
    for (u32 lanes = WARP / 2; lanes > 0; lanes /= 2) {
        value += shuffle_f64(value, lanes);
    }
    wait_for_block();
    if (THREAD % WARP == 0) {
        scratch[THREAD / WARP] = value;
    }
    wait_for_block();
    f64 sum = 0.0;
    for (u32 warp = 0; warp < N_THREADS / WARP; warp++) {
        sum += scratch[warp];
    }
    return sum;
}
