//! A tensor in device memory, as DLPack describes it, and how a kernel reads its rows.

#![allow(unsafe_code)]

use lmfacts_core::device::MAX_AXES;
use lmfacts_core::dlpack::DLTensor;
use lmfacts_core::{Dtype, Error};

use crate::error::Result;

/// Address, type, shape and strides of a tensor that lies on some device.
#[derive(Debug, Clone, Copy)]
pub struct DeviceTensor {
    /// The first element.
    pub address: usize,
    /// DLPack's kind of number and bits of one.
    pub kind: (u8, u8),
    /// DLPack's kind and number of the device.
    pub device: (i32, i32),
    shape: [i64; MAX_AXES],
    strides: [i64; MAX_AXES],
    n_axes: usize,
}

/// A tensor as rows of contiguous dims. Rows come in groups: the strides, in values, are those between groups and
/// between the rows of a group.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DeviceRows {
    pub(crate) address: usize,
    pub(crate) n_rows: u32,
    pub(crate) n_dims: u32,
    pub(crate) inner_rows: u32,
    pub(crate) outer_stride: i64,
    pub(crate) inner_stride: i64,
    pub(crate) aligned: bool,
}

impl DeviceTensor {
    /// What a `DLTensor` says.
    ///
    /// # Errors
    /// `Error::Layout` if there are too many axes.
    ///
    /// # Safety
    /// `shape` (and `strides`, unless null) must point to `ndim` numbers.
    pub unsafe fn of(tensor: &DLTensor) -> Result<Self> {
        let n_axes = tensor.ndim.max(0) as usize;
        if n_axes > MAX_AXES {
            return Err(Error::Layout { expected: format!("at most {MAX_AXES} axes"), got: format!("{n_axes}") }.into());
        }
        let (mut shape, mut strides) = ([1; MAX_AXES], [1; MAX_AXES]);
        for (axis, extent) in shape.iter_mut().enumerate().take(n_axes) {
            // SAFETY: the caller promises `ndim` numbers.
            *extent = unsafe { *tensor.shape.add(axis) };
        }
        for axis in (0..n_axes).rev() {
            strides[axis] = if !tensor.strides.is_null() {
                // SAFETY: as above.
                unsafe { *tensor.strides.add(axis) }
            } else if axis + 1 < n_axes {
                strides[axis + 1] * shape[axis + 1]
            } else {
                1
            };
        }
        Ok(Self {
            address: (tensor.data as usize).wrapping_add(tensor.byte_offset as usize),
            kind: (tensor.dtype.code, tensor.dtype.bits),
            device: (tensor.device.device_type, tensor.device.device_id),
            shape,
            strides,
            n_axes,
        })
    }

    /// The extents of the axes.
    pub fn shape(&self) -> &[i64] {
        &self.shape[..self.n_axes]
    }

    /// The strides of the axes, in elements.
    pub fn strides(&self) -> &[i64] {
        &self.strides[..self.n_axes]
    }

    /// Reads the tensor as rows, one for each token; none if the values of a token are not contiguous, or the rows are
    /// spread in more than two ways.
    ///
    /// # Errors
    /// `Error::Layout` if no leading axes count `n_tokens`, no axis is left, or there are too many values.
    pub fn rows(&self, n_tokens: usize, dtype: Dtype) -> Result<Option<DeviceRows>> {
        let (shape, strides) = (self.shape(), self.strides());
        let layout = |expected: String| Error::Layout { expected, got: format!("shape {shape:?}") };
        let n_leading = (1..shape.len())
            .find(|&n| shape[..n].iter().product::<i64>() == n_tokens as i64)
            .ok_or_else(|| layout(format!("leading axes that count {n_tokens} tokens, then the dims")))?;
        let n_dims: i64 = shape[n_leading..].iter().product();
        let n_values = n_dims.saturating_mul(n_tokens as i64);
        if n_dims < 1 || n_values >= i64::from(u32::MAX) {
            return Err(layout("at least one dim, and fewer than 2^32 - 1 values".into()).into());
        }
        let mut step = 1;
        for axis in (n_leading..shape.len()).rev().filter(|&axis| shape[axis] != 1) {
            if strides[axis] != step {
                return Ok(None);
            }
            step *= shape[axis];
        }
        // Axes that can be walked as one are joined.
        let mut joined: Vec<(i64, i64)> = Vec::new();
        for axis in (0..n_leading).filter(|&axis| shape[axis] != 1) {
            match joined.last_mut() {
                Some(outer) if outer.1 == strides[axis] * shape[axis] => *outer = (outer.0 * shape[axis], strides[axis]),
                _ => joined.push((shape[axis], strides[axis])),
            }
        }
        let (outer_stride, (inner_rows, inner_stride)) = match joined[..] {
            [] => (0, (n_tokens as i64, n_dims)),
            [inner] => (0, inner),
            [(_, outer_stride), inner] => (outer_stride, inner),
            _ => return Ok(None),
        };
        let size = dtype.size() as i64;
        let aligned = self.address.is_multiple_of(16)
            && [n_dims, outer_stride, inner_stride].iter().all(|stride| (stride * size) % 16 == 0);
        Ok(Some(DeviceRows {
            address: self.address,
            n_rows: n_tokens as u32,
            n_dims: n_dims as u32,
            inner_rows: inner_rows as u32,
            outer_stride,
            inner_stride,
            aligned,
        }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tensor(shape: &[i64], strides: &[i64]) -> DeviceTensor {
        let mut all = DeviceTensor {
            address: 4096,
            kind: (4, 16),
            device: (2, 0),
            shape: [1; MAX_AXES],
            strides: [1; MAX_AXES],
            n_axes: shape.len(),
        };
        all.shape[..shape.len()].copy_from_slice(shape);
        all.strides[..shape.len()].copy_from_slice(strides);
        all
    }

    fn rows(shape: &[i64], strides: &[i64]) -> Option<DeviceRows> {
        tensor(shape, strides).rows(6, Dtype::Bf16).unwrap()
    }

    #[test]
    fn rows_are_read_in_place_where_their_dims_lie_side_by_side() {
        let dense = rows(&[2, 3, 64], &[192, 64, 1]).unwrap();
        assert_eq!((dense.n_rows, dense.inner_rows, dense.inner_stride, dense.aligned), (6, 6, 64, true));
        let sliced = rows(&[2, 3, 64], &[400, 100, 1]).unwrap();
        assert_eq!((sliced.inner_rows, sliced.outer_stride, sliced.inner_stride, sliced.aligned), (3, 400, 100, false));
        let heads = rows(&[2, 3, 4, 16], &[192, 64, 16, 1]).unwrap();
        assert_eq!((heads.n_dims, heads.inner_rows), (64, 6));
        assert_eq!(rows(&[2, 3, 4, 16], &[192, 16, 48, 1]), None); // heads in front of tokens
        assert_eq!(rows(&[2, 3, 64], &[3, 1, 6]), None); // dims that are not contiguous
    }

    #[test]
    fn what_does_not_fit_is_refused() {
        assert!(tensor(&[2, 4, 8], &[32, 8, 1]).rows(6, Dtype::Bf16).is_err());
        assert!(tensor(&[6], &[1]).rows(6, Dtype::Bf16).is_err());
        assert!(tensor(&[1 << 20, 4096], &[4096, 1]).rows(1 << 20, Dtype::Bf16).is_err());
    }
}
