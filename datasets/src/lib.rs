//! Chest film data sets: the built-in phantom, NIH ChestX-ray14, MedMNIST arrays, image folders; splits by patient; the latent cache.
