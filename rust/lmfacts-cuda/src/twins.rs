//! Structs and numbers that the kernels' sources have too.
//!
//! The kernels are not generated from Rust: they read better with the comments of their own. Instead, what is laid out in memory here and
//! there is stated in the sources that are compiled, as assertions of sizes, places and values. A field that moves on one side is an error
//! of the compiler, NVRTC or the host's, which names it.

use std::fmt::Write;

/// A struct that the kernels have under another name, with fields of the same names.
pub(crate) trait Twin: Sized {
    /// Its name in the kernels.
    const NAME: &'static str;
    /// Each field, and where in the struct it lies.
    const FIELDS: &'static [(&'static str, usize)];

    /// The kernels' struct is laid out as this one, in their own language.
    fn assertions() -> String {
        let name = Self::NAME;
        let mut text = format!("AS_IN_RUST(sizeof({name}) == {});\n", size_of::<Self>());
        for (field, offset) in Self::FIELDS {
            let _ = writeln!(text, "AS_IN_RUST(OFFSET_OF({name}, {field}) == {offset});");
        }
        text
    }
}

/// The kernels' numbers have these values, in their own language.
pub(crate) fn numbers(numbers: &[(&str, usize)]) -> String {
    let mut text = String::new();
    for (name, value) in numbers {
        let _ = writeln!(text, "AS_IN_RUST({name} == {value});");
    }
    text
}

/// Defines a struct that the kernels have too, under the name that is given.
macro_rules! twin {
    ($(#[$about:meta])* struct $type:ident as $name:ident { $($field:ident: $field_type:ty,)* }) => {
        $(#[$about])*
        #[derive(Debug, Clone, Copy, Default)]
        #[repr(C)]
        pub(crate) struct $type {
            $(pub(crate) $field: $field_type,)*
        }

        impl $crate::twins::Twin for $type {
            const NAME: &'static str = stringify!($name);
            const FIELDS: &'static [(&'static str, usize)] =
                &[$((stringify!($field), std::mem::offset_of!($type, $field)),)*];
        }
    };
}
pub(crate) use twin;

#[cfg(test)]
mod tests {
    use super::*;

    twin! {
        struct Rust as Kernels {
            first: u32,
            second: u64,
        }
    }

    #[test]
    fn every_field_has_its_place() {
        let expected = "AS_IN_RUST(sizeof(Kernels) == 16);\nAS_IN_RUST(OFFSET_OF(Kernels, first) == 0);\n\
                        AS_IN_RUST(OFFSET_OF(Kernels, second) == 8);\n";
        assert_eq!(Rust::assertions(), expected);
    }
}
