//! AVX-512: eight f64 lanes a register, and thirty-two registers, so that sixteen dims, one cache line of f32, go together where a kernel
//! takes group by group, and four rows where it goes along them. Here are sizes and what has instructions of its own; the bodies of all
//! kernels are in `rows.rs`, `generic.rs` and `sketch.rs`, the element types in `dtype.rs`.

use crate::dtype::F16;
use crate::kernel::lines::{Instructions, LINE, Lines};

const DIMS: usize = 16;
const ROWS: usize = 4;
const ROW_LANES: usize = 8;
const FLOATS: usize = 4 * ROW_LANES;

super::level!(
    Avx512: "avx512f", "avx512bw", "avx512dq", "avx512vl", "avx2", "fma", "f16c", "bmi1", "bmi2"
);

/// Registers of sixteen f32, which are a line.
struct Own;

impl Instructions for Own {
    #[inline(always)]
    fn widen_halves(values: &[F16; LINE]) -> [f32; LINE] {
        // SAFETY: only the kernels of this level are given these instructions.
        unsafe { super::widen_halves(values) }
    }

    /// Four rows at a time: four columns stand in the quarters of a register, and each quarter is turned.
    #[inline(always)]
    fn turn(columns: &Lines<f32>, rows: &mut Lines<f32>) {
        use std::arch::x86_64::{
            _mm_loadu_ps, _mm512_castpd_ps, _mm512_castps_pd, _mm512_castps128_ps512, _mm512_insertf32x4, _mm512_storeu_ps,
            _mm512_unpackhi_pd, _mm512_unpackhi_ps, _mm512_unpacklo_pd, _mm512_unpacklo_ps,
        };
        for first in (0..LINE).step_by(4) {
            // SAFETY: four values are read and sixteen written at each place; the instructions as above.
            unsafe {
                let quarter = |column: usize| _mm_loadu_ps(columns[column].0[first..first + 4].as_ptr());
                let four_columns = |column: usize| {
                    let two = _mm512_insertf32x4::<1>(_mm512_castps128_ps512(quarter(column)), quarter(column + 4));
                    _mm512_insertf32x4::<3>(_mm512_insertf32x4::<2>(two, quarter(column + 8)), quarter(column + 12))
                };
                let (a, b, c, d) = (four_columns(0), four_columns(1), four_columns(2), four_columns(3));
                let (ab, cd) = (_mm512_castps_pd(_mm512_unpacklo_ps(a, b)), _mm512_castps_pd(_mm512_unpacklo_ps(c, d)));
                _mm512_storeu_ps(rows[first].0.as_mut_ptr(), _mm512_castpd_ps(_mm512_unpacklo_pd(ab, cd)));
                _mm512_storeu_ps(rows[first + 1].0.as_mut_ptr(), _mm512_castpd_ps(_mm512_unpackhi_pd(ab, cd)));
                let (ab, cd) = (_mm512_castps_pd(_mm512_unpackhi_ps(a, b)), _mm512_castps_pd(_mm512_unpackhi_ps(c, d)));
                _mm512_storeu_ps(rows[first + 2].0.as_mut_ptr(), _mm512_castpd_ps(_mm512_unpacklo_pd(ab, cd)));
                _mm512_storeu_ps(rows[first + 3].0.as_mut_ptr(), _mm512_castpd_ps(_mm512_unpackhi_pd(ab, cd)));
            }
        }
    }
}
