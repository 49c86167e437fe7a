#![no_main]

use std::sync::LazyLock;

use ckks::{Parameters, Ciphertext};

static PARAMETERS: LazyLock<Parameters> = LazyLock::new(ckks_fuzz::parameters);

libfuzzer_sys::fuzz_target!(|data: &[u8]| ckks_fuzz::check::<Ciphertext>(&PARAMETERS, data));
