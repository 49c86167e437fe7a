"""Seconds of a training step in PyTorch, for comparison with `cargo bench -p train`: `python step_time.py [threads]`.

Median of 9 steps after 3, two threads unless said otherwise, f32, the networks of reference.py.
"""

import sys
import time

import torch

from reference import ResNet20, VQModel, masked_bce, range_penalty

THREADS = int(sys.argv[1]) if len(sys.argv) > 1 else 2
torch.set_num_threads(THREADS)
torch.manual_seed(0)


def median(step):
    times = []
    for i in range(12):
        start = time.perf_counter()
        step()
        times.append(time.perf_counter() - start)
    return sorted(times[3:])[4]


for batch in (32, 128):
    net = ResNet20(4, 14)
    adam = torch.optim.Adam(net.parameters(), lr=2e-4, weight_decay=5e-4, amsgrad=True)
    x, y = torch.randn(batch, 4, 32, 32), (torch.rand(batch, 14) < 0.1).float()
    known = torch.ones_like(y)

    def step():
        logits, seen = net(x)
        adam.zero_grad()
        (masked_bce(logits, y, known) + range_penalty(seen, 6.0)).backward()
        adam.step()

    print(f"ResNet20 32x32x4, batch {batch}, {THREADS} threads: {median(step):.3f} s")

net = VQModel(dict(side=64, width=32, multipliers=[1, 2, 2, 4], residual_blocks=2, attention_sides=[],
                   middle_attention=True, latent_channels=4, codes=1024))
adam = torch.optim.Adam(net.parameters(), lr=1e-4, betas=(0.5, 0.9))
x = torch.rand(8, 1, 64, 64) * 2 - 1


def step():
    film, _, _, codebook, commitment = net(x)
    adam.zero_grad()
    (((x - film) ** 2).mean() + codebook + 0.25 * commitment).backward()
    adam.step()


print(f"VQGAN width 32, f = 8, 64x64, batch 8, {THREADS} threads: {median(step):.3f} s")
