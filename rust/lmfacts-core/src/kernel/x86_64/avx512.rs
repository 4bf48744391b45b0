//! AVX-512: eight f64 lanes a register, and thirty-two registers, so that sixteen dims, one cache line of f32, go together where a kernel
//! takes group by group, and four rows where it goes along them.

super::level!(
    Level::Avx512,
    16,
    4,
    8,
    "avx512f,avx512bw,avx512dq,avx512vl,avx2,fma,bmi1,bmi2",
    ["avx512f", "avx512bw", "avx512dq", "avx512vl", "avx2", "fma", "bmi1", "bmi2"]
);
