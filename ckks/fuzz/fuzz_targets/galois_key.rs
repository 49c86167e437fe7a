#![no_main]

use std::sync::LazyLock;

use ckks::{Parameters, GaloisKey};

static PARAMETERS: LazyLock<Parameters> = LazyLock::new(ckks_fuzz::parameters);

libfuzzer_sys::fuzz_target!(|data: &[u8]| ckks_fuzz::check::<GaloisKey>(&PARAMETERS, data));
