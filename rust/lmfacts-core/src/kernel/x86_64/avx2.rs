//! AVX2: four f64 lanes a register, and sixteen registers, so that one group of four dims keeps all its sums in them.

super::level!(Level::Avx2, 4, 4, 4, "avx2,fma,bmi1,bmi2", ["avx2", "fma", "bmi1", "bmi2"]);
