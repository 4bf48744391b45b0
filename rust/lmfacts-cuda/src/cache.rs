//! Compiled kernels on disk, so that a process starts without compiling.
//!
//! A file is named by what it was made from: source and options, architecture, and the compiler's version. Whatever goes wrong
//! with the disk costs a compilation and nothing else.

use std::fs;
use std::path::{Path, PathBuf};

/// The first bytes of an ELF file, which machine code for a GPU is.
const ELF: &[u8] = b"\x7fELF";

/// The 128-bit FNV-1a hash (<http://www.isthe.com/chongo/tech/comp/fnv/>): files are told apart by it, nobody is kept out.
fn hash(parts: &[&[u8]]) -> u128 {
    parts.iter().flat_map(|part| part.iter().chain(&[0xff])).fold(0x6c62_272e_07bb_0142_62b8_2175_6295_c58d, |hash, &byte| {
        (hash ^ u128::from(byte)).wrapping_mul(0x0000_0000_0100_0000_0000_0000_0000_013b)
    })
}

fn path(folder: &Path, source: &str, options: &[String], version: (i32, i32)) -> PathBuf {
    let hash = hash(&[source.as_bytes(), options.join(" ").as_bytes()]);
    folder.join(format!("{hash:032x}-nvrtc{}.{}.cubin", version.0, version.1))
}

/// The compiled source, from disk or by `compile`, whose result is then kept.
///
/// # Errors
/// Those of `compile`.
pub(crate) fn compiled<E>(
    folder: Option<&Path>,
    source: &str,
    options: &[String],
    version: (i32, i32),
    compile: impl FnOnce() -> Result<Vec<u8>, E>,
) -> Result<Vec<u8>, E> {
    let Some(folder) = folder else { return compile() };
    let path = path(folder, source, options, version);
    if let Ok(bytes) = fs::read(&path)
        && bytes.starts_with(ELF)
    {
        return Ok(bytes);
    }
    let bytes = compile()?;
    // Written under a name of its own and then renamed: another process never sees half a file.
    let temporary = path.with_extension(format!("{}.part", std::process::id()));
    let written = fs::create_dir_all(folder).and_then(|()| fs::write(&temporary, &bytes));
    if written.and_then(|()| fs::rename(&temporary, &path)).is_err() {
        let _ = fs::remove_file(&temporary);
    }
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_read_again_and_one_that_is_none_is_replaced() {
        let folder = std::env::temp_dir().join(format!("lmfacts-cache-test-{}", std::process::id()));
        let options = ["--gpu-architecture=sm_90".to_string()];
        let get =
            |content: &'static [u8]| compiled::<()>(Some(&folder), "source", &options, (13, 2), || Ok(content.to_vec())).unwrap();
        assert_eq!(get(b"\x7fELF one"), b"\x7fELF one");
        assert_eq!(get(b"\x7fELF two"), b"\x7fELF one");
        fs::write(path(&folder, "source", &options, (13, 2)), b"cut").unwrap();
        assert_eq!(get(b"\x7fELF three"), b"\x7fELF three");
        let other = compiled::<()>(Some(&folder), "other source", &options, (13, 2), || Ok(b"\x7fELF four".to_vec())).unwrap();
        assert_eq!(other, b"\x7fELF four");
        fs::remove_dir_all(&folder).unwrap();
    }

    #[test]
    fn the_hash_is_the_published_one() {
        // FNV-1a of the empty input is the offset basis; the separator is one more byte.
        assert_eq!(hash(&[]), 0x6c62_272e_07bb_0142_62b8_2175_6295_c58d);
        assert_ne!(hash(&[b"ab", b"c"]), hash(&[b"a", b"bc"]));
    }
}
