//! Arrays in fewer bytes, without loss: how a run file holds what was recorded of a site.
//!
//! Most of what is recorded are counts in 64 bits that need few, numbers whose magnitudes are alike, and ascending codes; the lower bits
//! of moments are noise, which no codec makes smaller. So the entries of an array's rows are taken apart into planes, the first bytes of
//! all entries, their second bytes, and so on. A plane of one value is that value; one that looks like noise is stored as it is; the
//! others are compressed together, behind a table that says what the arrays are called and how they are shaped. Unsigned integers of two
//! and four bytes, which are lists of codes, are stored as differences.
//!
//! ```text
//! bytes of the noise: u64 | bytes of the table and planes: u64 | noise | zstd frame with a checksum, of:
//!     number of arrays: u32
//!     of each array: name and dtype, each behind its length (u8) | number of axes (u8) | each axis (u64)
//!     of each array, each row, each plane: 0, the value | 1, for it is in the noise | 2, the plane
//! ```
//!
//! All numbers are little-endian. An axis of fewer than [`SHORT`] entries makes no rows: such an array is one row. The dtype is as NumPy
//! writes it (`<f8`), and its digits are the size of an entry.

use std::borrow::Cow;
use std::fmt::Display;

use zstd::bulk::{Compressor, Decompressor};

use crate::error::{Error, Result};

/// The fewest entries of a last axis whose rows have planes of their own.
pub const SHORT: usize = 256;

/// As zstd counts. Its higher levels save a twentieth and take ten times as long.
const LEVEL: i32 = 3;

const CONSTANT: u8 = 0;
const NOISE: u8 = 1;
const COMPRESSED: u8 = 2;

/// What zstd can make of a byte at most, about: a damaged length is not to ask for all memory.
const MOST_PER_COMPRESSED_BYTE: usize = 1 << 16;
/// The bytes of an entry that a stored byte can stand for, the other planes being constant; and what planes that are all constant make of
/// next to nothing. No site has more.
const MOST_PER_STORED_BYTE: usize = 16;
const MOST_OF_CONSTANTS: usize = 1 << 28;

/// An array to pack, or one that was unpacked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RawArray<'a> {
    /// What it is called, in at most 255 bytes.
    pub name: Cow<'a, str>,
    /// NumPy's name of its type, little-endian.
    pub dtype: Cow<'a, str>,
    /// Its shape.
    pub shape: Vec<usize>,
    /// Its entries, the last axis innermost.
    pub bytes: Cow<'a, [u8]>,
}

impl RawArray<'_> {
    /// Bytes of an entry; none if the dtype is not one of numbers.
    fn entry_bytes(&self) -> Option<usize> {
        let kind_and_bytes = self.dtype.strip_prefix(['<', '|'])?;
        let digits = kind_and_bytes.strip_prefix(['b', 'i', 'u', 'f', 'c'])?;
        digits.parse().ok().filter(|bytes| (1..=16).contains(bytes))
    }

    fn n_entries(&self) -> Option<usize> {
        self.shape.iter().try_fold(1usize, |product, &length| product.checked_mul(length))
    }

    /// Whether the entries are stored as differences.
    fn is_list_of_codes(&self) -> bool {
        matches!(&*self.dtype, "<u2" | "<u4")
    }

    fn row_entries(&self, n_entries: usize) -> usize {
        self.shape.last().copied().filter(|&length| length >= SHORT).unwrap_or(n_entries)
    }
}

/// The bytes that hold these arrays.
///
/// # Errors
/// `Error::Packing` if an array's bytes are not those of its shape and dtype, or its name is longer than 255 bytes.
pub fn pack(arrays: &[RawArray<'_>]) -> Result<Vec<u8>> {
    let mut stream = (arrays.len() as u32).to_le_bytes().to_vec();
    for array in arrays {
        for text in [&array.name, &array.dtype] {
            let length = u8::try_from(text.len()).map_err(|_| invalid(&array.name, "a name of at most 255 bytes", text.len()))?;
            stream.push(length);
            stream.extend_from_slice(text.as_bytes());
        }
        stream.push(u8::try_from(array.shape.len()).map_err(|_| invalid(&array.name, "at most 255 axes", array.shape.len()))?);
        stream.extend(array.shape.iter().flat_map(|&length| (length as u64).to_le_bytes()));
    }
    let mut noise = Vec::new();
    for array in arrays {
        let entry_bytes = array.entry_bytes().ok_or_else(|| invalid(&array.name, "numbers, little-endian", &array.dtype))?;
        let n_entries = array.n_entries().filter(|n| n.checked_mul(entry_bytes) == Some(array.bytes.len()));
        let n_entries = n_entries.ok_or_else(|| invalid(&array.name, "as many bytes as its shape says", array.bytes.len()))?;
        if n_entries == 0 {
            continue;
        }
        let mut plane = Vec::with_capacity(n_entries);
        for row in array.bytes.chunks_exact(entry_bytes * array.row_entries(n_entries)) {
            let row = if array.is_list_of_codes() { Cow::Owned(differences(row, entry_bytes)) } else { Cow::Borrowed(row) };
            for place in 0..entry_bytes {
                plane.clear();
                plane.extend(row.iter().skip(place).step_by(entry_bytes));
                if plane.iter().all(|&byte| byte == plane[0]) {
                    stream.extend([CONSTANT, plane[0]]);
                } else if looks_like_noise(&plane) {
                    stream.push(NOISE);
                    noise.extend_from_slice(&plane);
                } else {
                    stream.push(COMPRESSED);
                    stream.extend_from_slice(&plane);
                }
            }
        }
    }
    let mut packed: Vec<u8> = [noise.len(), stream.len()].iter().flat_map(|&length| (length as u64).to_le_bytes()).collect();
    packed.append(&mut noise);
    let unlikely = |error: std::io::Error| invalid("packed arrays", "memory for compression", error);
    let mut compressor = Compressor::new(LEVEL).map_err(unlikely)?;
    compressor.include_checksum(true).map_err(unlikely)?;
    packed.append(&mut compressor.compress(&stream).map_err(unlikely)?);
    Ok(packed)
}

/// The arrays that [`pack`] packed.
///
/// # Errors
/// `Error::Packing` if the bytes are damaged, as far as can be seen: what is compressed has a checksum, the noise has not.
pub fn unpack(packed: &[u8]) -> Result<Vec<RawArray<'static>>> {
    let damaged = |what: &str| invalid("packed arrays", what, format!("{} bytes that have none", packed.len()));
    let mut head = Reader(packed);
    let (n_noise, n_stream) = head.length().zip(head.length()).ok_or_else(|| damaged("two lengths of 8 bytes"))?;
    let noise = head.take(n_noise).ok_or_else(|| damaged("a length within the bytes"))?;
    let compressed = head.0;
    if n_stream > compressed.len().saturating_mul(MOST_PER_COMPRESSED_BYTE) {
        return Err(damaged("a length that is likely"));
    }
    let mut stream = Vec::new();
    stream.try_reserve_exact(n_stream).map_err(|_| damaged("a length that memory has room for"))?;
    let mut decompressor = Decompressor::new().map_err(|error| invalid("packed arrays", "memory", error))?;
    decompressor.decompress_to_buffer(compressed, &mut stream).map_err(|_| damaged("a zstd frame"))?;
    let mut left = (stream.len() + noise.len()).saturating_mul(MOST_PER_STORED_BYTE).saturating_add(MOST_OF_CONSTANTS);
    let mut stream = Reader(&stream);
    let mut noise = Reader(noise);
    let mut arrays = stream.table().ok_or_else(|| damaged("a table of arrays"))?;
    for array in &mut arrays {
        array.bytes = read_array(array, &mut left, &mut stream, &mut noise)
            .ok_or_else(|| damaged("as many bytes as its arrays have"))?
            .into();
    }
    if !stream.0.is_empty() || !noise.0.is_empty() {
        return Err(damaged("an end after the last array"));
    }
    Ok(arrays)
}

/// The bytes of an array; `left` is how many all arrays from this one on may have.
fn read_array(array: &RawArray<'_>, left: &mut usize, stream: &mut Reader<'_>, noise: &mut Reader<'_>) -> Option<Vec<u8>> {
    let (entry_bytes, n_entries) = (array.entry_bytes()?, array.n_entries()?);
    let n_bytes = n_entries.checked_mul(entry_bytes)?;
    *left = left.checked_sub(n_bytes)?;
    if n_entries == 0 {
        return Some(Vec::new());
    }
    let row_entries = array.row_entries(n_entries);
    let mut bytes = Vec::new();
    bytes.try_reserve_exact(n_bytes).ok()?;
    bytes.resize(n_bytes, 0);
    let mut planes: Vec<Plane<'_>> = Vec::with_capacity(entry_bytes);
    for row in bytes.chunks_exact_mut(entry_bytes * row_entries) {
        planes.clear();
        for _ in 0..entry_bytes {
            planes.push(match stream.byte()? {
                CONSTANT => Plane::Constant(stream.byte()?),
                NOISE => Plane::Bytes(noise.take(row_entries)?),
                COMPRESSED => Plane::Bytes(stream.take(row_entries)?),
                _ => return None,
            });
        }
        match entry_bytes {
            2 => interleave_u16(row, &planes),
            4 => interleave_u32(row, &planes),
            8 => interleave_u64(row, &planes),
            _ => interleave_any(row, &planes),
        }
        if array.is_list_of_codes() {
            add_up(row, entry_bytes);
        }
    }
    Some(bytes)
}

/// The bytes of one place in all entries of a row.
#[derive(Debug, Clone, Copy)]
enum Plane<'a> {
    Constant(u8),
    Bytes(&'a [u8]),
}

/// Puts the planes' bytes where they belong, a block of entries at a time, which stays in registers and the first cache.
macro_rules! interleave {
    ($name:ident, $entry:ident) => {
        fn $name(row: &mut [u8], planes: &[Plane<'_>]) {
            const BLOCK: usize = 64;
            let mut constant = 0;
            for (place, plane) in planes.iter().enumerate() {
                if let Plane::Constant(byte) = plane {
                    constant |= $entry::from(*byte) << (8 * place);
                }
            }
            let (entries, _) = row.as_chunks_mut::<{ size_of::<$entry>() }>();
            for (index, chunk) in entries.chunks_mut(BLOCK).enumerate() {
                let mut block = [constant; BLOCK];
                for (place, plane) in planes.iter().enumerate() {
                    if let Plane::Bytes(bytes) = plane {
                        let bytes = &bytes[index * BLOCK..][..chunk.len()];
                        for (entry, &byte) in block.iter_mut().zip(bytes) {
                            *entry |= $entry::from(byte) << (8 * place);
                        }
                    }
                }
                for (stored, entry) in chunk.iter_mut().zip(block) {
                    *stored = entry.to_le_bytes();
                }
            }
        }
    };
}
interleave!(interleave_u16, u16);
interleave!(interleave_u32, u32);
interleave!(interleave_u64, u64);

fn interleave_any(row: &mut [u8], planes: &[Plane<'_>]) {
    for (place, plane) in planes.iter().enumerate() {
        let places = row.iter_mut().skip(place).step_by(planes.len());
        match plane {
            Plane::Constant(value) => places.for_each(|byte| *byte = *value),
            Plane::Bytes(bytes) => places.zip(*bytes).for_each(|(byte, &value)| *byte = value),
        }
    }
}

/// Whether two bytes of a plane are about as rarely equal as those of noise are, which no codec makes smaller.
fn looks_like_noise(plane: &[u8]) -> bool {
    const FEWEST: usize = 64;
    const MARGIN: u64 = 5; // one in so many equal pairs more than noise has
    let mut counts = [0u64; 256];
    for &byte in plane {
        counts[usize::from(byte)] += 1;
    }
    let equal_pairs: u64 = counts.iter().map(|&count| count * count.saturating_sub(1)).sum();
    let pairs = plane.len() as u64 * (plane.len() as u64 - 1);
    plane.len() >= FEWEST && equal_pairs * 256 < pairs + pairs / MARGIN
}

fn differences(row: &[u8], entry_bytes: usize) -> Vec<u8> {
    let mut before = 0u32;
    let mut differences = Vec::with_capacity(row.len());
    for entry in row.chunks_exact(entry_bytes) {
        let value = read_code(entry);
        differences.extend_from_slice(&value.wrapping_sub(before).to_le_bytes()[..entry_bytes]);
        before = value;
    }
    differences
}

fn add_up(row: &mut [u8], entry_bytes: usize) {
    if entry_bytes == 2 {
        let mut before = 0u16;
        for entry in row.as_chunks_mut::<2>().0 {
            before = before.wrapping_add(u16::from_le_bytes(*entry));
            *entry = before.to_le_bytes();
        }
    } else {
        let mut before = 0u32;
        for entry in row.as_chunks_mut::<4>().0 {
            before = before.wrapping_add(u32::from_le_bytes(*entry));
            *entry = before.to_le_bytes();
        }
    }
}

fn read_code(entry: &[u8]) -> u32 {
    entry.iter().rev().fold(0, |code, &byte| code << 8 | u32::from(byte))
}

/// Bytes not read yet.
struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    fn take(&mut self, n_bytes: usize) -> Option<&'a [u8]> {
        let (taken, left) = self.0.split_at_checked(n_bytes)?;
        self.0 = left;
        Some(taken)
    }

    fn byte(&mut self) -> Option<u8> {
        self.take(1).map(|bytes| bytes[0])
    }

    fn number<const N: usize>(&mut self) -> Option<[u8; N]> {
        self.take(N)?.try_into().ok()
    }

    fn length(&mut self) -> Option<usize> {
        usize::try_from(u64::from_le_bytes(self.number()?)).ok()
    }

    fn text(&mut self) -> Option<String> {
        let length = self.byte()?;
        String::from_utf8(self.take(usize::from(length))?.to_vec()).ok()
    }

    /// The arrays without their bytes.
    fn table(&mut self) -> Option<Vec<RawArray<'static>>> {
        let n_arrays = u32::from_le_bytes(self.number()?);
        let mut arrays = Vec::new();
        for _ in 0..n_arrays {
            let (name, dtype) = (self.text()?, self.text()?);
            let n_axes = self.byte()?;
            let shape = (0..n_axes).map(|_| self.length()).collect::<Option<_>>()?;
            arrays.push(RawArray { name: name.into(), dtype: dtype.into(), shape, bytes: Cow::Borrowed(&[]) });
        }
        Some(arrays)
    }
}

fn invalid(what: &str, expected: &str, got: impl Display) -> Error {
    Error::Packing { what: what.into(), expected: expected.into(), got: got.to_string() }
}
