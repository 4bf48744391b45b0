"""What the CUDA kernels and Rust both lay out in memory cannot come to differ: the kernels would not build."""

from __future__ import annotations

import pytest

from support.emulated_device import COMPILER, NO_COMPILER, built_library, kernel_sources

pytestmark = pytest.mark.skipif(COMPILER is None, reason=NO_COMPILER)


@pytest.mark.parametrize(
    ("here", "there", "named"),
    [
        ("u32 k, n_splits, ", "u32 n_splits, k, ", r"OFFSET_OF\(Update, k\)"),
        (
            "const i64 *sequence, *position, *token_id;",
            "const i64 *position, *sequence, *token_id;",
            r"\(Update, sequence\)",
        ),
        ("    void *state;\n    void *scratch;\n", "    void *scratch;\n    void *state;\n", r"StatisticUpdate, state"),
        ("f64 n, mean, mean_lo, m2", "f64 n, mean_lo, mean, m2", r"Moments, mean\)"),
        (
            "i64 sequence, position, dim, token_id;\n} Outlier",
            "i64 sequence, dim, position, token_id;\n} Outlier",
            "Outlier, dim",
        ),
        ("u32 n_rows, n_columns;", "u32 n_columns, n_rows;", r"Tokens, n_rows\)"),
        ("i64 row_stride, column_stride;", "i64 column_stride, row_stride;", "Argument, row_stride"),
        ("} Moments;", "    f64 more;\n} Moments;", r"sizeof\(Moments\)"),
        ("#define N_MAXIMA 64", "#define N_MAXIMA 65", "N_MAXIMA == 64"),
        ("P_REACHED, N_PARTIALS", "P_REACHED, P_MORE, N_PARTIALS", "N_PARTIALS == 12"),
    ],
)
def test_what_moves_on_one_side_is_an_error_that_names_it(here, there, named):
    source = kernel_sources("bfloat16")
    assert source.count(here) == 1, "the source has it once"
    with pytest.raises(AssertionError, match=f"not as in Rust.*{named}"):
        built_library("bfloat16", source.replace(here, there), 227 << 10)
