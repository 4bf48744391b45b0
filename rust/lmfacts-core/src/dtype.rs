//! Element types: how a value is widened, how its magnitude is ordered, and what its 16-bit code is.
//!
//! The *code* of a value is the 16-bit pattern that the histogram counts. For bfloat16 and float16 it is the whole value, so the
//! histogram of the codes is the exact distribution. For float32 it is the upper half of the pattern: sign, exponent and the
//! first seven mantissa bits, so that code `c` stands for all magnitudes from its own value up to the next code's. A float64 is
//! truncated toward zero to float32 first, which keeps that reading. Every float8 is a float16 too, and has its code.

use std::fmt;
use std::ops::{Add, Neg};

use crate::kernel::{Instructions, LINE, Turned};

/// The types whose values can be counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Dtype {
    /// IEEE binary64.
    F64,
    /// IEEE binary32.
    F32,
    /// bfloat16: the upper half of a binary32.
    Bf16,
    /// IEEE binary16.
    F16,
    /// 8 bits: 4 of exponent, 3 of mantissa, no infinities.
    F8E4M3,
    /// 8 bits: 5 of exponent, 2 of mantissa.
    F8E5M2,
}

impl Dtype {
    /// All supported types.
    pub const ALL: [Self; 6] = [Self::F64, Self::F32, Self::Bf16, Self::F16, Self::F8E4M3, Self::F8E5M2];

    /// The name that torch and NumPy use.
    pub const fn name(self) -> &'static str {
        match self {
            Self::F64 => "float64",
            Self::F32 => "float32",
            Self::Bf16 => "bfloat16",
            Self::F16 => "float16",
            Self::F8E4M3 => "float8_e4m3fn",
            Self::F8E5M2 => "float8_e5m2",
        }
    }

    /// The type of that name.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|dtype| dtype.name() == name)
    }

    /// Bytes of one value.
    pub const fn size(self) -> usize {
        match self {
            Self::F64 => 8,
            Self::F32 => 4,
            Self::Bf16 | Self::F16 => 2,
            Self::F8E4M3 | Self::F8E5M2 => 1,
        }
    }
}

impl fmt::Display for Dtype {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// A bfloat16 value as its bits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(transparent)]
pub struct Bf16(pub u16);

/// A float16 value as its bits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(transparent)]
pub struct F16(pub u16);

/// Values whose codes are taken together.
#[doc(hidden)]
pub const GROUP: usize = 8;

mod sealed {
    /// What no other crate can name, and so cannot implement.
    pub trait Sealed {}
}

/// A value that can be counted.
///
/// Kernels are generic over this trait and contain no branch on the type. It can be used everywhere:
///
/// ```
/// use lmfacts_core::dtype::{Bf16, Element};
///
/// fn largest<E: Element>(values: &[E]) -> f64 {
///     values.iter().map(|value| value.widen().abs()).fold(0.0, f64::max)
/// }
/// assert_eq!(largest(&[Bf16::narrow(1.5), Bf16::narrow(-2.0)]), 2.0);
/// ```
///
/// It is sealed: views read memory as `E` wherever it holds an [`Element::DTYPE`], so a type that claimed another's would let safe code
/// read out of bounds.
///
/// ```compile_fail,E0277
/// #[derive(Debug, Clone, Copy)]
/// struct Wide([f32; 64]);
///
/// impl lmfacts_core::Element for Wide {
///     const DTYPE: lmfacts_core::Dtype = lmfacts_core::Dtype::F32; // 4 bytes, of the 256 that are read
///     type Key = u32;
///     const INFINITY_KEY: u32 = 0x7f80_0000;
///     type Ordered = f32;
///     const LARGEST: f32 = f32::INFINITY;
///     const SMALLEST: f32 = f32::NEG_INFINITY;
///     fn widen(self) -> f64 { self.0[63].into() }
///     fn ordered(self) -> f32 { self.0[63] }
///     fn key(self) -> u32 { self.0[63].to_bits() & 0x7fff_ffff }
///     fn code(self) -> u16 { (self.0[63].to_bits() >> 16) as u16 }
///     fn narrow(value: f64) -> Self { Self([value as f32; 64]) }
///     fn of_key(key: u64) -> Self { Self([f32::from_bits(key as u32); 64]) }
/// }
/// ```
pub trait Element: sealed::Sealed + Copy + Send + Sync + fmt::Debug + 'static {
    /// The type's run-time name.
    const DTYPE: Dtype;
    /// The magnitude as an unsigned integer, ordered as the magnitudes are; NaN sorts above infinity.
    type Key: Copy + Ord + Default + From<u8> + Into<u64> + Add<Output = Self::Key> + Send + Sync + fmt::Debug;
    /// The key of infinity: the value is finite if and only if its key is smaller.
    const INFINITY_KEY: Self::Key;

    #[doc(hidden)]
    /// The narrowest type with the values' order that the processor compares.
    type Ordered: Copy + Default + PartialOrd + Neg<Output = Self::Ordered> + Into<f64> + Turned + Send + Sync + fmt::Debug;
    #[doc(hidden)]
    /// Infinity, in that type.
    const LARGEST: Self::Ordered;
    #[doc(hidden)]
    /// Negative infinity.
    const SMALLEST: Self::Ordered;

    #[doc(hidden)]
    /// Mantissa bits of a code; a code has the bits of a bfloat16 unless a type says otherwise.
    const CODE_MANTISSA_BITS: u32 = 7;

    /// The value as f64, exactly.
    fn widen(self) -> f64;
    #[doc(hidden)]
    /// The value in the type in which it is compared.
    fn ordered(self) -> Self::Ordered;
    /// The magnitude's key.
    fn key(self) -> Self::Key;
    /// The code of a value that is no NaN (of any value for 16-bit types); of a float32 NaN the upper half of its bits.
    fn code(self) -> u16;
    #[doc(hidden)]
    /// Hands over the codes of a group, each with its index; takes them with as few loads as there can be. `arrange` is given up to four
    /// codes, each in 16 bits of a word, and gives what is to be handed over in their places; it keeps these 16 bits to themselves.
    #[inline(always)]
    fn each_code(group: &[Self; GROUP], arrange: impl Fn(u64) -> u64, mut take: impl FnMut(usize, u16)) {
        for (lane, value) in group.iter().enumerate() {
            take(lane, arrange(value.code().into()) as u16);
        }
    }
    #[doc(hidden)]
    /// The upper half of the float32 nearest to a finite value toward zero; a function of its code.
    #[inline(always)]
    fn float_code(self) -> u16 {
        self.code()
    }
    /// The code of any value; a NaN never gets the code of infinity.
    #[inline(always)]
    fn code_of_any(self) -> u16 {
        self.code()
    }
    /// The value nearest to `value`; exact when `value` was widened from this type.
    fn narrow(value: f64) -> Self;
    #[doc(hidden)]
    /// The value of no sign with this key.
    fn of_key(key: u64) -> Self;
    #[doc(hidden)]
    /// Values as `ordered` gives them, in a level's own instructions; what becomes of a NaN's bits is open.
    #[inline(always)]
    fn ordered_line<I: Instructions>(values: &[Self; LINE]) -> [Self::Ordered; LINE] {
        let mut ordered = [Self::Ordered::default(); LINE];
        for lane in 0..LINE {
            ordered[lane] = values[lane].ordered();
        }
        ordered
    }
}

impl Element for f64 {
    const DTYPE: Dtype = Dtype::F64;
    type Key = u64;
    const INFINITY_KEY: u64 = 0x7ff0_0000_0000_0000;
    type Ordered = f64;
    const LARGEST: f64 = f64::INFINITY;
    const SMALLEST: f64 = f64::NEG_INFINITY;

    #[inline(always)]
    fn ordered(self) -> f64 {
        self
    }

    #[inline(always)]
    fn widen(self) -> f64 {
        self
    }

    #[inline(always)]
    fn key(self) -> u64 {
        self.to_bits() & 0x7fff_ffff_ffff_ffff
    }

    #[inline(always)]
    fn code(self) -> u16 {
        if self.is_nan() {
            // The bits of a NaN that was cast are no fixed ones.
            return quiet_nan(self.is_sign_negative());
        }
        let rounded = self as f32;
        // Rounding went away from zero (perhaps to infinity): the next pattern toward zero is the truncation.
        let away = u32::from(f64::from(rounded).abs() > self.abs());
        ((rounded.to_bits() - away) >> 16) as u16
    }

    #[inline(always)]
    fn of_key(key: u64) -> Self {
        f64::from_bits(key)
    }

    #[inline(always)]
    fn narrow(value: f64) -> Self {
        value
    }
}

impl Element for f32 {
    const DTYPE: Dtype = Dtype::F32;
    type Key = u32;
    const INFINITY_KEY: u32 = 0x7f80_0000;
    type Ordered = f32;
    const LARGEST: f32 = f32::INFINITY;
    const SMALLEST: f32 = f32::NEG_INFINITY;

    #[inline(always)]
    fn ordered(self) -> f32 {
        self
    }

    #[inline(always)]
    fn widen(self) -> f64 {
        f64::from(self)
    }

    #[inline(always)]
    fn key(self) -> u32 {
        self.to_bits() & 0x7fff_ffff
    }

    #[inline(always)]
    fn code(self) -> u16 {
        (self.to_bits() >> 16) as u16
    }

    #[inline(always)]
    fn each_code(group: &[Self; GROUP], arrange: impl Fn(u64) -> u64, mut take: impl FnMut(usize, u16)) {
        for lane in (0..GROUP).step_by(2) {
            // One load of 64 bits, from which two codes are shifted out.
            let bits = arrange(u64::from(group[lane].to_bits()) | u64::from(group[lane + 1].to_bits()) << 32);
            take(lane, (bits >> 16) as u16);
            take(lane + 1, (bits >> 48) as u16);
        }
    }

    #[inline(always)]
    fn code_of_any(self) -> u16 {
        if self.is_nan() { quiet_nan(self.is_sign_negative()) } else { self.code() }
    }

    #[inline(always)]
    fn of_key(key: u64) -> Self {
        f32::from_bits(key as u32)
    }

    #[inline(always)]
    fn narrow(value: f64) -> Self {
        value as f32
    }
}

macro_rules! seal {
    ($($type:ty),*) => {
        $(impl sealed::Sealed for $type {})*
    };
}
seal!(f64, f32, Bf16, F16, F8E4M3, F8E5M2);

/// Hands over contiguous codes, four from each load of 64 bits.
#[inline(always)]
fn each_by_fours(codes: [u16; GROUP], arrange: impl Fn(u64) -> u64, mut take: impl FnMut(usize, u16)) {
    for lane in (0..GROUP).step_by(4) {
        let bits = arrange((0..4).fold(0, |bits, index| bits | u64::from(codes[lane + index]) << (16 * index)));
        for index in 0..4 {
            take(lane + index, (bits >> (16 * index)) as u16);
        }
    }
}

/// The code under which every NaN wider than 16 bits is counted.
const fn quiet_nan(negative: bool) -> u16 {
    if negative { 0xffc0 } else { 0x7fc0 }
}

impl Element for Bf16 {
    const DTYPE: Dtype = Dtype::Bf16;
    type Key = u16;
    const INFINITY_KEY: u16 = 0x7f80;
    type Ordered = f32;
    const LARGEST: f32 = f32::INFINITY;
    const SMALLEST: f32 = f32::NEG_INFINITY;

    #[inline(always)]
    fn ordered(self) -> f32 {
        f32::from_bits(u32::from(self.0) << 16)
    }

    #[inline(always)]
    fn widen(self) -> f64 {
        f64::from(f32::from_bits(u32::from(self.0) << 16))
    }

    #[inline(always)]
    fn key(self) -> u16 {
        self.0 & 0x7fff
    }

    #[inline(always)]
    fn each_code(group: &[Self; GROUP], arrange: impl Fn(u64) -> u64, take: impl FnMut(usize, u16)) {
        each_by_fours(group.map(Self::code), arrange, take);
    }

    #[inline(always)]
    fn code(self) -> u16 {
        self.0
    }

    #[inline(always)]
    fn of_key(key: u64) -> Self {
        Self(key as u16)
    }

    #[inline(always)]
    fn narrow(value: f64) -> Self {
        // Only called with values that were widened from a bfloat16, for which the cut is exact.
        Self(((value as f32).to_bits() >> 16) as u16)
    }
}

impl F16 {
    /// The value as f32, exactly.
    #[inline(always)]
    pub(crate) fn to_f32(self) -> f32 {
        // A normal number's bits, moved to where a binary32 has them, have an exponent that is 112 too small. A subnormal one is so many
        // times 2^-24. Read as a binary32 it would be one too, of which a product takes some processors a hundred times as long.
        let magnitude = u32::from(self.0 & 0x7fff);
        let normal = (magnitude << 13) + (112 << 23);
        let subnormal = (magnitude as i32 as f32 * f32::from_bits((127 - 24) << 23)).to_bits();
        let scaled = if magnitude < 0x400 { subnormal } else { normal };
        // Infinity and NaN have the largest exponent.
        let special = if self.0 & 0x7c00 == 0x7c00 { 0x7f80_0000 } else { 0 };
        let sign = u32::from(self.0 & 0x8000) << 16;
        f32::from_bits(scaled | special | sign)
    }
}

impl Element for F16 {
    const DTYPE: Dtype = Dtype::F16;
    type Key = u16;
    const INFINITY_KEY: u16 = 0x7c00;
    type Ordered = f32;
    const LARGEST: f32 = f32::INFINITY;
    const SMALLEST: f32 = f32::NEG_INFINITY;
    const CODE_MANTISSA_BITS: u32 = 10;

    #[inline(always)]
    fn ordered(self) -> f32 {
        self.to_f32()
    }

    #[inline(always)]
    fn widen(self) -> f64 {
        f64::from(self.to_f32())
    }

    #[inline(always)]
    fn key(self) -> u16 {
        self.0 & 0x7fff
    }

    #[inline(always)]
    fn each_code(group: &[Self; GROUP], arrange: impl Fn(u64) -> u64, take: impl FnMut(usize, u16)) {
        each_by_fours(group.map(Self::code), arrange, take);
    }

    #[inline(always)]
    fn code(self) -> u16 {
        self.0
    }

    #[inline(always)]
    fn float_code(self) -> u16 {
        (self.to_f32().to_bits() >> 16) as u16
    }

    #[inline(always)]
    fn ordered_line<I: Instructions>(values: &[Self; LINE]) -> [f32; LINE] {
        I::widen_halves(values)
    }

    #[inline(always)]
    fn of_key(key: u64) -> Self {
        Self(key as u16)
    }

    fn narrow(value: f64) -> Self {
        let sign = u16::from(value.is_sign_negative()) << 15;
        let magnitude = value.abs();
        if magnitude < 2f64.powi(-14) {
            // Subnormals are whole multiples of 2^-24.
            return Self(sign | (magnitude * 2f64.powi(24)) as u16);
        }
        let bits = magnitude.to_bits();
        let exponent = (bits >> 52) as i32 - 1023 + 15;
        if exponent >= 31 {
            return Self(sign | 0x7c00);
        }
        Self(sign | (exponent as u16) << 10 | ((bits >> 42) & 0x3ff) as u16)
    }
}

/// A float8 with 4 bits of exponent and 3 of mantissa (e4m3fn: no infinities, one NaN) as its bits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(transparent)]
pub struct F8E4M3(pub u8);

/// A float8 with 5 bits of exponent and 2 of mantissa (e5m2) as its bits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(transparent)]
pub struct F8E5M2(pub u8);

/// The float16 bits of every e4m3fn value.
static E4M3_AS_F16: [u16; 256] = {
    let mut table = [0; 256];
    let mut bits = 0;
    while bits < 256 {
        let (sign, exponent, mantissa) = ((bits as u16 & 0x80) << 8, (bits as u16 >> 3) & 0xf, bits as u16 & 7);
        table[bits] = sign
            | match (exponent, mantissa) {
                (0xf, 7) => 0x7e00,
                (0, 0) => 0,
                // Subnormals are multiples of 2^-9, which are normal numbers of float16.
                (0, 1) => (15 - 9) << 10,
                (0, 2 | 3) => (15 - 8) << 10 | (mantissa & 1) << 9,
                (0, _) => (15 - 7) << 10 | (mantissa & 3) << 8,
                _ => (exponent + 15 - 7) << 10 | mantissa << 7,
            };
        bits += 1;
    }
    table
};

macro_rules! float8 {
    ($type:ident, $infinity:literal, $as_f16:expr) => {
        impl Element for $type {
            const DTYPE: Dtype = Dtype::$type;
            type Key = u8;
            const INFINITY_KEY: u8 = $infinity;
            type Ordered = f32;
            const LARGEST: f32 = f32::INFINITY;
            const SMALLEST: f32 = f32::NEG_INFINITY;
            const CODE_MANTISSA_BITS: u32 = F16::CODE_MANTISSA_BITS;

            #[inline(always)]
            fn ordered(self) -> f32 {
                F16(self.code()).to_f32()
            }

            #[inline(always)]
            fn widen(self) -> f64 {
                F16(self.code()).widen()
            }

            #[inline(always)]
            fn key(self) -> u8 {
                self.0 & 0x7f
            }

            #[inline(always)]
            fn code(self) -> u16 {
                let as_f16: fn(u8) -> u16 = $as_f16;
                as_f16(self.0)
            }

            #[inline(always)]
            fn float_code(self) -> u16 {
                F16(self.code()).float_code()
            }

            #[inline(always)]
            fn of_key(key: u64) -> Self {
                Self(key as u8)
            }

            fn narrow(value: f64) -> Self {
                let keys: [u8; 128] = std::array::from_fn(|key| key as u8);
                let key = keys[..usize::from($infinity as u8)].partition_point(|&key| Self(key).widen() < value.abs()) as u8;
                Self(key | u8::from(value.is_sign_negative()) << 7)
            }
        }
    };
}
float8!(F8E4M3, 0x7f, |bits| E4M3_AS_F16[usize::from(bits)]);
float8!(F8E5M2, 0x7c, |bits| u16::from(bits) << 8);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sixteen_bit_types_agree_with_the_half_crate_on_every_pattern() {
        for bits in 0..=u16::MAX {
            let (ours, theirs) = (F16(bits).widen(), half::f16::from_bits(bits).to_f64());
            assert!(ours.to_bits() == theirs.to_bits() || (ours.is_nan() && theirs.is_nan()), "float16 {bits:#06x}");
            let (ours, theirs) = (Bf16(bits).widen(), half::bf16::from_bits(bits).to_f64());
            assert!(ours.to_bits() == theirs.to_bits() || (ours.is_nan() && theirs.is_nan()), "bfloat16 {bits:#06x}");
        }
    }

    #[test]
    fn narrow_undoes_widen() {
        for bits in 0..=u16::MAX {
            if F16(bits).key() < F16::INFINITY_KEY {
                assert_eq!(F16::narrow(F16(bits).widen()), F16(bits));
                assert_eq!(F16::of_key(F16(bits).key().into()).widen(), F16(bits).widen().abs());
            }
            if Bf16(bits).key() < Bf16::INFINITY_KEY {
                assert_eq!(Bf16::narrow(Bf16(bits).widen()), Bf16(bits));
                assert_eq!(Bf16::of_key(Bf16(bits).key().into()).widen(), Bf16(bits).widen().abs());
            }
        }
    }

    #[test]
    fn float8_values_follow_their_definition() {
        for bits in 0..=u8::MAX {
            let sign = if bits & 0x80 == 0 { 1.0 } else { -1.0 };
            let (exponent, mantissa) = (i32::from(bits >> 3 & 0xf), f64::from(bits & 7));
            let expected = match (exponent, bits & 7) {
                (15, 7) => f64::NAN,
                (0, _) => sign * mantissa * 2f64.powi(-9),
                _ => sign * (1.0 + mantissa / 8.0) * 2f64.powi(exponent - 7),
            };
            let found = F8E4M3(bits).widen();
            assert!(found == expected || (found.is_nan() && expected.is_nan()), "{bits:#04x}: {found} and {expected}");
            assert_eq!(F8E4M3(bits).key() < F8E4M3::INFINITY_KEY, expected.is_finite());
            let wide = F8E5M2(bits).widen();
            assert_eq!(F8E5M2(bits).key() < F8E5M2::INFINITY_KEY, wide.is_finite());
            if found.is_finite() {
                assert_eq!(F8E4M3::narrow(found).widen(), found);
            }
            if wide.is_finite() {
                assert_eq!(F8E5M2::narrow(wide).widen(), wide);
            }
        }
        assert_eq!((F8E4M3(0x7e).widen(), F8E5M2(0x7b).widen(), F8E5M2(0x01).widen()), (448.0, 57344.0, 2f64.powi(-16)));
    }

    #[test]
    fn codes_of_wide_types_truncate_toward_zero() {
        for value in [1.0f64, -1.0, 1.999_999_999, 3.4e38, 1e300, -1e300, 1e-40, -1e-300, 0.0, 6.0, 5.999_999_999] {
            let floor = f32::from_bits(u32::from(value.code()) << 16);
            assert!(f64::from(floor).abs() <= value.abs(), "{value}");
            let next = f32::from_bits((u32::from(value.code()) + 1) << 16);
            assert!(f64::from(next).abs() > value.abs() || next.is_infinite(), "{value}");
        }
        assert_eq!(f64::INFINITY.code(), 0x7f80);
        assert_eq!(f64::MAX.code(), 0x7f7f);
    }

    #[test]
    fn a_nan_never_reads_as_infinity() {
        assert_eq!(f32::from_bits(0x7f80_0001).code(), 0x7f80);
        assert_eq!(f32::from_bits(0x7f80_0001).code_of_any(), 0x7fc0);
        assert_eq!(f32::from_bits(0xff80_0001).code_of_any(), 0xffc0);
        assert_eq!(f64::from_bits(0x7ff0_0000_0000_0001).code_of_any(), 0x7fc0);
        assert_eq!(f32::NEG_INFINITY.code_of_any(), 0xff80);
    }
}
