//! DLPack's C structures (version 1) and the checked way from a `DLTensor` to a [`BufferView`].
//!
//! Source of the layouts: <https://dmlc.github.io/dlpack/latest/c_api.html>. They are frozen within a major version.

use std::ffi::c_void;

use crate::dtype::Dtype;
use crate::error::{Error, Result};
use crate::view::{BufferView, MAX_AXES};

/// The major version of the structures below.
pub const MAJOR_VERSION: u32 = 1;

const CPU: i32 = 1;
const CUDA_HOST: i32 = 3;
const FLOAT: u8 = 2;
const BFLOAT: u8 = 4;
const FLOAT8_E4M3FN: u8 = 10;
const FLOAT8_E5M2: u8 = 12;
const UINT: u8 = 1;

/// `DLDevice`.
#[derive(Debug, Clone, Copy)]
#[repr(C)]
pub struct DLDevice {
    /// Kind of device: 1 is the CPU, 2 CUDA, 3 pinned host memory.
    pub device_type: i32,
    /// Which of them.
    pub device_id: i32,
}

/// `DLDataType`.
#[derive(Debug, Clone, Copy)]
#[repr(C)]
pub struct DLDataType {
    /// Kind of number: 2 is IEEE floating point, 4 bfloat.
    pub code: u8,
    /// Bits of one value.
    pub bits: u8,
    /// Values in a vector; 1 for ordinary tensors.
    pub lanes: u16,
}

/// `DLTensor`.
#[derive(Debug)]
#[repr(C)]
pub struct DLTensor {
    /// Start of the allocation, before `byte_offset`.
    pub data: *mut c_void,
    /// Where it lies.
    pub device: DLDevice,
    /// Number of axes.
    pub ndim: i32,
    /// Type of the values.
    pub dtype: DLDataType,
    /// Extents, `ndim` of them.
    pub shape: *mut i64,
    /// Strides in elements, `ndim` of them; null for dense row-major.
    pub strides: *mut i64,
    /// Bytes from `data` to the first element.
    pub byte_offset: u64,
}

/// `DLPackVersion`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(C)]
pub struct DLPackVersion {
    /// Structures differ between majors.
    pub major: u32,
    /// Additions only.
    pub minor: u32,
}

/// `DLManagedTensor`, the form before version 1.
#[derive(Debug)]
#[repr(C)]
pub struct DLManagedTensor {
    /// The tensor.
    pub dl_tensor: DLTensor,
    /// The producer's own.
    pub manager_ctx: *mut c_void,
    /// Gives the memory back; may be null.
    pub deleter: Option<unsafe extern "C" fn(*mut DLManagedTensor)>,
}

/// `DLManagedTensorVersioned`.
#[derive(Debug)]
#[repr(C)]
pub struct DLManagedTensorVersioned {
    /// Version of this structure.
    pub version: DLPackVersion,
    /// The producer's own.
    pub manager_ctx: *mut c_void,
    /// Gives the memory back; may be null.
    pub deleter: Option<unsafe extern "C" fn(*mut DLManagedTensorVersioned)>,
    /// Bit 0: read-only; bit 1: copied.
    pub flags: u64,
    /// The tensor.
    pub dl_tensor: DLTensor,
}

/// `DLPackExchangeAPIHeader`.
#[derive(Debug)]
#[repr(C)]
pub struct DLPackExchangeAPIHeader {
    /// Version of the table that follows.
    pub version: DLPackVersion,
    /// An older table, or null.
    pub prev_api: *mut DLPackExchangeAPIHeader,
}

/// `DLPackExchangeAPI`: a producer's table of functions. Only one of them is called here; the others keep their place.
#[derive(Debug)]
#[repr(C)]
pub struct DLPackExchangeAPI {
    /// Version and older tables.
    pub header: DLPackExchangeAPIHeader,
    /// Not used.
    pub managed_tensor_allocator: *const c_void,
    /// Not used.
    pub managed_tensor_from_py_object_no_sync: *const c_void,
    /// Not used.
    pub managed_tensor_to_py_object_no_sync: *const c_void,
    /// Fills a `DLTensor` whose pointers belong to the Python object; -1 with a Python error set, on failure.
    pub dltensor_from_py_object_no_sync: Option<unsafe extern "C" fn(*mut c_void, *mut DLTensor) -> i32>,
    /// Not used.
    pub current_work_stream: *const c_void,
}

impl DLTensor {
    /// A tensor for a producer to fill.
    pub const fn empty() -> Self {
        Self {
            data: std::ptr::null_mut(),
            device: DLDevice { device_type: 0, device_id: 0 },
            ndim: 0,
            dtype: DLDataType { code: 0, bits: 0, lanes: 0 },
            shape: std::ptr::null_mut(),
            strides: std::ptr::null_mut(),
            byte_offset: 0,
        }
    }

    /// The type of the values, if it is one that can be counted.
    ///
    /// # Errors
    /// `Error::Dtype` otherwise.
    pub fn dtype(&self) -> Result<Dtype> {
        match (self.dtype.code, self.dtype.bits, self.dtype.lanes) {
            (FLOAT, 64, 1) => Ok(Dtype::F64),
            (FLOAT, 32, 1) => Ok(Dtype::F32),
            (FLOAT, 16, 1) => Ok(Dtype::F16),
            (BFLOAT, 16, 1) => Ok(Dtype::Bf16),
            (FLOAT8_E4M3FN, 8, 1) => Ok(Dtype::F8E4M3),
            (FLOAT8_E5M2, 8, 1) => Ok(Dtype::F8E5M2),
            (code, bits, lanes) => Err(Error::Dtype {
                expected: Dtype::ALL.map(Dtype::name).join(", "),
                got: match code {
                    0 => format!("int{bits}"),
                    1 => format!("uint{bits}"),
                    5 => format!("complex{bits}"),
                    6 => "bool".into(),
                    7.. => format!("a float8 or smaller type (DLPack code {code}, {bits} bits)"),
                    _ => format!("DLPack code {code} with {bits} bits and {lanes} lanes"),
                },
            }),
        }
    }

    /// Lets unsigned integers stand for the bits of a type that the producer has no name for.
    ///
    /// # Errors
    /// `Error::Dtype` if these are not unsigned integers of the type's size.
    pub fn read_bits_as(&mut self, dtype: Dtype) -> Result<()> {
        let bits = 8 * dtype.size() as u8;
        if (self.dtype.code, self.dtype.bits, self.dtype.lanes) != (UINT, bits, 1) {
            return Err(Error::Dtype {
                expected: format!("uint{bits}, the bits of {dtype}"),
                got: format!("DLPack code {} with {} bits", self.dtype.code, self.dtype.bits),
            });
        }
        self.dtype.code = match dtype {
            Dtype::F64 | Dtype::F32 | Dtype::F16 => FLOAT,
            Dtype::Bf16 => BFLOAT,
            Dtype::F8E4M3 => FLOAT8_E4M3FN,
            Dtype::F8E5M2 => FLOAT8_E5M2,
        };
        Ok(())
    }

    /// The tensor as a view.
    ///
    /// # Errors
    /// `Error::Device` for memory the host cannot read, `Error::Dtype` and `Error::Layout` as for [`BufferView::new`].
    ///
    /// # Safety
    /// - `shape` (and `strides`, unless null) must point to `ndim` numbers, readable for `'a`.
    /// - If the device is the CPU or pinned host memory, every element must be readable and unwritten for `'a`.
    #[allow(unsafe_code)]
    pub unsafe fn view<'a>(&self) -> Result<BufferView<'a>> {
        if ![CPU, CUDA_HOST].contains(&self.device.device_type) {
            let kind = match self.device.device_type {
                2 => "CUDA",
                8 => "Metal",
                10 => "ROCm",
                14 => "oneAPI",
                _ => "DLPack",
            };
            return Err(Error::Device {
                got: format!("{kind} device {} (type {})", self.device.device_id, self.device.device_type),
            });
        }
        let dtype = self.dtype()?;
        let n_axes = self.ndim.max(0) as usize;
        if n_axes > MAX_AXES {
            return Err(Error::Layout { expected: format!("at most {MAX_AXES} axes"), got: format!("{n_axes}") });
        }
        let mut shape = [0i64; MAX_AXES];
        let mut strides = [1i64; MAX_AXES];
        if n_axes > 0 {
            // SAFETY: the caller promises `ndim` readable numbers.
            shape[..n_axes].copy_from_slice(unsafe { std::slice::from_raw_parts(self.shape, n_axes) });
            if self.strides.is_null() {
                for axis in (1..n_axes).rev() {
                    strides[axis - 1] = strides[axis] * shape[axis];
                }
            } else {
                // SAFETY: as above.
                strides[..n_axes].copy_from_slice(unsafe { std::slice::from_raw_parts(self.strides, n_axes) });
            }
        }
        let data = self.data.cast::<u8>().cast_const().wrapping_add(self.byte_offset as usize);
        // SAFETY: the caller promises that every element of the shape is readable and unwritten for 'a.
        unsafe { BufferView::new(data, dtype, &shape[..n_axes], &strides[..n_axes]) }
    }
}

#[cfg(test)]
#[allow(unsafe_code)]
mod tests {
    use super::*;

    fn tensor(data: &mut [f32], shape: &mut [i64], device_type: i32, code: u8, bits: u8) -> DLTensor {
        DLTensor {
            data: data.as_mut_ptr().cast(),
            device: DLDevice { device_type, device_id: 0 },
            ndim: shape.len() as i32,
            dtype: DLDataType { code, bits, lanes: 1 },
            shape: shape.as_mut_ptr(),
            strides: std::ptr::null_mut(),
            byte_offset: 4,
        }
    }

    #[test]
    fn offset_and_missing_strides_are_honoured() {
        let (mut data, mut shape) = ([9.0, 1.0, 2.0, 3.0, 4.0], [2, 2]);
        // SAFETY: four floats lie behind the offset of one.
        let view = unsafe { tensor(&mut data, &mut shape, 1, 2, 32).view() }.unwrap();
        assert_eq!(view.strides(), [2, 1]);
        assert_eq!(view.rows::<f32>(2).unwrap().slice(1), [3.0, 4.0]);
    }

    #[test]
    fn other_devices_and_types_are_refused() {
        let (mut data, mut shape) = ([0.0; 5], [2, 2]);
        // SAFETY: refused before anything is read.
        let error = unsafe { tensor(&mut data, &mut shape, 2, 2, 32).view() }.unwrap_err();
        assert!(error.to_string().contains("CUDA"), "{error}");
        for (code, bits, name) in [(0, 64, "int64"), (6, 8, "bool"), (11, 8, "float8"), (5, 64, "complex64")] {
            // SAFETY: refused before anything is read.
            let error = unsafe { tensor(&mut data, &mut shape, 1, code, bits).view() }.unwrap_err();
            assert!(error.to_string().contains(name), "{error}");
        }
    }
}
