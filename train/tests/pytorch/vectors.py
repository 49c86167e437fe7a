"""Makes the vectors of train/tests/pytorch.rs: `python vectors.py` (PyTorch 2.6, CPU), about ten seconds.

vqgan.safetensors, vqgan.ckpt, vqgan.pt   weights of a small VQGAN in the taming layout, three formats
vqgan_run.safetensors                     films, what the network makes of the first batch, and the losses of ten
                                          Adam steps, of which the last four play against a discriminator
resnet20.safetensors, resnet20_run.safetensors   the same for a ResNet20 of a quarter of the width

`python vectors.py read FILE` prints what PyTorch finds in a checkpoint that this workspace wrote.
"""

import json
import os
import struct
import sys

import torch

from reference import Discriminator, ResNet20, VQModel, masked_bce, range_penalty

HERE = os.path.dirname(os.path.abspath(__file__))
VQGAN = dict(side=16, width=8, multipliers=[1, 2], residual_blocks=1, attention_sides=[8], middle_attention=True,
             latent_channels=3, codes=32)


def save(name, tensors):
    """safetensors: length of the header, header, data."""
    header, data, at = {}, b"", 0
    for key, t in tensors.items():
        raw = t.detach().contiguous().to(torch.float32).numpy().tobytes()
        header[key] = dict(dtype="F32", shape=list(t.shape), data_offsets=[at, at + len(raw)])
        data += raw
        at += len(raw)
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    with open(os.path.join(HERE, name), "wb") as f:
        f.write(struct.pack("<Q", len(text)) + text + data)


def load(path):
    with open(path, "rb") as f:
        raw = f.read()
    n = struct.unpack("<Q", raw[:8])[0]
    header = json.loads(raw[8:8 + n])
    header.pop("__metadata__", None)
    out = {}
    for key, entry in header.items():
        assert entry["dtype"] == "F32", entry
        a, b = entry["data_offsets"]
        out[key] = torch.frombuffer(bytearray(raw[8 + n + a:8 + n + b]), dtype=torch.float32).reshape(entry["shape"])
    return out


def weights(model):
    return {k: v.clone() for k, v in model.state_dict().items() if v.dtype == torch.float32}


def smooth(*shape):
    x = torch.nn.functional.avg_pool2d(torch.randn(*shape), 5, 1, 2)
    return (x / x.abs().amax()).clamp(-1, 1)


def vqgan():
    torch.manual_seed(7)
    model, critic = VQModel(VQGAN), Discriminator(4, 1)
    with torch.no_grad():
        model.quantize.embedding.weight.normal_(0, 0.5)
    start = weights(model)
    # A checkpoint of PyTorch Lightning holds the discriminator and the perceptual network beside the model.
    extra = {"loss.discriminator." + k: v for k, v in weights(critic).items()}
    torch.save({"state_dict": {**start, **extra}, "epoch": 3, "global_step": 1000}, os.path.join(HERE, "vqgan.ckpt"))
    torch.save(start, os.path.join(HERE, "vqgan.pt"))
    save("vqgan.safetensors", start)
    films = smooth(10 * 4, 1, 16, 16).reshape(10, 4, 1, 16, 16)
    out = {"films": films, **{"discriminator." + k: v for k, v in weights(critic).items()}}
    with torch.no_grad():
        film, z, codes, _, _ = model(films[0])
        out.update(film=film, continuous=z, codes=codes.float())
    adam = torch.optim.Adam(model.parameters(), lr=1e-3, betas=(0.5, 0.9))
    adam_critic = torch.optim.Adam(critic.parameters(), lr=1e-3, betas=(0.5, 0.9))
    rows = []
    for step in range(10):
        x = films[step]
        film, z, _, codebook, commitment = model(x)
        rec = ((x - film) ** 2).mean()
        loss, gen, dis, weight = rec, torch.zeros(()), torch.zeros(()), torch.zeros(())
        if step >= 6:
            gen = -critic(film).mean()
            last = model.decoder.conv_out.weight
            a = torch.autograd.grad(rec, last, retain_graph=True)[0].norm()
            b = torch.autograd.grad(gen, last, retain_graph=True)[0].norm()
            weight = (a / (b + 1e-4)).clamp(0, 1e4).detach()
            loss = rec + 0.8 * weight * gen
        adam.zero_grad()
        (loss + codebook + 0.25 * commitment).backward()
        adam.step()
        if step >= 6:
            dis = 0.5 * (torch.relu(1 - critic(x)).mean() + torch.relu(1 + critic(film.detach())).mean())
            adam_critic.zero_grad()
            dis.backward()
            adam_critic.step()
        rows.append(torch.stack([t.detach() for t in (rec, codebook, commitment, gen, dis, weight)]))
    out["losses"] = torch.stack(rows)
    save("vqgan_run.safetensors", out)
    print(out["losses"])


def resnet20():
    torch.manual_seed(11)
    model = ResNet20(3, 5, divisor=4)
    save("resnet20.safetensors", weights(model))
    latents = torch.randn(10, 8, 3, 8, 8) * 2
    targets = (torch.rand(10, 8, 5) < 0.3).float()
    known = (torch.rand(10, 8, 5) < 0.8).float()
    adam = torch.optim.Adam(model.parameters(), lr=1e-3, weight_decay=5e-4, amsgrad=True)
    rows = []
    for step in range(10):
        logits, seen = model(latents[step])
        bce, penalty = masked_bce(logits, targets[step], known[step]), range_penalty(seen, 2.0)
        adam.zero_grad()
        (bce + 0.5 * penalty).backward()
        adam.step()
        rows.append(torch.stack([bce.detach(), penalty.detach()]))
    model.eval()
    with torch.no_grad():
        logits = model(latents[0])[0]
    save("resnet20_run.safetensors",
         dict(latents=latents, targets=targets, known=known, losses=torch.stack(rows), logits=logits))
    print(torch.stack(rows))


if __name__ == "__main__":
    if sys.argv[1:2] == ["read"]:
        for key, value in load(sys.argv[2]).items():
            print(key, tuple(value.shape), float(value.double().sum()))
    else:
        torch.set_num_threads(1)
        vqgan()
        resnet20()
