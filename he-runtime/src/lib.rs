//! Runs HE-ready models on CKKS ciphertexts: client and server sessions.
