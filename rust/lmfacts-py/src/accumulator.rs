//! `SiteAccumulator` for Python.

use lmfacts_core::state::{Arrays, NamedArray, PopulationState, Values};
use lmfacts_core::{Dtype, Pool, Population, SiteAccumulator, SiteConfig, SiteState, Statistics};
use pyo3::exceptions::PyKeyError;
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyDict, PyTuple};

use crate::detached_lock::DetachedLock;
use crate::error::{StateError, to_py};
use crate::tensor::Tensor;
use crate::tokens::PyTokenBatch;

/// All statistics of one site, in memory that does not grow with the number of tokens.
///
/// Args:
///     k: outliers to keep in each population.
///     threshold: magnitude at or above which values are counted, dim by dim.
///     statistics: names of statistics to keep beside those that every site keeps.
///
/// Raises:
///     UsageError: if the threshold is negative or NaN, there is no such statistic, or LMFACTS_SIMD or LMFACTS_NUM_THREADS has an invalid
///         value.
#[pyclass(name = "SiteAccumulator", module = "lmfacts._native", frozen)]
#[derive(Debug)]
pub(crate) struct PySiteAccumulator(DetachedLock<SiteAccumulator>);

#[pymethods]
impl PySiteAccumulator {
    #[new]
    #[pyo3(signature = (*, k = 64, threshold = 6.0, statistics = Vec::new()))]
    #[allow(clippy::needless_pass_by_value)] // what a Python sequence is turned into
    fn new(k: usize, threshold: f64, statistics: Vec<String>) -> PyResult<Self> {
        let site = SiteAccumulator::new(config(k, threshold, &statistics)?).map_err(to_py)?;
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

    /// All that was recorded: settings and counts as numbers, and under `POPULATION/NAME` each array as its dtype, its shape and its
    /// bytes.
    fn state<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyDict>> {
        state_dict(py, &self.0.with(py, |site| site.state())?)
    }

    /// The accumulator that gave this state.
    ///
    /// Raises:
    ///     KeyError: a setting or a number of tokens is missing.
    ///     UsageError: there is no such statistic.
    ///     StateError: the entries do not fit together.
    #[staticmethod]
    fn from_state(state: &Bound<'_, PyDict>) -> PyResult<Self> {
        let names: Vec<String> = field(state, STATISTICS)?.extract()?;
        let config = SiteConfig {
            k: field(state, K)?.extract()?,
            threshold: field(state, THRESHOLD)?.extract()?,
            statistics: Statistics::from_names(names.iter().map(String::as_str)).map_err(to_py)?,
        };
        let dtype: String = field(state, DTYPE)?.extract()?;
        let n_dims: usize = field(state, N_DIMS)?.extract()?;
        let layout = match Dtype::from_name(&dtype) {
            Some(dtype) => Some((dtype, n_dims)),
            None if dtype.is_empty() => None,
            None => return Err(StateError::new_err(format!("cannot restore the state: dtype {dtype:?} is not known"))),
        };
        let mut populations = [PopulationState::default(), PopulationState::default()];
        for (population, part) in Population::ALL.into_iter().zip(&mut populations) {
            part.n_tokens = field(state, &key(population, N_TOKENS))?.extract()?;
            part.arrays = arrays_of(state, population)?;
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

/// The settings of a site that is to keep these statistics beside those that every site keeps.
pub(crate) fn config(k: usize, threshold: f64, statistics: &[String]) -> PyResult<SiteConfig> {
    let asked = Statistics::from_names(statistics.iter().map(String::as_str)).map_err(to_py)?;
    Ok(SiteConfig { k, threshold, statistics: Statistics::default().with(asked) })
}

// The keys of a state that are no arrays.
const K: &str = "k";
const THRESHOLD: &str = "threshold";
const STATISTICS: &str = "statistics";
const DTYPE: &str = "dtype";
const N_DIMS: &str = "n_dims";
const N_TOKENS: &str = "n_tokens";

fn key(population: Population, name: &str) -> String {
    format!("{}/{name}", population.name())
}

/// A state as a dict of settings, numbers of tokens and arrays.
pub(crate) fn state_dict<'py>(py: Python<'py>, state: &SiteState) -> PyResult<Bound<'py, PyDict>> {
    let dict = PyDict::new(py);
    dict.set_item(K, state.config.k)?;
    dict.set_item(THRESHOLD, state.config.threshold)?;
    dict.set_item(STATISTICS, PyTuple::new(py, state.config.statistics.names().collect::<Vec<_>>())?)?;
    dict.set_item(DTYPE, state.layout.map_or("", |(dtype, _)| dtype.name()))?;
    dict.set_item(N_DIMS, state.layout.map_or(0, |(_, n_dims)| n_dims))?;
    for (population, part) in Population::ALL.into_iter().zip(&state.populations) {
        dict.set_item(key(population, N_TOKENS), part.n_tokens)?;
        for array in part.arrays.iter() {
            dict.set_item(key(population, array.name()), array_tuple(py, array)?)?;
        }
    }
    Ok(dict)
}

/// An array as Python has it: dtype, shape, bytes.
pub(crate) fn array_tuple<'py>(py: Python<'py>, array: &NamedArray) -> PyResult<Bound<'py, PyTuple>> {
    let (shape, bytes) = (PyTuple::new(py, array.shape())?, PyBytes::new(py, &array.values().to_bytes()));
    (array.values().dtype(), shape, bytes).into_pyobject(py)
}

/// The arrays of a population in a state.
fn arrays_of(state: &Bound<'_, PyDict>, population: Population) -> PyResult<Arrays> {
    let mut arrays = Arrays::default();
    for (name, value) in state {
        let name: String = name.extract()?;
        let Some(own) = name.strip_prefix(population.name()).and_then(|rest| rest.strip_prefix('/')) else { continue };
        if own == N_TOKENS {
            continue;
        }
        let (dtype, shape, bytes): (String, Vec<usize>, Bound<'_, PyBytes>) = value.extract()?;
        let bytes = bytes.as_bytes();
        let refused = || {
            let found = format!("{} bytes of {dtype:?}", bytes.len());
            StateError::new_err(format!("cannot restore the state: {name} should be whole numbers of a known dtype, got {found}"))
        };
        let values = Values::from_bytes(&dtype, bytes).ok_or_else(refused)?;
        arrays.push(NamedArray::new(own.to_owned(), shape, values).map_err(to_py)?);
    }
    Ok(arrays)
}

fn field<'py>(state: &Bound<'py, PyDict>, name: &str) -> PyResult<Bound<'py, PyAny>> {
    state.get_item(name)?.ok_or_else(|| PyKeyError::new_err(format!("cannot restore the state: {name:?} is missing")))
}
