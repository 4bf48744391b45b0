//! AVX2: four f64 lanes a register, and sixteen registers, so that one group of four dims keeps all its sums in them. The bodies of all
//! kernels are in `rows.rs`, `generic.rs` and `sketch.rs`.

use crate::dtype::F16;
use crate::kernel::lines::{Instructions, LINE};

const DIMS: usize = 4;
const ROWS: usize = 4;
const ROW_LANES: usize = 4;
const FLOATS: usize = 4 * ROW_LANES;

super::level!(Avx2: "avx2", "fma", "f16c", "bmi1", "bmi2");

/// AVX2 has F16C beside it.
struct Own;

impl Instructions for Own {
    #[inline(always)]
    fn widen_halves(values: &[F16; LINE]) -> [f32; LINE] {
        // SAFETY: only the kernels of this level are given these instructions.
        unsafe { super::widen_halves(values) }
    }
}
