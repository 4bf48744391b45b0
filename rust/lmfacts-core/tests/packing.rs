//! Packed arrays come back bit for bit, and damaged ones are refused or give other arrays, without panics.

use lmfacts_core::packing::{RawArray, SHORT, pack, unpack};
use proptest::prelude::*;

fn array(name: &str, dtype: &str, shape: &[usize], bytes: Vec<u8>) -> RawArray<'static> {
    RawArray { name: name.to_owned().into(), dtype: dtype.to_owned().into(), shape: shape.to_vec(), bytes: bytes.into() }
}

fn codes(dtype: &str, list: &[u32]) -> RawArray<'static> {
    let n_bytes = if dtype == "<u2" { 2 } else { 4 };
    array("codes", dtype, &[list.len()], list.iter().flat_map(|code| code.to_le_bytes()[..n_bytes].to_vec()).collect())
}

fn arrays() -> impl Strategy<Value = Vec<RawArray<'static>>> {
    let dtypes = prop::sample::select(vec![
        ("<u2", 2),
        ("<u4", 4),
        ("<u8", 8),
        ("<i8", 8),
        ("<f8", 8),
        ("|b1", 1),
        ("<f4", 4),
        ("<c16", 16),
    ]);
    let lengths = prop::sample::select(vec![0, 1, 3, 63, 64, SHORT - 1, SHORT, SHORT + 1, 700]);
    // Bytes of few values compress, of all values are noise, of one are constant.
    let one =
        (dtypes, lengths, 0usize..4, 1u16..=256, any::<u64>()).prop_map(|((dtype, n_bytes), length, rows, n_values, seed)| {
            let mut state = seed | 1;
            let mut bytes = Vec::new();
            for _ in 0..rows * length * n_bytes {
                state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
                bytes.push(((state >> 40) % u64::from(n_values)) as u8);
            }
            array(&format!("é/{seed}"), dtype, &[rows, length], bytes)
        });
    prop::collection::vec(one, 0..6)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn what_is_packed_comes_back(arrays in arrays()) {
        prop_assert_eq!(unpack(&pack(&arrays).unwrap()).unwrap(), arrays);
    }

    #[test]
    fn damaged_bytes_give_an_error_or_arrays(arrays in arrays(), place in any::<prop::sample::Index>(), bit in 0u8..8, cut in any::<bool>()) {
        let mut packed = pack(&arrays).unwrap();
        let place = place.index(packed.len());
        if cut {
            packed.truncate(place);
            prop_assert!(unpack(&packed).is_err());
        } else {
            packed[place] ^= 1u8 << bit;
            if let Ok(others) = unpack(&packed) {
                prop_assert_eq!(others.len(), arrays.len());
            }
        }
    }
}

#[test]
fn each_kind_of_array_takes_the_bytes_that_it_needs() {
    let size = |array: RawArray<'static>| pack(&[array]).unwrap().len();
    let noise: Vec<u8> =
        (0u64..80_000).map(|i| (i.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 56) as u8 ^ ((i * i) >> 7) as u8).collect();
    assert!(size(array("counts", "<u8", &[10_000], (0u64..10_000).flat_map(|i| (i % 7).to_le_bytes()).collect())) < 500);
    assert!(size(array("zeros", "<f8", &[10_000], vec![0; 80_000])) < 100);
    assert!(size(codes("<u2", &(0..30_000).collect::<Vec<_>>())) < 200);
    assert!(size(array("noise", "<f8", &[10_000], noise)) < 80_000 + 100);
}

#[test]
fn codes_that_wrap_come_back() {
    for dtype in ["<u2", "<u4"] {
        let packed = [codes(dtype, &[65_535, 0, 3, 2, 65_000])];
        assert_eq!(unpack(&pack(&packed).unwrap()).unwrap(), packed);
    }
}

#[test]
fn arrays_that_cannot_be_are_refused() {
    for (wrong, said) in [
        (array("a", "<f8", &[2], vec![0; 15]), "as many bytes as its shape says"),
        (array("a", "<f8", &[usize::MAX, 2], vec![]), "as many bytes as its shape says"),
        (array("a", "<f", &[2], vec![0; 16]), "numbers"),
        (array("a", "<U4", &[1], vec![0; 4]), "numbers"),
        (array("a", ">f8", &[1], vec![0; 8]), "numbers"),
        (array(&"a".repeat(256), "<f8", &[1], vec![0; 8]), "at most 255 bytes"),
    ] {
        assert!(pack(&[wrong]).unwrap_err().to_string().contains(said));
    }
}

#[test]
fn a_table_that_asks_for_all_memory_is_refused() {
    let mut stream = vec![1, 0, 0, 0, 1, b'a', 3, b'<', b'f', b'8', 1];
    stream.extend((1u64 << 40).to_le_bytes());
    stream.extend([0; 16]);
    let mut packed = [[0; 8], (stream.len() as u64).to_le_bytes()].concat();
    packed.extend(zstd::bulk::compress(&stream, 1).unwrap());
    assert!(unpack(&packed).unwrap_err().to_string().contains("as many bytes as its arrays have"));
    assert!(
        unpack(&[9, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 1])
            .unwrap_err()
            .to_string()
            .contains("a length within the bytes")
    );
    packed[8..16].copy_from_slice(&(1u64 << 62).to_le_bytes());
    assert!(unpack(&packed).unwrap_err().to_string().contains("a length that is likely"));
    assert!(unpack(&[]).is_err());
}
