//! The levels of x86-64. A file compiles the generic bodies with its instructions switched on.

#![allow(unsafe_code)]

use super::lines::{LINE, Lines};
use crate::dtype::F16;

pub(super) mod avx2;
pub(super) mod avx512;

/// Asks for the memory at a place ahead of its use, into the second cache: the first has no room for rows to come.
#[inline(always)]
pub(super) fn prefetch<T>(place: *const T) {
    use std::arch::x86_64::{_MM_HINT_T1, _mm_prefetch};
    // SAFETY: an instruction that every x86-64 processor has, and that reads nothing a program could see.
    unsafe { _mm_prefetch::<_MM_HINT_T1>(place.cast()) }
}

/// The same word, in a register of its own: words to which the same is done would else be put side by side into a vector, and what they
/// hold be taken out of it again piece by piece.
#[inline(always)]
pub(super) fn in_one_register(mut word: u64) -> u64 {
    // SAFETY: no instruction at all.
    unsafe { std::arch::asm!("/* {0} */", inout(reg) word, options(pure, nomem, nostack, preserves_flags)) };
    word
}

/// Writes four values of each of four columns as rows.
#[inline(always)]
pub(super) fn turn_square(columns: &Lines<f32>, first_column: usize, first_row: usize, rows: &mut Lines<f32>) {
    use std::arch::x86_64::{_MM_TRANSPOSE4_PS, _mm_loadu_ps, _mm_storeu_ps};
    let place = |lines: &Lines<f32>, line: usize, value: usize| lines[line].0[value..value + 4].as_ptr();
    // SAFETY: four values are read or written at each place, and every x86-64 processor has the instructions.
    unsafe {
        let [mut a, mut b, mut c, mut d] =
            [0, 1, 2, 3].map(|index| _mm_loadu_ps(place(columns, first_column + index, first_row)));
        _MM_TRANSPOSE4_PS(&mut a, &mut b, &mut c, &mut d);
        for (index, values) in [a, b, c, d].into_iter().enumerate() {
            _mm_storeu_ps(rows[first_row + index].0[first_column..first_column + 4].as_mut_ptr(), values);
        }
    }
}

/// Eight float16 values at a time.
///
/// # Safety
/// The processor has F16C.
#[inline(always)]
unsafe fn widen_halves(values: &[F16; LINE]) -> [f32; LINE] {
    use std::arch::x86_64::{_mm_loadu_si128, _mm256_cvtph_ps, _mm256_storeu_ps};
    let mut wide = [0.0; LINE];
    for first in [0, 8] {
        // SAFETY: eight values are read and written, and the caller promises the instruction.
        unsafe {
            let eight = _mm_loadu_si128(values[first..first + 8].as_ptr().cast());
            _mm256_storeu_ps(wide[first..first + 8].as_mut_ptr(), _mm256_cvtph_ps(eight));
        }
    }
    wide
}

/// Defines a level by the features that it needs.
macro_rules! level {
    ($level:ident: $($feature:tt),+) => {
        use $crate::kernel::table::{compile_kernels, kernels};

        pub(in $crate::kernel) fn is_available() -> bool {
            $(std::arch::is_x86_feature_detected!($feature))&&+
        }

        kernels!(compile_kernels $level [target_feature($(enable = $feature),+)]);
    };
}
use level;
