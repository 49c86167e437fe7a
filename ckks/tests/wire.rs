//! The wire format: what goes out comes back, and what is altered is refused.
#![cfg(feature = "secret-key")]
#![allow(clippy::unwrap_used)]

use ckks::{
    Ciphertext, Encoder, Encryptor, Error, EvaluationKeyRequest, EvaluationKeys, GaloisKey, KeyGenerator,
    Parameters, ParametersLiteral, PublicKey, RelinearizationKey, SecretKey, Security, Wire,
};
use proptest::prelude::*;
use rand_chacha::ChaCha20Rng;
use rand_core::{Rng, SeedableRng};

const FROZEN: [&str; 5] =
    ["13f2327130e0b572", "fcb7d0525db71753", "4f0315a9b441a976", "c94c524b3e46112e", "ec4c447bb83a7a8b"];

/// Bytes before the content: magic, version, kind, digest of the parameters.
const HEADER: usize = 4 + 2 + 1 + 32;

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
        conjugations: vec![(0, 1)],
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
    Parameters::insecure_from_bytes(bytes).is_ok()
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
    let parameters = Parameters::insecure_from_bytes(&bytes[0]).unwrap();
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

/// A set without security is only read by who asks for one by name, whatever else about it is right.
#[test]
fn insecure_parameters_cannot_arrive_by_accident() {
    let toy = objects().parameters.to_bytes().unwrap();
    let refused = Parameters::from_bytes(&toy).unwrap_err();
    assert!(refused.to_string().contains("promises no security"), "{refused}");
    for security in [Security::Classical128, Security::Quantum128] {
        let literal = ParametersLiteral { security, ..ParametersLiteral::insecure_toy(13, 2, 2) };
        let bytes = literal.build().unwrap().to_bytes().unwrap();
        assert_eq!(Parameters::from_bytes(&bytes).unwrap().literal(), &literal);
        // The same bytes that claim no security, and toy bytes that claim some.
        for (start, claim) in [(&bytes, 2), (&toy, 0), (&toy, 1)] {
            let mut altered = start.clone();
            altered[HEADER + 2] = claim;
            seal(&mut altered);
            assert!(Parameters::from_bytes(&altered).is_err(), "security mode {claim}");
        }
    }
}

/// The digest of each object's bytes from the fixed seed: a change here is a change of the format, and needs a new version.
#[test]
fn the_format_is_frozen() {
    let found: Vec<String> =
        all(&objects()).iter().map(|b| blake3::hash(b).to_hex()[..16].to_owned()).collect();
    assert_eq!(found, FROZEN);
}

/// The galois keys of a set, one after the other, and what comes before them.
fn split_galois_keys(o: &Objects) -> (Vec<u8>, Vec<Vec<u8>>) {
    let bytes = o.keys.to_bytes(&o.parameters).unwrap();
    let mut end = bytes.len() - 32;
    let mut keys: Vec<Vec<u8>> = Vec::new();
    for key in o.keys.galois_keys().collect::<Vec<_>>().into_iter().rev() {
        // A key by itself has the same header, and the digest at its end.
        let content = key.to_bytes(&o.parameters).unwrap().len() - HEADER - 32;
        keys.insert(0, bytes[end - content..end].to_vec());
        end -= content;
    }
    (bytes[..end].to_vec(), keys)
}

/// Found by mutation: keys out of order were accepted, and written back in order.
#[test]
fn keys_have_one_order() {
    let o = objects();
    let (head, keys) = split_galois_keys(&o);
    let join = |order: &[usize]| {
        let content: Vec<u8> = order.iter().flat_map(|&i| keys[i].clone()).collect();
        let mut bytes = [head.clone(), content, vec![0; 32]].concat();
        seal(&mut bytes);
        EvaluationKeys::from_bytes(&o.parameters, &bytes)
    };
    assert_eq!(keys.len(), 4);
    assert_eq!(join(&[0, 1, 2, 3]).unwrap(), o.keys);
    for order in [[1, 0, 2, 3], [0, 1, 3, 2], [0, 0, 2, 3], [3, 2, 1, 0]] {
        let refused = join(&order).unwrap_err().to_string();
        assert!(refused.contains("ascending order"), "{order:?}: {refused}");
    }
}

/// Makes the digest at the end of altered bytes right again, so that parsers have to look at the content.
fn seal(bytes: &mut [u8]) {
    let (content, digest) = bytes.split_at_mut(bytes.len().saturating_sub(32));
    if digest.len() == 32 {
        digest.copy_from_slice(blake3::hash(content).as_bytes());
    }
}

/// Alters up to four places: flips, interesting bytes, cuts, doublings.
fn mutate(bytes: &mut Vec<u8>, rng: &mut ChaCha20Rng) {
    for _ in 0..=rng.next_u32() % 4 {
        // Half of the places lie in the header and the lengths behind it.
        let span = if rng.next_u32() & 1 == 0 { 64.min(bytes.len()) } else { bytes.len() };
        if span == 0 {
            return;
        }
        let at = rng.next_u32() as usize % span;
        match rng.next_u32() % 8 {
            0 => bytes.truncate(at),
            1 => bytes.extend_from_within(at..),
            2 => bytes[at] = 0xff,
            3 => bytes[at] = 0,
            4 => bytes[at] = bytes[at].wrapping_add(1),
            _ => bytes[at] ^= 1 << (rng.next_u32() % 8),
        }
        bytes.truncate(1 << 20);
    }
}

/// Runs a parser on mutated inputs, half of them with a right digest; what it accepts must write and read again.
fn drive<T>(
    seed: u64,
    count: u64,
    start: &[u8],
    parse: impl Fn(&[u8]) -> Option<T>,
    write: impl Fn(&T) -> Vec<u8>,
) {
    let mut rng = ChaCha20Rng::seed_from_u64(seed);
    let mut valid = 0u64;
    for _ in 0..count {
        let mut bytes = start.to_vec();
        mutate(&mut bytes, &mut rng);
        if rng.next_u32() & 1 == 0 {
            seal(&mut bytes);
        }
        if let Some(object) = parse(&bytes) {
            assert!(write(&object) == bytes, "what is read must be what was written");
            valid += 1;
        }
    }
    println!("{count} executions, {valid} of them valid objects");
}

fn drive_all(count: u64) {
    let o = objects();
    let p = &o.parameters;
    let starts = all(&o);
    drive(1, count, &starts[0], |b| Parameters::insecure_from_bytes(b).ok(), |x| x.to_bytes().unwrap());
    drive(2, count, &starts[1], |b| SecretKey::from_bytes(p, b).ok(), |x| x.to_bytes(p).unwrap().to_vec());
    drive(3, count, &starts[2], |b| PublicKey::from_bytes(p, b).ok(), |x| x.to_bytes(p).unwrap());
    drive(4, count, &starts[3], |b| EvaluationKeys::from_bytes(p, b).ok(), |x| x.to_bytes(p).unwrap());
    drive(5, count, &starts[4], |b| Ciphertext::from_bytes(p, b).ok(), |x| x.to_bytes(p).unwrap());
    let galois = o.keys.galois_keys().next().unwrap().to_bytes(p).unwrap();
    drive(6, count, &galois, |b| GaloisKey::from_bytes(p, b).ok(), |x| x.to_bytes(p).unwrap());
    let relinearization = o.keys.relinearization_keys()[0].to_bytes(p).unwrap();
    let parse = |b: &[u8]| RelinearizationKey::from_bytes(p, b).ok();
    drive(7, count, &relinearization, parse, |x| x.to_bytes(p).unwrap());
}

#[test]
fn mutated_bytes_never_panic() {
    drive_all(10_000);
}

/// The long run: `cargo test --release -p ckks --test wire -- --ignored --nocapture`; VEILRAY_EXECUTIONS sets the count.
#[test]
#[ignore = "takes half an hour at its full count"]
fn ten_million_mutations_a_parser() {
    let count = std::env::var("VEILRAY_EXECUTIONS").ok().and_then(|n| n.parse().ok());
    drive_all(count.unwrap_or(10_000_000));
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
