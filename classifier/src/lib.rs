//! HE-friendly classifiers on latents: LeNet, VGGNet, HefNet and ResNets with polynomial activations, on Burn.
