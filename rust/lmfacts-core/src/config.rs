//! What is to be recorded of a site.

/// A set of statistics that a site keeps beside the codes and the moments of its dims, which it always keeps.
///
/// Each has a constant here, and a name: the list in `accum/mod.rs` makes both.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Statistics(u32);

impl Statistics {
    /// None of them.
    pub const NONE: Self = Self(0);

    /// The one with this place in the list.
    pub(crate) const fn numbered(place: usize) -> Self {
        assert!(place < u32::BITS as usize, "a set has 32 places");
        Self(1 << place)
    }

    /// These and others.
    #[must_use]
    pub const fn with(self, others: Self) -> Self {
        Self(self.0 | others.0)
    }

    /// Whether all of the others are among these.
    pub const fn contains(self, others: Self) -> bool {
        self.0 & others.0 == others.0
    }
}

/// What is to be recorded.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct SiteConfig {
    /// Outliers to keep in each population.
    pub k: usize,
    /// Magnitude at or above which values are counted, dim by dim.
    pub threshold: f64,
    /// Which statistics to keep.
    pub statistics: Statistics,
}

impl Default for SiteConfig {
    fn default() -> Self {
        Self { k: 64, threshold: 6.0, statistics: Statistics::default() }
    }
}
