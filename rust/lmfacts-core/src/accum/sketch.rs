//! The count sketch of a matrix: what tells how far apart two matrices are without keeping either.
//!
//! Charikar, Chen and Farach-Colton's (2002), used for norms as Alon, Matias and Szegedy (1999) and Thorup and Zhang (2004) do. It is
//! linear, so that the difference of two sketches is the sketch of the difference, and the sum of a sketch's squares is on average the sum
//! of the squares of the entries, with a standard deviation of at most sqrt(2 / 4,096) of it, 2.2 %; that of a norm is half of this.

use std::ops::Range;

use crate::dtype::Element;
use crate::kernel::{Kernels, SKETCH_BUCKETS, SKETCH_COLUMNS, SketchRow, SketchTable};
use crate::view::Rows;

/// Stored rows that are sketched together, where the stored rows are the columns.
pub(super) const PANEL_ROWS: usize = SKETCH_COLUMNS;

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
        if n_rows == 0 {
            return;
        }
        spare.clear();
        let in_place = rows.is_contiguous() && all_finite;
        if !in_place {
            spare.resize(columns.len() * n_rows, E::narrow(0.0));
            for (column, values) in columns.clone().zip(spare.chunks_exact_mut(n_rows)) {
                rows.gather(column, values);
                if !all_finite {
                    for value in values {
                        *value = finite_or_zero(*value);
                    }
                }
            }
        }
        let gathered: &[E] = spare;
        let stored: Vec<&[E]> = if in_place {
            columns.clone().map(|column| rows.slice(column)).collect()
        } else {
            gathered.chunks_exact(n_rows).collect()
        };
        kernels.sketch_columns(&stored, columns.start, &mut self.table);
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

fn finite_or_zero<E: Element>(value: E) -> E {
    if value.key() < E::INFINITY_KEY { value } else { E::narrow(0.0) }
}
