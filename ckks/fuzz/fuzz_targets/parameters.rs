#![no_main]

use ckks::{Parameters, Security};

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    let bytes = ckks_fuzz::sealed(data);
    if let Ok(parameters) = Parameters::insecure_from_bytes(&bytes) {
        assert_eq!(parameters.to_bytes().expect("they were just read"), bytes);
    }
    if let Ok(parameters) = Parameters::from_bytes(&bytes) {
        assert_ne!(parameters.literal().security, Security::InsecureForTests);
    }
});
