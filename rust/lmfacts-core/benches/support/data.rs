//! Values like those of a model: five distributions, in the four types that models compute in.

use half::{bf16, f16};
use lmfacts_core::dtype::{Bf16, Element, F16};

/// How values are distributed, which decides how often the same counter is hit twice in a row.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Distribution {
    /// N(0, 1): some three thousand codes, as in a residual stream.
    Gaussian,
    /// The positive part of it: every second value is zero.
    Relu,
    /// GELU of it: small negative values, few zeros.
    Gelu,
    /// The integers from -8 to 8, evenly: mantissas of few bits, as after quantization.
    Integers,
    /// One value: every count goes to one counter, the worst case of store forwarding.
    Constant,
}

impl Distribution {
    /// All of them.
    pub const ALL: [Self; 5] = [Self::Gaussian, Self::Relu, Self::Gelu, Self::Integers, Self::Constant];

    /// The name in a benchmark's id.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Gaussian => "gaussian",
            Self::Relu => "relu",
            Self::Gelu => "gelu",
            Self::Integers => "integers",
            Self::Constant => "constant",
        }
    }

    /// `n` values, the same ones on every call.
    pub fn values<S: Sample>(self, n: usize) -> Vec<S> {
        let mut random = Random(0x5eed);
        (0..n)
            .map(|_| {
                S::of(match self {
                    Self::Gaussian => random.gaussian(),
                    Self::Relu => random.gaussian().max(0.0),
                    Self::Gelu => gelu(random.gaussian()),
                    Self::Integers => (random.next() % 17) as f64 - 8.0,
                    Self::Constant => 1.0,
                })
            })
            .collect()
    }

    /// As many bytes of values as asked for, a block of a million of them again and again.
    pub fn buffer<S: Sample>(self, n_bytes: usize) -> Vec<S> {
        let block = self.values(1 << 20);
        block.iter().copied().cycle().take(n_bytes / size_of::<S>()).collect()
    }
}

/// An element type with what the benchmarks need of it, found in other ways than the library's.
pub trait Sample: Element + PartialEq {
    /// The name in a benchmark's id.
    const NAME: &'static str;

    /// The value nearest to this one.
    fn of(value: f64) -> Self;
    /// The value.
    fn value(self) -> f64;
    /// The pattern without its sign.
    fn magnitude_bits(self) -> u64;
    /// The code, from the definition.
    fn code_by_definition(self) -> u16;
    /// Reads all of the values and does next to nothing with them: the speed limit of everything else.
    fn read(values: &[Self]) -> u64;
}

/// Adds up bit patterns in so many independent lanes that only the memory limits it.
macro_rules! read_bits {
    ($values:expr, $bits:ty, $of:expr) => {{
        const LANES: usize = 128 / size_of::<$bits>();
        let mut sums: [$bits; LANES] = [0; LANES];
        let (groups, tail) = $values.as_chunks::<LANES>();
        for group in groups {
            for lane in 0..LANES {
                sums[lane] = sums[lane].wrapping_add($of(group[lane]));
            }
        }
        let rest = tail.iter().fold(0, |sum: $bits, &value| sum.wrapping_add($of(value)));
        u64::from(sums.into_iter().fold(rest, <$bits>::wrapping_add))
    }};
}

impl Sample for f64 {
    const NAME: &'static str = "f64";

    fn of(value: f64) -> Self {
        value
    }

    fn value(self) -> f64 {
        self
    }

    fn magnitude_bits(self) -> u64 {
        self.to_bits() & (u64::MAX >> 1)
    }

    fn code_by_definition(self) -> u16 {
        let bits = self.to_bits();
        let sign = ((bits >> 48) & 0x8000) as u16;
        let exponent = ((bits >> 52) & 0x7ff) as u16;
        // Zero stays zero; no distribution here has a value that a float32 could not hold as a normal number.
        if exponent == 0 { sign } else { sign | (exponent - 1023 + 127) << 7 | ((bits >> 45) & 0x7f) as u16 }
    }

    #[inline(never)]
    fn read(values: &[Self]) -> u64 {
        read_bits!(values, u64, f64::to_bits)
    }
}

impl Sample for f32 {
    const NAME: &'static str = "f32";

    fn of(value: f64) -> Self {
        value as Self
    }

    fn value(self) -> f64 {
        f64::from(self)
    }

    fn magnitude_bits(self) -> u64 {
        u64::from(self.to_bits() & (u32::MAX >> 1))
    }

    fn code_by_definition(self) -> u16 {
        (self.to_bits() >> 16) as u16
    }

    #[inline(never)]
    fn read(values: &[Self]) -> u64 {
        read_bits!(values, u32, f32::to_bits)
    }
}

impl Sample for Bf16 {
    const NAME: &'static str = "bf16";

    fn of(value: f64) -> Self {
        Self(bf16::from_f64(value).to_bits())
    }

    fn value(self) -> f64 {
        bf16::from_bits(self.0).to_f64()
    }

    fn magnitude_bits(self) -> u64 {
        u64::from(self.0 & (u16::MAX >> 1))
    }

    fn code_by_definition(self) -> u16 {
        self.0
    }

    #[inline(never)]
    fn read(values: &[Self]) -> u64 {
        read_bits!(values, u16, |value: Self| value.0)
    }
}

impl Sample for F16 {
    const NAME: &'static str = "f16";

    fn of(value: f64) -> Self {
        Self(f16::from_f64(value).to_bits())
    }

    fn value(self) -> f64 {
        f16::from_bits(self.0).to_f64()
    }

    fn magnitude_bits(self) -> u64 {
        u64::from(self.0 & (u16::MAX >> 1))
    }

    fn code_by_definition(self) -> u16 {
        self.0
    }

    #[inline(never)]
    fn read(values: &[Self]) -> u64 {
        read_bits!(values, u16, |value: Self| value.0)
    }
}

/// The usual approximation with tanh.
fn gelu(x: f64) -> f64 {
    0.5 * x * (1.0 + (0.797_884_560_802_865_4 * (x + 0.044_715 * x.powi(3))).tanh())
}

/// SplitMix64.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// In (0, 1].
    fn uniform(&mut self) -> f64 {
        ((self.next() >> 11) + 1) as f64 / (1u64 << 53) as f64
    }

    fn gaussian(&mut self) -> f64 {
        (-2.0 * self.uniform().ln()).sqrt() * (std::f64::consts::TAU * self.uniform()).cos()
    }
}
