"""Networks as plain torch modules; they know neither diffusion nor data. Read mp_layers, then mp_unet."""
