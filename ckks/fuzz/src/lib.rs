//! What the fuzz targets share: toy parameters, valid objects to start from, and the check of what a parser accepts.

use ckks::{
    Encoder, Encryptor, EvaluationKeyRequest, KeyGenerator, Parameters, ParametersLiteral, SecretKey, Wire,
};
use rand_chacha::ChaCha20Rng;
use rand_core::SeedableRng;

/// Small enough for tens of thousands of executions a second, with several tiers and digits.
pub fn parameters() -> Parameters {
    ParametersLiteral::insecure_toy(5, 3, 3).build().expect("toy parameters are valid")
}

/// The input as it is, or, if its last byte is odd, with the digest at the end made right, so that the parser has to look at the content.
pub fn sealed(data: &[u8]) -> Vec<u8> {
    let mut bytes = data.to_vec();
    if bytes.last().is_some_and(|b| b & 1 == 1) && bytes.len() >= 32 {
        let (content, digest) = bytes.split_at_mut(data.len() - 32);
        digest.copy_from_slice(blake3::hash(content).as_bytes());
    }
    bytes
}

/// Parses an object; what is accepted must write as it was read.
pub fn check<T: Wire>(parameters: &Parameters, data: &[u8]) {
    let bytes = sealed(data);
    if let Ok(object) = T::from_bytes(parameters, &bytes) {
        assert_eq!(object.to_bytes(parameters).expect("it belongs to the parameters"), bytes);
    }
}

/// One valid object for each target, by the target's name.
pub fn seeds() -> Vec<(&'static str, Vec<u8>)> {
    let p = parameters();
    let mut rng = ChaCha20Rng::seed_from_u64(11);
    let secret = SecretKey::generate(&p, &mut rng);
    let generator = KeyGenerator::new(&p, &secret).expect("the key fits");
    let public = generator.public_key(&mut rng);
    let request = EvaluationKeyRequest {
        relinearization: vec![3, 1],
        rotations: vec![(1, 3), (2, 2), (1, 0)],
        conjugations: vec![(0, 1)],
    };
    let keys = generator.evaluation_keys(&request, &mut rng).expect("the request is valid");
    let plaintext = Encoder::new(&p).encode_real(&[0.5, -1.0], 25f64.exp2(), 2).expect("it fits");
    let encryptor = Encryptor::new(&p, public.clone()).expect("the key fits");
    let ciphertext = encryptor.encrypt(&plaintext, &mut rng).expect("it fits");
    let bytes = "every object belongs to the parameters";
    vec![
        ("parameters", p.to_bytes().expect(bytes)),
        ("secret_key", secret.to_bytes(&p).expect(bytes).to_vec()),
        ("public_key", public.to_bytes(&p).expect(bytes)),
        ("evaluation_keys", keys.to_bytes(&p).expect(bytes)),
        ("galois_key", keys.galois_keys().next().expect("there is one").to_bytes(&p).expect(bytes)),
        ("relinearization_key", keys.relinearization_keys()[0].to_bytes(&p).expect(bytes)),
        ("ciphertext", ciphertext.to_bytes(&p).expect(bytes)),
    ]
}
