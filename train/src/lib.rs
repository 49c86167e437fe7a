//! Training loops, checkpoints, TensorBoard logs and the configuration types.
