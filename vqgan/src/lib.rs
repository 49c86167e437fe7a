//! VQGAN for chest films: encoder, vector quantiser, decoder, discriminator and losses, on Burn.
