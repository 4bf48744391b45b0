//! `BufferView`: a tensor in somebody else's memory, checked once and then safe to read.
//!
//! A view is a pointer, a shape and strides in elements. `rows` reads it as tokens x dims: the leading axes that together count the
//! tokens, and all that remains as the dims of one token. Any strides are read in place. A token whose dims are contiguous is a
//! plain slice; one whose dims are spread out is gathered, a row at a time, into a buffer of the caller.

use std::marker::PhantomData;

use crate::dtype::{Dtype, Element};
use crate::error::{Error, Result};

/// The most axes that a tensor may have.
pub const MAX_AXES: usize = 8;

/// One axis: how many steps, and how far apart they are, in elements.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Axis {
    extent: usize,
    stride: isize,
}

const UNIT_AXIS: Axis = Axis { extent: 1, stride: 1 };

/// A borrowed tensor of any strides.
#[derive(Debug, Clone, Copy)]
pub struct BufferView<'a> {
    data: *const u8,
    dtype: Dtype,
    axes: [Axis; MAX_AXES],
    n_axes: usize,
    lifetime: PhantomData<&'a [u8]>,
}

// SAFETY: a view only reads, and `new` obliges the caller to keep the memory readable and unwritten for `'a`, on whatever thread.
#[allow(unsafe_code)]
unsafe impl Send for BufferView<'_> {}
// SAFETY: as above.
#[allow(unsafe_code)]
unsafe impl Sync for BufferView<'_> {}

impl<'a> BufferView<'a> {
    /// Describes memory that lies elsewhere. Strides are in elements and may be zero or negative.
    ///
    /// # Errors
    /// `Error::Layout` if there are more than [`MAX_AXES`] axes, an extent is negative, the lengths of shape and strides differ,
    /// or the pointer is null or misaligned for a tensor that has elements.
    ///
    /// # Safety
    /// - For every index within `shape`, the element at `data` plus the index's dot product with `strides` must be readable for `'a`.
    /// - Nothing may write to those elements during `'a`.
    #[allow(unsafe_code)]
    pub unsafe fn new(data: *const u8, dtype: Dtype, shape: &[i64], strides: &[i64]) -> Result<Self> {
        if shape.len() > MAX_AXES || shape.len() != strides.len() {
            return Err(Error::Layout {
                expected: format!("at most {MAX_AXES} axes with a stride each"),
                got: format!("shape {shape:?} with strides {strides:?}"),
            });
        }
        let mut axes = [UNIT_AXIS; MAX_AXES];
        for (axis, (&extent, &stride)) in axes.iter_mut().zip(shape.iter().zip(strides)) {
            let extent = usize::try_from(extent)
                .map_err(|_| Error::Layout { expected: "extents of at least 0".into(), got: format!("shape {shape:?}") })?;
            *axis = Axis { extent, stride: stride as isize };
        }
        let empty = shape.contains(&0);
        if !empty && (data.is_null() || !(data as usize).is_multiple_of(dtype.size())) {
            return Err(Error::Layout {
                expected: format!("a pointer aligned to {} bytes for {dtype}", dtype.size()),
                got: format!("{data:?}"),
            });
        }
        Ok(Self { data, dtype, axes, n_axes: shape.len(), lifetime: PhantomData })
    }

    /// A dense, row-major view of a slice.
    ///
    /// # Errors
    /// `Error::Layout` if the shape does not count the slice's elements.
    #[allow(unsafe_code)]
    pub fn from_slice<E: Element>(values: &'a [E], shape: &[usize]) -> Result<Self> {
        if shape.iter().product::<usize>() != values.len() {
            return Err(Error::Layout { expected: format!("a shape of {} elements", values.len()), got: format!("{shape:?}") });
        }
        let mut strides = vec![1i64; shape.len()];
        for axis in (1..shape.len()).rev() {
            strides[axis - 1] = strides[axis] * shape[axis] as i64;
        }
        let shape: Vec<i64> = shape.iter().map(|&extent| extent as i64).collect();
        // SAFETY: the product check above bounds every index by the slice, which is borrowed for 'a.
        unsafe { Self::new(values.as_ptr().cast(), E::DTYPE, &shape, &strides) }
    }

    /// The same elements with their axes in another order.
    ///
    /// # Panics
    /// If `order` is not a permutation of the axes.
    #[must_use]
    pub fn permuted(mut self, order: &[usize]) -> Self {
        assert_eq!(order.len(), self.n_axes, "one entry for each axis");
        let mut seen = [false; MAX_AXES];
        let axes = self.axes;
        for (to, &from) in order.iter().enumerate() {
            assert!(!std::mem::replace(&mut seen[from], true), "each axis once");
            self.axes[to] = axes[from];
        }
        self
    }

    /// The type of the values.
    pub const fn dtype(&self) -> Dtype {
        self.dtype
    }

    /// The address of the first element.
    pub const fn pointer(&self) -> *const u8 {
        self.data
    }

    /// The extents of the axes.
    pub fn shape(&self) -> Vec<usize> {
        self.axes[..self.n_axes].iter().map(|axis| axis.extent).collect()
    }

    /// The strides of the axes, in elements.
    pub fn strides(&self) -> Vec<isize> {
        self.axes[..self.n_axes].iter().map(|axis| axis.stride).collect()
    }

    /// Reads the tensor as `n_tokens` rows of dims.
    ///
    /// The leading axes whose extents multiply to `n_tokens` are the tokens; what is left, of whatever shape, is one token's dims.
    ///
    /// # Errors
    /// `Error::Dtype` if `E` is not the view's type; `Error::Layout` if no leading axes count `n_tokens`, or no axis is left.
    pub(crate) fn rows<E: Element>(&self, n_tokens: usize) -> Result<Rows<'a, E>> {
        if E::DTYPE != self.dtype {
            return Err(Error::Dtype { expected: E::DTYPE.to_string(), got: self.dtype.to_string() });
        }
        let axes = &self.axes[..self.n_axes];
        let mut n_leading = 0;
        let mut product = 1;
        while n_leading == 0 || (product != n_tokens && n_leading < axes.len()) {
            product *= axes.get(n_leading).map_or(0, |axis| axis.extent);
            n_leading += 1;
        }
        if product != n_tokens || n_leading >= axes.len() {
            return Err(Error::Layout {
                expected: format!("leading axes that count {n_tokens} tokens, then the dims"),
                got: format!("shape {:?}", self.shape()),
            });
        }
        let n_dims = axes[n_leading..].iter().map(|axis| axis.extent).product();
        let mut rows = Rows {
            data: self.data.cast(),
            tokens: [UNIT_AXIS; MAX_AXES],
            dims: [UNIT_AXIS; MAX_AXES],
            n_rows: n_tokens,
            n_dims,
            contiguous: false,
            lifetime: PhantomData,
        };
        rows.tokens = innermost_first(&axes[..n_leading]);
        rows.dims = innermost_first(&axes[n_leading..]);
        let mut step = 1;
        rows.contiguous = rows.dims.iter().filter(|axis| axis.extent != 1).all(|axis| {
            let dense = axis.stride == step;
            step *= axis.extent as isize;
            dense
        });
        Ok(rows)
    }
}

/// The axes from the innermost to the outermost; neighbours that one stride goes through are one axis.
fn innermost_first(axes: &[Axis]) -> [Axis; MAX_AXES] {
    let mut joined = [UNIT_AXIS; MAX_AXES];
    let mut last = 0;
    for axis in axes.iter().rev().filter(|axis| axis.extent != 1) {
        let inner = &mut joined[last];
        if inner.extent == 1 {
            *inner = *axis;
        } else if axis.stride == inner.stride.wrapping_mul(inner.extent as isize) {
            inner.extent *= axis.extent;
        } else {
            last += 1;
            joined[last] = *axis;
        }
    }
    joined
}

/// A tensor as tokens x dims.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Rows<'a, E> {
    data: *const E,
    tokens: [Axis; MAX_AXES],
    dims: [Axis; MAX_AXES],
    n_rows: usize,
    n_dims: usize,
    contiguous: bool,
    lifetime: PhantomData<&'a [E]>,
}

// SAFETY: rows only read memory that `BufferView::new` was promised to be readable and unwritten, on whatever thread.
#[allow(unsafe_code)]
unsafe impl<E: Element> Send for Rows<'_, E> {}
// SAFETY: as above.
#[allow(unsafe_code)]
unsafe impl<E: Element> Sync for Rows<'_, E> {}

impl<'a, E: Element> Rows<'a, E> {
    /// How many tokens.
    pub(crate) const fn n_rows(&self) -> usize {
        self.n_rows
    }

    /// How many dims each has.
    pub(crate) const fn n_dims(&self) -> usize {
        self.n_dims
    }

    /// Whether each token's dims are contiguous, so that `slice` can be used.
    pub(crate) const fn is_contiguous(&self) -> bool {
        self.contiguous
    }

    fn offset(axes: &[Axis; MAX_AXES], mut index: usize) -> isize {
        if index < axes[0].extent {
            return index as isize * axes[0].stride;
        }
        let mut offset = 0;
        for axis in axes {
            if index == 0 {
                break;
            }
            offset += (index % axis.extent) as isize * axis.stride;
            index /= axis.extent;
        }
        offset
    }

    /// The dims of one token, in place.
    ///
    /// # Panics
    /// If the index is out of range or the dims are not contiguous.
    #[allow(unsafe_code)]
    pub(crate) fn slice(&self, row: usize) -> &'a [E] {
        assert!(row < self.n_rows && self.contiguous, "row {row} of {}", self.n_rows);
        if self.n_dims == 0 {
            return &[];
        }
        // SAFETY: the row is in range, its dims are dense, and `BufferView::new` was promised that every element in range is readable.
        unsafe { std::slice::from_raw_parts(self.data.offset(Self::offset(&self.tokens, row)), self.n_dims) }
    }

    /// Copies the dims of one token into `out`, whatever their strides.
    ///
    /// # Panics
    /// If the index is out of range or `out` has another length than the dims.
    #[allow(unsafe_code)]
    pub(crate) fn gather(&self, row: usize, out: &mut [E]) {
        assert!(row < self.n_rows && out.len() == self.n_dims, "row {row} of {}", self.n_rows);
        let start = Self::offset(&self.tokens, row);
        let inner = self.dims[0];
        for (block, chunk) in out.chunks_mut(inner.extent.max(1)).enumerate() {
            let offset = start + Self::offset(&self.dims, block * inner.extent);
            for (step, value) in chunk.iter_mut().enumerate() {
                // SAFETY: row, block and step are within the extents, so `BufferView::new` was promised that the element is readable.
                *value = unsafe { *self.data.offset(offset + step as isize * inner.stride) };
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn values(n: usize) -> Vec<f32> {
        (0..n).map(|i| i as f32).collect()
    }

    #[test]
    fn leading_axes_are_tokens_and_the_rest_are_dims() {
        let data = values(24);
        let view = BufferView::from_slice(&data, &[2, 3, 4]).unwrap();
        let rows = view.rows::<f32>(6).unwrap();
        assert_eq!((rows.n_rows(), rows.n_dims(), rows.is_contiguous()), (6, 4, true));
        assert_eq!(rows.slice(5), &data[20..]);
        let rows = view.rows::<f32>(2).unwrap();
        assert_eq!((rows.n_dims(), rows.slice(1)), (12, &data[12..]));
    }

    #[test]
    fn heads_in_front_are_gathered_in_logical_order() {
        let data = values(24); // heads x tokens x dims of a head
        let view = BufferView::from_slice(&data, &[2, 3, 4]).unwrap().permuted(&[1, 0, 2]);
        let rows = view.rows::<f32>(3).unwrap();
        assert!(!rows.is_contiguous());
        let mut row = vec![0.0; 8];
        rows.gather(2, &mut row);
        assert_eq!(row, [8.0, 9.0, 10.0, 11.0, 20.0, 21.0, 22.0, 23.0]);
    }

    #[test]
    fn axes_that_one_stride_goes_through_are_one() {
        let axes = |pairs: &[(usize, isize)]| pairs.iter().map(|&(extent, stride)| Axis { extent, stride }).collect::<Vec<_>>();
        let joined = |pairs: &[(usize, isize)]| innermost_first(&axes(pairs)).map(|axis| (axis.extent, axis.stride));
        let unit = (1, 1);
        assert_eq!(joined(&[(2, 12), (3, 4), (4, 1)]), [(24, 1), unit, unit, unit, unit, unit, unit, unit]);
        assert_eq!(joined(&[(2, 15), (1, 7), (3, 4), (4, 1)])[..3], [(12, 1), (2, 15), unit]);
        assert_eq!(joined(&[(4, -1), (3, 4)])[..3], [(3, 4), (4, -1), unit]);
        assert_eq!(joined(&[(5, 0), (2, 0)])[..2], [(10, 0), unit]);
    }

    #[test]
    fn rows_of_tokens_with_gaps_between_sequences_are_found() {
        let data = values(40); // sequences x tokens x dims, of whose tokens the first three are looked at
        // SAFETY: all that the strides reach is in `data`.
        #[allow(unsafe_code)]
        let view = unsafe { BufferView::new(data.as_ptr().cast(), Dtype::F32, &[2, 3, 4], &[20, 4, 1]) }.unwrap();
        let rows = view.rows::<f32>(6).unwrap();
        assert_eq!([2, 3, 5].map(|row| rows.slice(row)[0]), [8.0, 20.0, 28.0]);
    }

    #[test]
    fn a_transposed_matrix_is_gathered() {
        let data = values(6);
        let rows = BufferView::from_slice(&data, &[2, 3]).unwrap().permuted(&[1, 0]).rows::<f32>(3).unwrap();
        let mut row = vec![0.0; 2];
        rows.gather(1, &mut row);
        assert_eq!(row, [1.0, 4.0]);
    }

    #[test]
    fn what_does_not_fit_is_refused() {
        let data = values(6);
        let view = BufferView::from_slice(&data, &[2, 3]).unwrap();
        assert!(matches!(view.rows::<f32>(5), Err(Error::Layout { .. })));
        assert!(matches!(view.rows::<f32>(6), Err(Error::Layout { .. })));
        assert!(matches!(view.rows::<f64>(2), Err(Error::Dtype { .. })));
        assert!(matches!(BufferView::from_slice(&data, &[7]), Err(Error::Layout { .. })));
        let nothing = BufferView::from_slice(&[] as &[f32], &[0, 3]).unwrap();
        assert_eq!(nothing.rows::<f32>(0).unwrap().n_rows(), 0);
    }

    #[test]
    #[allow(unsafe_code)]
    fn a_misaligned_or_null_pointer_is_refused() {
        let data = values(4);
        let odd = data.as_ptr().cast::<u8>().wrapping_add(1);
        // SAFETY: the constructor refuses the pointer before anything reads it.
        assert!(matches!(unsafe { BufferView::new(odd, Dtype::F32, &[2], &[1]) }, Err(Error::Layout { .. })));
        // SAFETY: as above.
        assert!(unsafe { BufferView::new(std::ptr::null(), Dtype::F32, &[2], &[1]) }.is_err());
    }
}
