"""Makes the streams of datasets/tests/dicom.rs: `python make.py` (Pillow 13.0.0, which has OpenJPEG 2.5.4).

Codestreams of a film of 32 x 32 pixels with the values of `film` below: 16 bits, reversible and irreversible at 60 dB;
8 bits, reversible, in one tile and in tiles of 16 x 16 pixels (which Pillow does not write correctly for 16 bits).
"""

import os

import numpy as np
from PIL import Image

HERE = os.path.dirname(os.path.abspath(__file__))
y, x = np.mgrid[:32, :32]
film = (200 + 71 * x + 37 * y + 11 * ((x * y) % 7)).astype(np.uint16)


def save(name, values, **options):
    Image.fromarray(values).save(os.path.join(HERE, name), no_jp2=True, **options)


save("reversible.j2k", film, num_resolutions=4)
save("irreversible.j2k", film, num_resolutions=4, irreversible=True, quality_mode="dB", quality_layers=[60])
save("bytes.j2k", (film % 256).astype(np.uint8), num_resolutions=3)
save("tiles.j2k", (film % 256).astype(np.uint8), num_resolutions=3, tile_size=(16, 16))
