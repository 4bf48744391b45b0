"""Singular values of a matrix as a file stores it, and of the random matrices to compare it with.

Two ways. The Gram way sums A^T A (or A A^T, the smaller) in float64, block by block, so that of the wide copy only a
block exists at a time, and takes square roots of its eigenvalues: an eigenvalue is accurate to about eps s_1^2, hence a
singular value s to eps (s_1 / s)^2 / 2 of itself, and what is below about sqrt(eps) s_1 = 1.5e-8 s_1 is noise. The SVD
way copies the whole matrix to float64 and is accurate to a few eps s_1 throughout. The first is taken where one side is
at least `GRAM_ASPECT` times the other: it is faster there, and long thin matrices are far from singular.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, Final, Literal

import numpy as np

from lmfacts.errors import UsageError
from lmfacts.stats.codes import decode, float8_values

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

__all__ = [
    "GRAM_ASPECT",
    "frobenius_norm",
    "gaussian_singular_values",
    "largest_singular_value",
    "shuffled_spectral_norm",
    "singular_values",
    "uses_gram",
]

GRAM_ASPECT: Final = 4
"""Longer side over shorter side from which the Gram matrix is used."""

Method = Literal["auto", "gram", "svd"]

_BLOCK_BYTES = 32 << 20
_SAFE_EXPONENT = 32
"""Powers of two within which the squares of a matrix's entries can be summed as they are."""
_PATTERNS = {"bfloat16": "uint16", "float8_e4m3fn": "uint8", "float8_e5m2": "uint8"}


def singular_values(matrix: NDArray[Any], *, dtype: str | None = None, method: Method = "auto") -> NDArray[np.float64]:
    """The singular values, largest first.

    Args:
        matrix: [rows..., cols], floating point or integers, any strides; leading axes are taken as one.
        dtype: what the bit patterns of an array are: "bfloat16" (uint16), "float8_e4m3fn" or "float8_e5m2" (uint8).
        method: "gram", "svd" (see the module), or "auto".

    Returns:
        float64 [min(rows, cols)]; all NaN if an entry is not finite.

    Raises:
        UsageError: fewer than two axes, or an array that does not hold `dtype`.
    """
    rows, cols = _shape(matrix, dtype)
    n_values = min(rows, cols)
    if not n_values:
        return np.zeros(0)
    exponent = _scale_exponent(matrix, dtype)
    if exponent is None:
        return np.full(n_values, np.nan)
    gram = uses_gram(rows, cols) if method == "auto" else method == "gram"
    values = _from_gram(matrix, dtype, exponent) if gram else _from_svd(matrix, dtype, exponent)
    return np.ldexp(values, exponent)


def uses_gram(rows: int, cols: int) -> bool:
    """Whether `singular_values` goes through the Gram matrix."""
    return max(rows, cols) >= GRAM_ASPECT * min(rows, cols)


def frobenius_norm(matrix: NDArray[Any], *, dtype: str | None = None) -> float:
    """Square root of the sum of the squared entries, in float64, block by block; NaN if an entry is not finite.

    Raises:
        UsageError: as `singular_values`.
    """
    _shape(matrix, dtype)
    exponent = _scale_exponent(matrix, dtype)
    if exponent is None:
        return math.nan
    total = math.fsum(float(np.vdot(block, block)) for block in _blocks(matrix, dtype, exponent))
    return math.ldexp(math.sqrt(total), exponent)


def largest_singular_value(matrix: NDArray[Any], *, seed: int = 0) -> float:
    """The spectral norm alone, to about ten digits.

    Lanczos on A^T A (ARPACK) in the matrix's own type gives the singular vector v, to four digits or more; ||A v|| in
    float64, whose error is the square of the vector's, gives the norm.

    Args:
        matrix: [m, n], float32 or float64, finite; float32 is multiplied as such.
        seed: of the vector to start from.

    """
    from scipy.sparse.linalg import LinearOperator, eigsh  # noqa: PLC0415  slow to load

    if min(matrix.shape) <= 2 or not matrix.any():  # noqa: PLR2004  one is no spread
        return float(singular_values(matrix)[0]) if matrix.size else 0.0
    # Squares of very large or small entries would leave the range of the type.
    exponent = math.frexp(max(-float(matrix.min()), float(matrix.max())))[1]
    if abs(exponent) > _SAFE_EXPONENT:
        matrix = np.ldexp(matrix, -exponent)
    else:
        exponent = 0
    narrow = matrix if matrix.shape[0] >= matrix.shape[1] else matrix.T
    size = narrow.shape[1]

    def times_gram(vector: NDArray[Any]) -> NDArray[Any]:
        return np.asarray(narrow.T @ (narrow @ vector.astype(matrix.dtype, copy=False)))

    operator = LinearOperator((size, size), matvec=times_gram, dtype=matrix.dtype)
    start = np.random.default_rng(seed).standard_normal((1, size)).astype(matrix.dtype)[0]
    _, vectors = eigsh(operator, k=1, which="LA", tol=1e-6, v0=start, maxiter=20 * size)
    vector = vectors[:, 0].astype(np.float64)
    squares = math.fsum(
        float(np.square(block.astype(np.float64) @ vector).sum())
        for block in np.array_split(narrow, math.ceil(narrow.size * vector.itemsize / _BLOCK_BYTES))
    )
    return math.ldexp(math.sqrt(squares / float(vector @ vector)), exponent)


def shuffled_spectral_norm(
    matrix: NDArray[Any], *, dtype: str | None = None, seed: int = 0, n_shuffles: int = 3
) -> float:
    """The largest singular value found when the entries are put in random order, over some shuffles.

    What the entries' law alone makes of the spectrum, without any arrangement: for i.i.d. entries with finite fourth
    moment the Marchenko-Pastur edge, and more where a few giant entries stand out.

    Args:
        matrix: as in `singular_values`.
        dtype: as there.
        seed: of the shuffles; the same seed gives the same number.
        n_shuffles: how many.

    Returns:
        The largest of the spectral norms; NaN if an entry is not finite, 0 for an empty matrix.

    Raises:
        UsageError: as `singular_values`.
    """
    shape = _shape(matrix, dtype)
    if not min(shape):
        return 0.0
    exponent = _scale_exponent(matrix, dtype)
    if exponent is None:
        return math.nan
    wide = matrix.dtype == np.float64 or matrix.dtype.kind in "iub"
    entries = np.empty(shape, dtype=np.float64 if wide and dtype is None else np.float32)
    row = 0
    for block in _blocks(matrix, dtype, exponent):
        entries[row : row + block.shape[0]] = block
        row += block.shape[0]
    rng = np.random.default_rng(seed)
    norms = []
    for _ in range(n_shuffles):
        rng.shuffle(entries.reshape(-1))
        norms.append(largest_singular_value(entries, seed=seed))
    return math.ldexp(max(norms), exponent)


def gaussian_singular_values(m: int, n: int, seed: int = 0) -> NDArray[np.float64]:
    """Singular values of a random m x n matrix of independent standard Gaussian entries, largest first.

    Drawn without the matrix: they have the law of those of the bidiagonal matrix with independent entries
    chi_m, chi_(m-1), ..., chi_(m-n+1) on the diagonal and chi_(n-1), ..., chi_1 beside it (m >= n; Householder
    reduction of the Gaussian matrix, Silverstein 1985; Dumitriu and Edelman 2002, doi:10.1063/1.1507823). The
    eigenvalues of its square, a tridiagonal matrix, take O(n^2).

    Args:
        m: rows.
        n: columns.
        seed: of the draw.

    Returns:
        float64 [min(m, n)].
    """
    from scipy.linalg import eigvalsh_tridiagonal  # noqa: PLC0415  slow to load

    longer, size = max(m, n), min(m, n)
    if size == 0:
        return np.zeros(0)
    rng = np.random.default_rng(seed)
    diagonal = np.sqrt(rng.chisquare(longer - np.arange(size)))
    beside = np.sqrt(rng.chisquare(np.arange(size - 1, 0, -1))) if size > 1 else np.zeros(0)
    squares = diagonal**2
    squares[1:] += beside**2
    if size == 1:
        return np.asarray(np.sqrt(squares))
    eigenvalues = eigvalsh_tridiagonal(squares, diagonal[:-1] * beside, lapack_driver="sterf")
    return np.asarray(np.sqrt(np.maximum(eigenvalues[::-1], 0.0)))


# Inside


def _shape(matrix: NDArray[Any], dtype: str | None) -> tuple[int, int]:
    """Rows and columns, with the leading axes taken as one."""
    if matrix.ndim < 2:  # noqa: PLR2004  axes
        raise UsageError(f"A spectrum needs a matrix of two or more axes; got the shape {matrix.shape}.")
    stored = _PATTERNS.get(dtype or "", dtype)
    if stored not in (None, str(matrix.dtype)):
        raise UsageError(f"A matrix of {dtype} is stored as {stored}; got {matrix.dtype}.")
    return math.prod(matrix.shape[:-1]), matrix.shape[-1]


def _scale_exponent(matrix: NDArray[Any], dtype: str | None) -> int | None:
    """The e for which the largest magnitude over 2^e is in [1/2, 1); None if one is not finite."""
    largest = 0.0
    for block in _blocks(matrix, dtype, 0):
        low, high = float(block.min()), float(block.max())
        if not (math.isfinite(low) and math.isfinite(high)):
            return None
        largest = max(largest, -low, high)
    return math.frexp(largest)[1]


def _blocks(matrix: NDArray[Any], dtype: str | None, exponent: int) -> Iterator[NDArray[np.float64]]:
    """The matrix over 2^exponent as float64 blocks of whole rows, [b, cols], of some 32 MB."""
    if not matrix.size:
        return
    cols = matrix.shape[-1]
    if matrix.ndim > 2 and matrix[0].size * 8 > _BLOCK_BYTES:  # noqa: PLR2004  axes
        for part in matrix:
            yield from _blocks(part, dtype, exponent)
        return
    step = max(1, _BLOCK_BYTES // max(8 * matrix[:1].size, 1))
    for start in range(0, matrix.shape[0], step):
        part = matrix[start : start + step]
        block = np.ascontiguousarray(_widen(part, dtype)).reshape(-1, cols)
        yield np.ldexp(block, -exponent) if exponent else block


def _widen(part: NDArray[Any], dtype: str | None) -> NDArray[np.float64]:
    """Values or bit patterns as float64, whatever the strides."""
    if dtype == "bfloat16":
        return decode(part, dtype)
    if dtype in _PATTERNS:
        with np.errstate(invalid="ignore"):  # NaN patterns may be signaling
            return np.asarray(float8_values(dtype)[part], dtype=np.float64)
    return np.asarray(part, dtype=np.float64)


def _from_gram(matrix: NDArray[Any], dtype: str | None, exponent: int) -> NDArray[np.float64]:
    from scipy.linalg import eigvalsh  # noqa: PLC0415  slow to load
    from scipy.linalg.blas import dsyrk  # noqa: PLC0415  slow to load

    rows, cols = _shape(matrix, dtype)
    size = min(rows, cols)
    gram = np.zeros((size, size), order="F")
    if rows >= cols:
        for block in _blocks(matrix, dtype, exponent):
            gram = dsyrk(1.0, block.T, beta=1.0, c=gram, overwrite_c=1, lower=1)
    else:
        for block in _column_blocks(matrix, dtype, exponent, rows):
            gram = dsyrk(1.0, block.T, beta=1.0, c=gram, overwrite_c=1, lower=1, trans=1)
    eigenvalues = eigvalsh(gram, lower=True, overwrite_a=True, check_finite=False)
    return np.asarray(np.sqrt(np.maximum(eigenvalues[::-1], 0.0)))


def _column_blocks(matrix: NDArray[Any], dtype: str | None, exponent: int, rows: int) -> Iterator[NDArray[np.float64]]:
    """Float64 blocks of whole columns, [rows, b]."""
    step = max(1, _BLOCK_BYTES // (8 * rows))
    for start in range(0, matrix.shape[-1], step):
        yield np.concatenate(list(_blocks(matrix[..., start : start + step], dtype, exponent)))


def _from_svd(matrix: NDArray[Any], dtype: str | None, exponent: int) -> NDArray[np.float64]:
    from scipy.linalg import svdvals  # noqa: PLC0415  slow to load

    rows, cols = _shape(matrix, dtype)
    # The transpose of a Fortran-ordered [cols, rows] array is what LAPACK may overwrite without a copy of its own.
    wide = np.empty((rows, cols))
    row = 0
    for block in _blocks(matrix, dtype, exponent):
        wide[row : row + block.shape[0]] = block
        row += block.shape[0]
    return np.asarray(svdvals(wide.T, overwrite_a=True, check_finite=False))
