//! RNS-CKKS homomorphic encryption: ring, encoder, keys, evaluator, linear maps and wire format.
