//! The wire format: what goes out comes back, and what is altered is refused.
#![cfg(feature = "secret-key")]
#![allow(clippy::unwrap_used)]

use ckks::{
    Ciphertext, Encoder, Encryptor, Error, EvaluationKeyRequest, EvaluationKeys, KeyGenerator, Parameters,
    ParametersLiteral, PublicKey, SecretKey, Wire,
};
use proptest::prelude::*;
use rand_chacha::ChaCha20Rng;
use rand_core::SeedableRng;

struct Objects {
    parameters: Parameters,
    secret: SecretKey,
    public: PublicKey,
    keys: EvaluationKeys,
    ciphertext: Ciphertext,
}

fn objects() -> Objects {
    let parameters = ParametersLiteral::insecure_toy(5, 3, 3).build().unwrap();
    let mut rng = ChaCha20Rng::seed_from_u64(11);
    let secret = SecretKey::generate(&parameters, &mut rng);
    let generator = KeyGenerator::new(&parameters, &secret).unwrap();
    let public = generator.public_key(&mut rng);
    let request = EvaluationKeyRequest {
        relinearization: vec![3, 1],
        rotations: vec![(1, 3), (2, 2), (1, 0)],
        conjugation: vec![1],
    };
    let keys = generator.evaluation_keys(&request, &mut rng).unwrap();
    let plaintext = Encoder::new(&parameters).encode_real(&[0.5, -1.0], 25f64.exp2(), 2).unwrap();
    let ciphertext =
        Encryptor::new(&parameters, public.clone()).unwrap().encrypt(&plaintext, &mut rng).unwrap();
    Objects { parameters, secret, public, keys, ciphertext }
}

fn all(o: &Objects) -> Vec<Vec<u8>> {
    let p = &o.parameters;
    vec![
        p.to_bytes().unwrap(),
        o.secret.to_bytes(p).unwrap().to_vec(),
        o.public.to_bytes(p).unwrap(),
        o.keys.to_bytes(p).unwrap(),
        o.ciphertext.to_bytes(p).unwrap(),
    ]
}

/// Reads bytes as each kind of object, and says whether any of them was accepted.
fn accepted(p: &Parameters, bytes: &[u8]) -> bool {
    Parameters::from_bytes(bytes).is_ok()
        || SecretKey::from_bytes(p, bytes).is_ok()
        || PublicKey::from_bytes(p, bytes).is_ok()
        || EvaluationKeys::from_bytes(p, bytes).is_ok()
        || Ciphertext::from_bytes(p, bytes).is_ok()
}

#[test]
fn everything_comes_back() {
    let o = objects();
    let p = &o.parameters;
    let bytes = all(&o);
    let parameters = Parameters::from_bytes(&bytes[0]).unwrap();
    assert_eq!(parameters.digest(), p.digest());
    let secret = SecretKey::from_bytes(&parameters, &bytes[1]).unwrap();
    assert_eq!(*secret.to_bytes(p).unwrap(), bytes[1]);
    assert_eq!(PublicKey::from_bytes(p, &bytes[2]).unwrap(), o.public);
    assert_eq!(EvaluationKeys::from_bytes(p, &bytes[3]).unwrap(), o.keys);
    let ciphertext = Ciphertext::from_bytes(p, &bytes[4]).unwrap();
    assert_eq!(ciphertext.to_bytes(p).unwrap(), bytes[4]);
}

#[test]
fn other_parameters_are_refused() {
    let o = objects();
    let other = ParametersLiteral::insecure_toy(5, 4, 3).build().unwrap();
    let bytes = o.ciphertext.to_bytes(&o.parameters).unwrap();
    assert!(matches!(Ciphertext::from_bytes(&other, &bytes), Err(Error::Parameters { .. })));
    assert!(matches!(PublicKey::from_bytes(&o.parameters, &bytes), Err(Error::Wire { .. })));
}

proptest! {
    #[test]
    fn altered_bytes_are_refused(which in 0..5usize, at: prop::sample::Index, bit in 0..8u32) {
        let o = objects();
        let mut bytes = all(&o).swap_remove(which);
        let at = at.index(bytes.len());
        bytes[at] ^= 1 << bit;
        prop_assert!(!accepted(&o.parameters, &bytes));
    }

    #[test]
    fn cut_bytes_are_refused(which in 0..5usize, at: prop::sample::Index) {
        let o = objects();
        let bytes = all(&o).swap_remove(which);
        prop_assert!(!accepted(&o.parameters, &bytes[..at.index(bytes.len())]));
    }

    #[test]
    fn noise_is_refused(bytes: Vec<u8>) {
        prop_assert!(!accepted(&objects().parameters, &bytes));
    }
}
