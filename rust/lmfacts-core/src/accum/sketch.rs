//! The count sketch of a matrix: what tells how far apart two matrices are without keeping either.
//!
//! Charikar, Chen and Farach-Colton's (2002), used for norms as Alon, Matias and Szegedy (1999) and Thorup and Zhang (2004) do. It is
//! linear, so that the difference of two sketches is the sketch of the difference, and the sum of a sketch's squares is on average the sum
//! of the squares of the entries, with a standard deviation of at most sqrt(2 / 4,096) of it, 2.2 %; that of a norm is half of this.

use std::ops::Range;

use crate::dtype::Element;
use crate::kernel::{Kernels, SKETCH_BLOCK, SKETCH_BUCKETS, SketchRow, SketchTable};
use crate::view::Rows;

/// Stored rows that are turned around together, where the stored rows are the columns: so many that few blocks of a sketch are cut, so few
/// that they are still in a cache.
pub(super) const PANEL_ROWS: usize = 64;

/// Columns that are turned around together: a line of the cache, if values are f32.
const PANEL_COLUMNS: usize = 16;

/// A sketch being made.
#[derive(Debug, Default)]
pub(super) struct Sketch {
    table: Box<SketchTable>,
}

impl Sketch {
    /// Adds a row. `spare` has room for one; values that are not finite are left out.
    pub(super) fn add_row<E: Element>(
        &mut self,
        kernels: &Kernels<E>,
        row: usize,
        values: &[E],
        all_finite: bool,
        spare: &mut Vec<E>,
    ) {
        let values = if all_finite {
            values
        } else {
            spare.clear();
            spare.extend(values.iter().copied().map(finite_or_zero));
            spare
        };
        let row = SketchRow::new(row);
        kernels.sketch(values, row, row.place(0), &mut self.table);
    }

    /// Adds stored rows that are columns of the matrix.
    pub(super) fn add_columns<E: Element>(
        &mut self,
        kernels: &Kernels<E>,
        rows: &Rows<'_, E>,
        columns: Range<usize>,
        all_finite: bool,
        spare: &mut Vec<E>,
    ) {
        let n_rows = rows.n_dims();
        spare.clear();
        if !rows.side_by_side() {
            spare.resize(columns.len() * n_rows, E::narrow(0.0));
            for (column, values) in columns.clone().zip(spare.chunks_exact_mut(n_rows)) {
                rows.gather(column, values);
            }
        }
        let gathered: &[E] = spare;
        let stored: Vec<&[E]> = if rows.side_by_side() {
            columns.clone().map(|column| rows.slice(column)).collect()
        } else {
            gathered.chunks_exact(n_rows).collect()
        };
        let nothing = E::narrow(0.0);
        let mut turned = [[nothing; PANEL_ROWS]; PANEL_COLUMNS];
        for first in (0..n_rows).step_by(PANEL_COLUMNS) {
            let n_together = PANEL_COLUMNS.min(n_rows - first);
            turn(&stored, first, n_together, &mut turned);
            for (index, turned) in turned[..n_together].iter_mut().enumerate() {
                turned[stored.len()..].fill(nothing);
                if !all_finite {
                    for value in turned.iter_mut() {
                        *value = finite_or_zero(*value);
                    }
                }
                // With zeros before and after them, so that they fill whole blocks.
                let row = SketchRow::new(first + index);
                let place = row.place(columns.start);
                let lead = place % SKETCH_BLOCK;
                let mut blocks = [nothing; PANEL_ROWS + SKETCH_BLOCK];
                blocks[lead..lead + PANEL_ROWS].copy_from_slice(turned);
                let n_filled = (lead + stored.len()).next_multiple_of(SKETCH_BLOCK);
                kernels.sketch(&blocks[..n_filled], row, place - lead, &mut self.table);
            }
        }
    }

    /// Adds another part of the same matrix.
    pub(super) fn merge(&mut self, other: &Self) {
        for (bucket, more) in self.table.0.as_flattened_mut().iter_mut().zip(other.table.0.as_flattened()) {
            *bucket += more;
        }
    }

    /// Its buckets.
    pub(super) fn buckets(&self) -> Vec<f64> {
        let buckets = self.table.0.as_flattened().to_vec();
        debug_assert_eq!(buckets.len(), SKETCH_BUCKETS);
        buckets
    }
}

/// Writes some columns of stored rows, at most as many as a panel has, side by side.
#[inline(always)]
fn turn<E: Element>(stored: &[&[E]], first: usize, n_together: usize, turned: &mut [[E; PANEL_ROWS]; PANEL_COLUMNS]) {
    for (place, values) in stored.iter().enumerate().take(PANEL_ROWS) {
        let values = &values[first..first + n_together];
        if let Some(values) = values.first_chunk::<PANEL_COLUMNS>() {
            for column in 0..PANEL_COLUMNS {
                turned[column][place] = values[column];
            }
        } else {
            for (column, &value) in values.iter().enumerate() {
                turned[column][place] = value;
            }
        }
    }
}

fn finite_or_zero<E: Element>(value: E) -> E {
    if value.key() < E::INFINITY_KEY { value } else { E::narrow(0.0) }
}
