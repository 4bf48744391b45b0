//! What was recorded, as named arrays: the form in which states leave this crate and come back.
//!
//! An array says its name, its type and its shape. Who passes states on (to Python, to a file, from a device) need not know which arrays
//! there are; who made an array is who reads it.

use std::borrow::Cow;

use crate::config::SiteConfig;
use crate::dtype::Dtype;
use crate::error::{Error, Result};

/// The numbers of an array, in the order of its last axis.
#[derive(Debug, Clone, PartialEq)]
#[allow(missing_docs)] // each is a list of numbers of that type
pub enum Values {
    U16(Vec<u16>),
    U32(Vec<u32>),
    U64(Vec<u64>),
    I64(Vec<i64>),
    F64(Vec<f64>),
}

/// A type of numbers that arrays hold.
pub trait Number: Copy {
    /// NumPy's name of it, little-endian.
    const DTYPE: &'static str;

    /// The list as an array's numbers.
    fn wrap(list: Vec<Self>) -> Values;

    /// The list in an array, if it is of this type.
    fn unwrap(values: &Values) -> Option<&[Self]>;
}

macro_rules! number {
    ($type:ident, $variant:ident, $dtype:literal) => {
        impl Number for $type {
            const DTYPE: &'static str = $dtype;

            fn wrap(list: Vec<Self>) -> Values {
                Values::$variant(list)
            }

            fn unwrap(values: &Values) -> Option<&[Self]> {
                match values {
                    Values::$variant(list) => Some(list),
                    _ => None,
                }
            }
        }
    };
}
number!(u16, U16, "<u2");
number!(u32, U32, "<u4");
number!(u64, U64, "<u8");
number!(i64, I64, "<i8");
number!(f64, F64, "<f8");

/// Calls a macro with the list in some [`Values`].
macro_rules! with_list {
    ($values:expr, $list:ident => $do:expr) => {
        match $values {
            Values::U16($list) => $do,
            Values::U32($list) => $do,
            Values::U64($list) => $do,
            Values::I64($list) => $do,
            Values::F64($list) => $do,
        }
    };
}

impl Values {
    /// NumPy's name of their type, little-endian.
    pub const fn dtype(&self) -> &'static str {
        match self {
            Self::U16(_) => u16::DTYPE,
            Self::U32(_) => u32::DTYPE,
            Self::U64(_) => u64::DTYPE,
            Self::I64(_) => i64::DTYPE,
            Self::F64(_) => f64::DTYPE,
        }
    }

    /// How many there are.
    pub const fn len(&self) -> usize {
        with_list!(self, list => list.len())
    }

    /// Whether there are none.
    pub const fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Their bytes, little-endian.
    pub fn to_bytes(&self) -> Vec<u8> {
        with_list!(self, list => list.iter().flat_map(|number| number.to_le_bytes()).collect())
    }

    /// The numbers of a type, by NumPy's name, with these bytes; none if there is no such type or the bytes are no whole numbers.
    pub fn from_bytes(dtype: &str, bytes: &[u8]) -> Option<Self> {
        fn list<T: Number, const N: usize>(bytes: &[u8], decode: fn([u8; N]) -> T) -> Option<Values> {
            let (chunks, []) = bytes.as_chunks::<N>() else { return None };
            Some(T::wrap(chunks.iter().map(|&chunk| decode(chunk)).collect()))
        }
        match dtype {
            u16::DTYPE => list(bytes, u16::from_le_bytes),
            u32::DTYPE => list(bytes, u32::from_le_bytes),
            u64::DTYPE => list(bytes, u64::from_le_bytes),
            i64::DTYPE => list(bytes, i64::from_le_bytes),
            f64::DTYPE => list(bytes, f64::from_le_bytes),
            _ => None,
        }
    }
}

/// An array that says what it is.
#[derive(Debug, Clone, PartialEq)]
pub struct NamedArray {
    name: Cow<'static, str>,
    shape: Vec<usize>,
    values: Values,
}

impl NamedArray {
    /// An array.
    ///
    /// # Errors
    /// `Error::State` if the shape has another number of entries.
    pub fn new(name: impl Into<Cow<'static, str>>, shape: Vec<usize>, values: Values) -> Result<Self> {
        let name = name.into();
        let n_entries = shape.iter().try_fold(1usize, |product, &length| product.checked_mul(length));
        if n_entries == Some(values.len()) {
            return Ok(Self { name, shape, values });
        }
        Err(Error::State {
            field: name.into_owned(),
            expected: format!("as many entries as its shape {shape:?} has"),
            got: values.len().to_string(),
        })
    }

    /// Its name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Its shape.
    pub fn shape(&self) -> &[usize] {
        &self.shape
    }

    /// Its numbers.
    pub const fn values(&self) -> &Values {
        &self.values
    }
}

/// Arrays, each found by its name.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Arrays(Vec<NamedArray>);

impl Arrays {
    /// Adds an array of one axis.
    pub fn push_list<T: Number>(&mut self, name: &'static str, list: Vec<T>) {
        let shape = vec![list.len()];
        self.0.push(NamedArray { name: name.into(), shape, values: T::wrap(list) });
    }

    /// Adds an array whose shape begins with the number of these rows.
    pub fn push_rows<T: Number, const N: usize>(&mut self, name: &'static str, rows: &[[T; N]]) {
        self.0.push(NamedArray { name: name.into(), shape: vec![rows.len(), N], values: T::wrap(rows.concat()) });
    }

    /// Adds an array of a shape that has as many entries.
    ///
    /// # Panics
    /// If it has not.
    pub fn push_table<T: Number, const N: usize>(&mut self, name: &'static str, shape: [usize; N], entries: Vec<T>) {
        assert_eq!(shape.iter().product::<usize>(), entries.len(), "{name} has as many entries as its shape says");
        self.0.push(NamedArray { name: name.into(), shape: shape.to_vec(), values: T::wrap(entries) });
    }

    /// Adds an array.
    pub fn push(&mut self, array: NamedArray) {
        self.0.push(array);
    }

    /// All of them.
    pub fn iter(&self) -> impl Iterator<Item = &NamedArray> {
        self.0.iter()
    }

    /// The array of one axis with this name.
    ///
    /// # Errors
    /// `Error::State` if there is none of this type with one axis.
    pub fn list<T: Number>(&self, name: &str) -> Result<&[T]> {
        self.find(name, |shape| shape.len() == 1, || "[any]".into())
    }

    /// The array of rows of `N` numbers with this name.
    ///
    /// # Errors
    /// `Error::State` if there is none of this type with such rows.
    pub fn rows<T: Number, const N: usize>(&self, name: &str) -> Result<&[[T; N]]> {
        self.find(name, |shape| shape.len() == 2 && shape[1] == N, || format!("[any, {N}]")).map(|entries| entries.as_chunks().0)
    }

    /// The array of this shape with this name.
    ///
    /// # Errors
    /// `Error::State` if there is none of this type and shape.
    pub fn table<T: Number, const N: usize>(&self, name: &str, shape: [usize; N]) -> Result<&[T]> {
        self.find(name, |found| found == shape, || format!("{shape:?}"))
    }

    fn find<T: Number>(&self, name: &str, fits: impl Fn(&[usize]) -> bool, expected: impl Fn() -> String) -> Result<&[T]> {
        let array = self.0.iter().find(|array| array.name == name);
        let list = array.filter(|array| fits(&array.shape)).and_then(|array| T::unwrap(&array.values));
        list.ok_or_else(|| Error::State {
            field: name.into(),
            expected: format!("an array {} of {}", expected(), T::DTYPE),
            got: array.map_or("none".into(), |array| format!("one {:?} of {}", array.shape, array.values.dtype())),
        })
    }
}

/// One population's part of a [`SiteState`].
#[derive(Debug, Clone, PartialEq, Default)]
pub struct PopulationState {
    /// Tokens counted.
    pub n_tokens: u64,
    /// What each statistic recorded of them.
    pub arrays: Arrays,
}

/// All that an accumulator holds.
#[derive(Debug, Clone, PartialEq)]
pub struct SiteState {
    /// What was recorded.
    pub config: SiteConfig,
    /// Type and number of dims; none before the first update.
    pub layout: Option<(Dtype, usize)>,
    /// The populations `first` and `rest`; without arrays before the first update.
    pub populations: [PopulationState; 2],
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_come_back_as_the_numbers_that_gave_them() {
        for values in [
            Values::U16(vec![1, 0xfffe]),
            Values::U32(vec![7]),
            Values::U64(vec![u64::MAX]),
            Values::I64(vec![-1, 5]),
            Values::F64(vec![-0.5, f64::INFINITY]),
        ] {
            assert_eq!(Values::from_bytes(values.dtype(), &values.to_bytes()), Some(values));
        }
        assert_eq!(Values::from_bytes("<u2", &[1, 2, 3]), None);
        assert_eq!(Values::from_bytes("<c16", &[]), None);
    }

    #[test]
    fn an_array_is_found_by_name_type_and_shape() {
        let mut arrays = Arrays::default();
        arrays.push_list("codes", vec![1u16, 2]);
        arrays.push_table("moments", [2, 3], vec![0.0; 6]);
        arrays.push_rows("places", &[[1i64, 2], [3, 4], [5, 6]]);
        assert_eq!(arrays.list::<u16>("codes").unwrap(), [1, 2]);
        assert_eq!(arrays.table::<f64, 2>("moments", [2, 3]).unwrap().len(), 6);
        assert_eq!(arrays.rows::<i64, 2>("places").unwrap()[2], [5, 6]);
        let message = |result: Result<&[u64]>| result.unwrap_err().to_string();
        assert_eq!(
            message(arrays.list("codes")),
            "cannot restore the state: codes should be an array [any] of <u8, got one [2] of <u2"
        );
        assert!(message(arrays.list("none")).ends_with("got none"));
        assert!(arrays.table::<f64, 2>("moments", [3, 2]).is_err());
    }

    #[test]
    fn a_shape_that_does_not_fit_is_refused() {
        assert!(NamedArray::new("x", vec![2, 2], Values::U16(vec![0; 4])).is_ok());
        assert!(NamedArray::new("x", vec![3], Values::U16(vec![0; 4])).is_err());
        assert!(NamedArray::new("x", vec![usize::MAX, 2], Values::U16(Vec::new())).is_err());
    }
}
