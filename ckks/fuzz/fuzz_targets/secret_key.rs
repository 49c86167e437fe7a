#![no_main]

use std::sync::LazyLock;

use ckks::{Parameters, SecretKey, Wire};

static PARAMETERS: LazyLock<Parameters> = LazyLock::new(ckks_fuzz::parameters);

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    let bytes = ckks_fuzz::sealed(data);
    if let Ok(key) = SecretKey::from_bytes(&PARAMETERS, &bytes) {
        assert_eq!(*key.to_bytes(&PARAMETERS).expect("it belongs to the parameters"), bytes);
    }
});
