//! Everything that is kept of one population but its codes.

use super::accumulator::{Accumulator, Call, Chunk, Shape, Statistic};
use super::moments::DimMoments;
use super::outliers::Outliers;
use super::{for_each_statistic, population_codes};
use crate::config::{SiteConfig, Statistics};
use crate::dtype::Element;
use crate::error::{Error, Result};
use crate::kernel::Kernels;
use crate::parallel::Pool;
use crate::state::{Arrays, PopulationState};
use crate::tokens::Population;

/// What of a population is meant.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Extent {
    /// All of it.
    Site,
    /// The rows of a segment: what takes whole calls is not kept.
    Segment,
}

/// Tokens, the moments of their dims, and what the site's statistics recorded of them.
#[derive(Debug, Clone)]
pub(super) struct Recorded {
    pub(super) n_tokens: u64,
    pub(super) moments: DimMoments,
    pub(super) statistics: Kept,
}

impl Recorded {
    /// No tokens.
    pub(super) fn new(shape: &Shape, extent: Extent) -> Self {
        Self { n_tokens: 0, moments: DimMoments::new(shape.n_dims), statistics: Kept::new(shape, extent) }
    }

    /// Becomes no tokens of that shape, whose statistics it keeps, in the memory that it has. The moments mean nothing until some are
    /// merged or set.
    pub(super) fn clear(&mut self, shape: &Shape) {
        self.n_tokens = 0;
        self.moments.clear(shape.n_dims);
        self.statistics.clear(shape);
    }

    /// Merges other tokens of the same site.
    pub(super) fn merge<E: Element>(&mut self, kernels: &Kernels<E>, other: &mut Self) {
        self.n_tokens += other.n_tokens;
        Accumulator::merge(&mut self.moments, kernels, &mut other.moments);
        self.statistics.merge(kernels, &mut other.statistics);
    }

    /// Of how many dims.
    pub(super) fn n_dims(&self) -> usize {
        self.moments.n_dims()
    }

    /// Bytes held.
    pub(super) fn n_bytes(&self) -> usize {
        Accumulator::n_bytes(&self.moments) + self.statistics.n_bytes()
    }

    /// Adds all that was recorded to `arrays`.
    pub(super) fn save(&self, arrays: &mut Arrays) {
        self.moments.save(arrays);
        self.statistics.save(arrays);
    }

    /// What `save` gave.
    ///
    /// # Errors
    /// `Error::State` if the arrays do not fit together.
    pub(super) fn restore(state: &PopulationState, shape: &Shape) -> Result<Self> {
        let PopulationState { n_tokens, arrays } = state;
        let moments = DimMoments::restore(arrays, shape, *n_tokens)?;
        Ok(Self { n_tokens: *n_tokens, moments, statistics: Kept::restore(arrays, shape, *n_tokens)? })
    }
}

/// Makes of the list of statistics what keeps them: for each a place in [`Statistics`], and in [`Kept`] and [`Scratches`] a field.
macro_rules! keep {
    ($($(#[$about:meta])* $field:ident: $type:ident as $constant:ident,)*) => {
        /// Places in a set of statistics. That of the codes by block is first; it is the main pass that counts them.
        enum Place { BlockCodes, $($type,)* }

        impl Statistics {
            /// Codes by blocks of sequences, of all tokens but the first of sequences.
            pub const BLOCK_CODES: Self = Self::numbered(Place::BlockCodes as usize);
            $($(#[$about])* pub const $constant: Self = Self::numbered(Place::$type as usize);)*

            /// All of them.
            pub const ALL: Self = Self::BLOCK_CODES$(.with(Self::$constant))*;

            /// Each with its name.
            pub const LIST: &'static [(&'static str, Self)] =
                &[(population_codes::BY_BLOCK, Self::BLOCK_CODES), $((<super::$type as Accumulator>::NAME, Self::$constant),)*];

            /// Whether it is to be known in which block of rows the largest value of a dim came.
            pub(super) const fn need_blocks(self) -> bool {
                $((<super::$type as Statistic>::NEEDS_BLOCKS && self.contains(Self::$constant)) ||)* false
            }

            /// Whether norms of tokens have to be computed.
            pub(super) const fn need_norms(self) -> bool {
                $((<super::$type as Statistic>::NEEDS_NORMS && self.contains(Self::$constant)) ||)* false
            }
        }

        /// What a population's statistics recorded: those that the site keeps.
        #[derive(Debug, Clone)]
        pub(super) struct Kept {
            $($field: Option<super::$type>,)*
        }

        /// What they work in.
        #[derive(Debug, Default)]
        pub(super) struct Scratches {
            $($field: <super::$type as Statistic>::Scratch,)*
        }

        impl Kept {
            fn new(shape: &Shape, extent: Extent) -> Self {
                Self { $($field: is_kept::<super::$type>(Statistics::$constant, shape, extent).then(|| <super::$type as Accumulator>::new(shape)),)* }
            }

            /// Whether it keeps what the settings ask for of a segment, and nothing else.
            pub(super) fn suits(&self, shape: &Shape) -> bool {
                $(self.$field.is_some() == is_kept::<super::$type>(Statistics::$constant, shape, Extent::Segment) &&)* true
            }

            fn clear(&mut self, shape: &Shape) {
                $(if let Some(kept) = &mut self.$field {
                    kept.clear(shape);
                })*
            }

            /// Takes in a chunk; see [`Statistic::update`].
            pub(super) fn update<E: Element>(&mut self, chunk: &Chunk<'_, E>, recorded: &Self, scratches: &mut Scratches) {
                $(if let (Some(kept), Some(recorded)) = (&mut self.$field, &recorded.$field) {
                    kept.update(chunk, recorded, &mut scratches.$field);
                })*
            }

            /// Takes in a call; see [`Statistic::update_call`].
            pub(super) fn update_call<E: Element>(
                &mut self, call: &Call<'_, E>, population: Population, pool: &Pool, n_threads: usize,
            ) {
                $(if let (true, Some(kept)) = (<super::$type as Statistic>::TAKES_CALLS, &mut self.$field) {
                    kept.update_call(call, population, pool, n_threads);
                })*
            }

            fn merge<E: Element>(&mut self, kernels: &Kernels<E>, other: &mut Self) {
                $(if let (Some(kept), Some(more)) = (&mut self.$field, &mut other.$field) {
                    Accumulator::merge(kept, kernels, more);
                })*
            }

            fn n_bytes(&self) -> usize {
                let mut n_bytes = 0;
                $(n_bytes += self.$field.as_ref().map_or(0, Accumulator::n_bytes);)*
                n_bytes
            }

            fn save(&self, arrays: &mut Arrays) {
                $(if let Some(kept) = &self.$field {
                    kept.save(arrays);
                })*
            }

            fn restore(arrays: &Arrays, shape: &Shape, n_tokens: u64) -> Result<Self> {
                Ok(Self {
                    $($field: match is_kept::<super::$type>(Statistics::$constant, shape, Extent::Site) {
                        true => Some(<super::$type as Accumulator>::restore(arrays, shape, n_tokens)?),
                        false => None,
                    },)*
                })
            }
        }
    };
}
for_each_statistic!(keep);

fn is_kept<S: Statistic>(constant: Statistics, shape: &Shape, extent: Extent) -> bool {
    shape.config.statistics.contains(constant) && S::is_of(shape.population) && (extent == Extent::Site || !S::TAKES_CALLS)
}

impl Kept {
    /// The largest values, if they are kept.
    pub(super) const fn outliers(&self) -> Option<&Outliers> {
        self.outliers.as_ref()
    }
}

impl Statistics {
    /// The names of these, in the order of the list.
    pub fn names(self) -> impl Iterator<Item = &'static str> {
        Self::LIST.iter().filter(move |(_, one)| self.contains(*one)).map(|(name, _)| *name)
    }

    /// Those with these names.
    ///
    /// # Errors
    /// `Error::Setting` if there is none with one of them.
    pub fn from_names<'a>(names: impl IntoIterator<Item = &'a str>) -> Result<Self> {
        names.into_iter().try_fold(Self::NONE, |all, name| {
            let found = Self::LIST.iter().find(|(known, _)| *known == name);
            let unknown = || Error::Setting {
                setting: "statistics",
                expected: Self::LIST.iter().map(|(known, _)| *known).collect::<Vec<_>>().join(", "),
                got: name.into(),
            };
            found.map(|(_, one)| all.with(*one)).ok_or_else(unknown)
        })
    }
}

impl SiteConfig {
    /// What differs between two settings, with the two values; none if accumulators of both can be merged.
    pub(super) fn difference(&self, other: &Self) -> Option<(&'static str, String, String)> {
        let numbers = [("k", self.k as f64, other.k as f64), ("threshold", self.threshold, other.threshold)];
        if let Some((name, ours, theirs)) = numbers.into_iter().find(|(_, ours, theirs)| ours != theirs) {
            return Some((name, ours.to_string(), theirs.to_string()));
        }
        let is_kept = |kept: bool| if kept { "kept" } else { "not kept" }.to_owned();
        Statistics::LIST.iter().find_map(|(name, one)| {
            let (ours, theirs) = (self.statistics.contains(*one), other.statistics.contains(*one));
            (ours != theirs).then(|| (*name, is_kept(ours), is_kept(theirs)))
        })
    }
}
