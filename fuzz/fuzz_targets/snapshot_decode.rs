//! The snapshot reader on any bytes: a state or a named error, never a panic, no allocation beyond the input's measure.
#![no_main]

use libfuzzer_sys::fuzz_target;
use ringkeeper::snapshot::decode;
use ringkeeper::tree::PathHasher;

fuzz_target!(|data: &[u8]| {
    let _ = decode(&mut &data[..], PathHasher::new([1, 2, 3, 4]));
});
