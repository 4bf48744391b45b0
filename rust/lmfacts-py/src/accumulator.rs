//! `SiteAccumulator` for Python.

use lmfacts_core::{Dtype, Pool, Population, PopulationState, SiteAccumulator, SiteConfig, SiteState};
use pyo3::exceptions::PyKeyError;
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyDict};

use crate::detached_lock::DetachedLock;
use crate::error::{StateError, to_py};
use crate::tensor::Tensor;
use crate::tokens::PyTokenBatch;

/// Calls a macro with the name and the type of each list of a population's state.
macro_rules! for_each_list {
    ($do:ident) => {
        $do!(codes, u16);
        $do!(counts, u64);
        $do!(moments, f64);
        $do!(mean_rests, f64);
        $do!(dim_counts, u64);
        $do!(norm_codes, u16);
        $do!(norm_counts, u64);
        $do!(token_moments, f64);
        $do!(token_mean_rests, f64);
        $do!(unit_sums, f64);
        $do!(outlier_values, f64);
        $do!(outlier_index, i64);
        $do!(block_tokens, u64);
        $do!(block_token_moments, f64);
        $do!(block_token_mean_rests, f64);
        $do!(maxima_values, f64);
        $do!(maxima_index, i64);
        $do!(block_lengths, u64);
        $do!(block_codes, u16);
        $do!(block_counts, u64);
        $do!(dim_bins, u32);
        $do!(dim_bin_counts, u64);
    };
}

/// All statistics of one site, in memory that does not grow with the number of tokens.
///
/// Args:
///     k: outliers to keep in each population.
///     threshold: magnitude at or above which values are counted, dim by dim.
///     unit_sums: whether to keep the sums of unit vectors that the mean cosine between tokens needs.
///     blocks: whether to keep tokens and norms by eight blocks of sequences, and the largest value of each of the first 64 sequences.
///     detail: whether to keep, for all tokens but the first of sequences, the codes by block and a histogram of each dim.
///
/// Raises:
///     UsageError: if the threshold is negative or NaN, or LMFACTS_SIMD or LMFACTS_NUM_THREADS has a value that cannot be meant.
#[pyclass(name = "SiteAccumulator", module = "lmfacts._native", frozen)]
#[derive(Debug)]
pub(crate) struct PySiteAccumulator(DetachedLock<SiteAccumulator>);

#[pymethods]
impl PySiteAccumulator {
    #[new]
    #[pyo3(signature = (*, k = 64, threshold = 6.0, unit_sums = false, blocks = false, detail = false))]
    fn new(k: usize, threshold: f64, unit_sums: bool, blocks: bool, detail: bool) -> PyResult<Self> {
        let site = SiteAccumulator::new(SiteConfig { k, threshold, unit_sums, norms: true, blocks, detail }).map_err(to_py)?;
        Ok(Self(DetachedLock::new(site)))
    }

    /// Takes in a tensor, reading it where it lies, detached from the interpreter.
    ///
    /// Args:
    ///     tensor: a torch tensor or anything else with `__dlpack__`, in host memory, of dtype float64, float32, bfloat16 or float16;
    ///         its leading axes are the batch's tokens, what is left is one token's dims. Any strides.
    ///     tokens: the batch.
    ///
    /// Raises:
    ///     LayoutError: the shape does not fit the batch, or the dims seen before.
    ///     UnsupportedDtypeError: another dtype, or not the one seen before.
    ///     UnsupportedDeviceError: the tensor is not in host memory.
    ///     BufferImportError: the tensor's memory cannot be shared.
    fn update(&self, py: Python<'_>, tensor: &Bound<'_, PyAny>, tokens: &Bound<'_, PyTokenBatch>) -> PyResult<()> {
        let held = Tensor::of(tensor)?;
        let view = held.view()?;
        let tokens = &tokens.get().0;
        let pool = Pool::global().map_err(to_py)?;
        self.0.with(py, |site| site.update(&view, tokens, &pool))?.map_err(to_py)
    }

    /// Takes in all that another accumulator recorded.
    ///
    /// Raises:
    ///     MergeError: the settings, dtypes or numbers of dims differ.
    fn merge(&self, py: Python<'_>, other: &Bound<'_, Self>) -> PyResult<()> {
        let theirs = other.get().0.with(py, |site| site.clone())?;
        self.0.with(py, |site| site.merge(&theirs))?.map_err(to_py)
    }

    /// Sequence and position of each outlier that stands in this sequence or a later one; some more than once.
    fn outlier_places_from(&self, py: Python<'_>, sequence: i64) -> PyResult<Vec<(i64, i64)>> {
        self.0.with(py, |site| site.outlier_places_from(sequence))
    }

    /// All that was recorded: settings and counts as numbers, lists as bytes of little-endian arrays.
    fn state<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyDict>> {
        state_dict(py, &self.0.with(py, |site| site.state())?)
    }

    /// The accumulator that gave this state.
    ///
    /// Raises:
    ///     KeyError: an entry is missing.
    ///     StateError: the entries do not fit together.
    #[staticmethod]
    fn from_state(state: &Bound<'_, PyDict>) -> PyResult<Self> {
        let config = SiteConfig {
            k: field(state, "k")?.extract()?,
            threshold: field(state, "threshold")?.extract()?,
            unit_sums: field(state, "unit_sums")?.extract()?,
            norms: true,
            blocks: field(state, "blocks")?.extract()?,
            detail: field(state, "detail")?.extract()?,
        };
        let dtype: String = field(state, "dtype")?.extract()?;
        let layout = match Dtype::from_name(&dtype) {
            Some(dtype) => Some((dtype, field(state, "n_dims")?.extract()?)),
            None if dtype.is_empty() => None,
            None => return Err(StateError::new_err(format!("cannot restore the state: dtype {dtype:?} is not known"))),
        };
        let mut populations = [PopulationState::default(), PopulationState::default()];
        for (population, part) in Population::ALL.into_iter().zip(&mut populations) {
            let name = |field: &str| format!("{}/{field}", population.name());
            part.n_tokens = field(state, &name("n_tokens"))?.extract()?;
            macro_rules! read {
                ($field:ident, $type:ty) => {
                    part.$field = numbers(state, &name(stringify!($field)), <$type>::from_le_bytes)?;
                };
            }
            for_each_list!(read);
        }
        let site = SiteAccumulator::from_state(&SiteState { config, layout, populations }).map_err(to_py)?;
        Ok(Self(DetachedLock::new(site)))
    }

    /// Bytes that the accumulator holds.
    #[getter]
    fn n_bytes(&self, py: Python<'_>) -> PyResult<usize> {
        self.0.with(py, |site| site.n_bytes())
    }
}

/// A state as a dict of numbers and of bytes.
pub(crate) fn state_dict<'py>(py: Python<'py>, state: &SiteState) -> PyResult<Bound<'py, PyDict>> {
    let dict = PyDict::new(py);
    dict.set_item("k", state.config.k)?;
    dict.set_item("threshold", state.config.threshold)?;
    dict.set_item("unit_sums", state.config.unit_sums)?;
    dict.set_item("blocks", state.config.blocks)?;
    dict.set_item("detail", state.config.detail)?;
    dict.set_item("dtype", state.layout.map_or("", |(dtype, _)| dtype.name()))?;
    dict.set_item("n_dims", state.layout.map_or(0, |(_, n_dims)| n_dims))?;
    for (population, part) in Population::ALL.into_iter().zip(&state.populations) {
        let name = |field: &str| format!("{}/{field}", population.name());
        dict.set_item(name("n_tokens"), part.n_tokens)?;
        macro_rules! write {
            ($field:ident, $type:ty) => {
                dict.set_item(name(stringify!($field)), bytes(py, &part.$field, <$type>::to_le_bytes))?;
            };
        }
        for_each_list!(write);
    }
    Ok(dict)
}

pub(crate) fn bytes<'py, T: Copy, const N: usize>(
    py: Python<'py>,
    values: &[T],
    encode: fn(T) -> [u8; N],
) -> Bound<'py, PyBytes> {
    let encoded: Vec<u8> = values.iter().flat_map(|&value| encode(value)).collect();
    PyBytes::new(py, &encoded)
}

fn field<'py>(state: &Bound<'py, PyDict>, name: &str) -> PyResult<Bound<'py, PyAny>> {
    state.get_item(name)?.ok_or_else(|| PyKeyError::new_err(format!("cannot restore the state: {name:?} is missing")))
}

fn numbers<T, const N: usize>(state: &Bound<'_, PyDict>, name: &str, decode: fn([u8; N]) -> T) -> PyResult<Vec<T>> {
    let value = field(state, name)?;
    let bytes: &[u8] = value.extract()?;
    match bytes.as_chunks::<N>() {
        (chunks, []) => Ok(chunks.iter().map(|&chunk| decode(chunk)).collect()),
        _ => Err(StateError::new_err(format!(
            "cannot restore the state: {name} should be a multiple of {N} bytes long, got {}",
            bytes.len()
        ))),
    }
}
