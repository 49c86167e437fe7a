"""The networks of this workspace in PyTorch: the VQGAN in the layout of taming-transformers, and the ResNet20.

Written for the vectors and timings beside this file. The VQGAN follows Esser et al., "Taming Transformers for
High-Resolution Image Synthesis" (modules/diffusionmodules/model.py, modules/vqvae/quantize.py and
modules/discriminator/model.py give names, order of operations and constants), for one grey channel.
"""

import torch
import torch.nn as nn
import torch.nn.functional as F
from math import gcd


def swish(x):
    return x * torch.sigmoid(x)


def norm(channels):
    return nn.GroupNorm(gcd(32, channels), channels, eps=1e-6, affine=True)


class ResnetBlock(nn.Module):
    def __init__(self, cin, cout):
        super().__init__()
        self.norm1 = norm(cin)
        self.conv1 = nn.Conv2d(cin, cout, 3, 1, 1)
        self.norm2 = norm(cout)
        self.conv2 = nn.Conv2d(cout, cout, 3, 1, 1)
        if cin != cout:
            self.nin_shortcut = nn.Conv2d(cin, cout, 1)

    def forward(self, x):
        h = self.conv1(swish(self.norm1(x)))
        h = self.conv2(swish(self.norm2(h)))
        return (self.nin_shortcut(x) if hasattr(self, "nin_shortcut") else x) + h


class AttnBlock(nn.Module):
    def __init__(self, c):
        super().__init__()
        self.norm = norm(c)
        self.q, self.k, self.v, self.proj_out = (nn.Conv2d(c, c, 1) for _ in range(4))

    def forward(self, x):
        b, c, h, w = x.shape
        n = self.norm(x)
        q = self.q(n).reshape(b, c, h * w).permute(0, 2, 1)
        k = self.k(n).reshape(b, c, h * w)
        a = torch.softmax(torch.bmm(q, k) * c ** -0.5, dim=2)
        o = torch.bmm(self.v(n).reshape(b, c, h * w), a.permute(0, 2, 1)).reshape(b, c, h, w)
        return x + self.proj_out(o)


class Downsample(nn.Module):
    def __init__(self, c):
        super().__init__()
        self.conv = nn.Conv2d(c, c, 3, 2, 0)

    def forward(self, x):
        return self.conv(F.pad(x, (0, 1, 0, 1)))


class Upsample(nn.Module):
    def __init__(self, c):
        super().__init__()
        self.conv = nn.Conv2d(c, c, 3, 1, 1)

    def forward(self, x):
        return self.conv(F.interpolate(x, scale_factor=2.0, mode="nearest"))


def middle(c, attention):
    mid = nn.Module()
    mid.block_1 = ResnetBlock(c, c)
    if attention:
        mid.attn_1 = AttnBlock(c)
    mid.block_2 = ResnetBlock(c, c)
    return mid


def run_middle(mid, h):
    h = mid.block_1(h)
    if hasattr(mid, "attn_1"):
        h = mid.attn_1(h)
    return mid.block_2(h)


class Encoder(nn.Module):
    def __init__(self, c):
        super().__init__()
        self.conv_in = nn.Conv2d(1, c["width"], 3, 1, 1)
        self.down = nn.ModuleList()
        ch, side = c["width"], c["side"]
        for i, m in enumerate(c["multipliers"]):
            level = nn.Module()
            level.block, level.attn = nn.ModuleList(), nn.ModuleList()
            for _ in range(c["residual_blocks"]):
                level.block.append(ResnetBlock(ch, c["width"] * m))
                ch = c["width"] * m
                if side in c["attention_sides"]:
                    level.attn.append(AttnBlock(ch))
            if i != len(c["multipliers"]) - 1:
                level.downsample = Downsample(ch)
                side //= 2
            self.down.append(level)
        self.mid = middle(ch, c["middle_attention"])
        self.norm_out = norm(ch)
        self.conv_out = nn.Conv2d(ch, c["latent_channels"], 3, 1, 1)

    def forward(self, x):
        h = self.conv_in(x)
        for level in self.down:
            for i, block in enumerate(level.block):
                h = block(h)
                if len(level.attn):
                    h = level.attn[i](h)
            if hasattr(level, "downsample"):
                h = level.downsample(h)
        return self.conv_out(swish(self.norm_out(run_middle(self.mid, h))))


class Decoder(nn.Module):
    def __init__(self, c):
        super().__init__()
        last = len(c["multipliers"]) - 1
        ch, side = c["width"] * c["multipliers"][last], c["side"] >> last
        self.conv_in = nn.Conv2d(c["latent_channels"], ch, 3, 1, 1)
        self.mid = middle(ch, c["middle_attention"])
        levels = []
        for i in reversed(range(last + 1)):
            level = nn.Module()
            level.block, level.attn = nn.ModuleList(), nn.ModuleList()
            for _ in range(c["residual_blocks"] + 1):
                level.block.append(ResnetBlock(ch, c["width"] * c["multipliers"][i]))
                ch = c["width"] * c["multipliers"][i]
                if side in c["attention_sides"]:
                    level.attn.append(AttnBlock(ch))
            if i != 0:
                level.upsample = Upsample(ch)
                side *= 2
            levels.insert(0, level)
        self.up = nn.ModuleList(levels)
        self.norm_out = norm(ch)
        self.conv_out = nn.Conv2d(ch, 1, 3, 1, 1)

    def forward(self, z):
        h = run_middle(self.mid, self.conv_in(z))
        for level in reversed(self.up):
            for i, block in enumerate(level.block):
                h = block(h)
                if len(level.attn):
                    h = level.attn[i](h)
            if hasattr(level, "upsample"):
                h = level.upsample(h)
        return self.conv_out(swish(self.norm_out(h)))


class Quantizer(nn.Module):
    def __init__(self, codes, dim):
        super().__init__()
        self.embedding = nn.Embedding(codes, dim)

    def forward(self, z):
        flat = z.permute(0, 2, 3, 1).reshape(-1, z.shape[1])
        e = self.embedding.weight
        d = (e ** 2).sum(1)[None] - 2 * flat @ e.t()
        i = d.argmin(1)
        q = e[i].reshape(z.shape[0], z.shape[2], z.shape[3], -1).permute(0, 3, 1, 2)
        codebook = ((z.detach() - q) ** 2).mean()
        commitment = ((z - q.detach()) ** 2).mean()
        return z + (q - z).detach(), i, codebook, commitment


class VQModel(nn.Module):
    def __init__(self, c):
        super().__init__()
        d = c["latent_channels"]
        self.encoder, self.decoder = Encoder(c), Decoder(c)
        self.quantize = Quantizer(c["codes"], d)
        self.quant_conv, self.post_quant_conv = nn.Conv2d(d, d, 1), nn.Conv2d(d, d, 1)

    def forward(self, x):
        z = self.quant_conv(self.encoder(x))
        q, i, codebook, commitment = self.quantize(z)
        return self.decoder(self.post_quant_conv(q)), z, i, codebook, commitment


class Discriminator(nn.Module):
    def __init__(self, width, layers):
        super().__init__()
        main = [nn.Conv2d(1, width, 4, 2, 1), nn.LeakyReLU(0.2)]
        ch = width
        for n in range(1, layers + 1):
            nxt = width * min(2 ** n, 8)
            stride = 2 if n < layers else 1
            main += [nn.Conv2d(ch, nxt, 4, stride, 1, bias=False), nn.BatchNorm2d(nxt), nn.LeakyReLU(0.2)]
            ch = nxt
        main += [nn.Conv2d(ch, 1, 4, 1, 1)]
        self.main = nn.Sequential(*main)

    def forward(self, x):
        return self.main(x)


class PolyAct(nn.Module):
    """c + b x + a x^2, with coefficients in ascending powers."""

    def __init__(self):
        super().__init__()
        self.coefficients = nn.Parameter(torch.tensor([[0.25, 0.5, 0.12]]))

    def forward(self, x, seen):
        seen.append(x)
        c = self.coefficients[0]
        return (x * c[2] + c[1]) * x + c[0]


class ConvBn(nn.Module):
    def __init__(self, cin, cout, kernel, stride):
        super().__init__()
        self.conv = nn.Conv2d(cin, cout, kernel, stride, kernel // 2, bias=False)
        self.bn = nn.BatchNorm2d(cout)

    def forward(self, x):
        return self.bn(self.conv(x))


class Stem(ConvBn):
    def __init__(self, cin, cout):
        super().__init__(cin, cout, 3, 1)
        self.act = PolyAct()


class Block(nn.Module):
    def __init__(self, cin, cout, stride, gain):
        super().__init__()
        self.conv1 = nn.Conv2d(cin, cout, 3, stride, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(cout)
        self.act1 = PolyAct()
        self.conv2 = nn.Conv2d(cout, cout, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(cout)
        if stride != 1 or cin != cout:
            self.shortcut = ConvBn(cin, cout, 1, stride)
        self.gain = gain

    def forward(self, x, seen):
        h = self.bn2(self.conv2(self.act1(self.bn1(self.conv1(x)), seen)))
        return (self.shortcut(x) if hasattr(self, "shortcut") else x) + self.gain * h


class ResNet20(nn.Module):
    def __init__(self, channels, labels, divisor=1, gain=0.3):
        super().__init__()
        w = [16 // divisor, 32 // divisor, 64 // divisor]
        self.stem = Stem(channels, w[0])
        ch = w[0]
        for s in range(3):
            blocks = nn.ModuleList()
            for i in range(3):
                blocks.append(Block(ch, w[s], 2 if s > 0 and i == 0 else 1, gain))
                ch = w[s]
            setattr(self, f"layer{s + 1}", blocks)
        self.head = nn.Linear(ch, labels)

    def forward(self, x):
        seen = []
        x = self.stem.act(self.stem(x), seen)
        for layer in (self.layer1, self.layer2, self.layer3):
            for block in layer:
                x = block(x, seen)
        return self.head(x.mean((2, 3))), seen


def range_penalty(seen, interval):
    return sum((F.relu(x.abs() - interval) ** 2).mean() for x in seen)


def masked_bce(logits, targets, known):
    loss = F.binary_cross_entropy_with_logits(logits, targets, reduction="none")
    return (loss * known).sum() / known.sum().clamp(min=1.0)
