"""Makes the vectors of veilray/tests/import.rs: `python classifiers.py` (PyTorch 2.6, CPU), about twenty seconds.

The classifiers under the names that the code published with the paper gives its modules, written anew. Weights follow from a
formula that the test repeats, so that networks of the published size need no file: `classifiers.json` holds only
outputs. `classifier_*.pt` are small networks as PyTorch writes them: within a training checkpoint, with one activation
under several names, and in the format before version 1.6; `classifier_expanded.pt` is one that must be refused.

`python classifiers.py check FOLDER` compares every output with that of the published modules in FOLDER.
"""

import json
import os
import sys

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F

HERE = os.path.dirname(os.path.abspath(__file__))
BLOCKS = {"resnet20": 3, "resnet32": 5, "resnet44": 7, "resnet56": 9}
LABELS = 14


class Act(nn.Module):
    def __init__(self):
        super().__init__()
        self.alpha, self.beta, self.c = (nn.Parameter(torch.zeros(1)) for _ in range(3))

    def forward(self, x):
        return self.alpha * x**2 + self.beta * x + self.c


class Gate(Act):
    def forward(self, x):
        return self.alpha * x**3 + self.beta * x + self.c


class SE(nn.Module):
    def __init__(self, channels, reduction):
        super().__init__()
        hidden = max(channels // reduction, 1)
        self.linear1, self.lelu = nn.Linear(channels, hidden), Act()
        self.linear2, self.sigmoid = nn.Linear(hidden, channels), Gate()

    def forward(self, x):
        y = self.sigmoid(self.linear2(self.lelu(self.linear1(x.mean((2, 3))))))
        return x * y[:, :, None, None]


class LeNet(nn.Module):
    def __init__(self, channels, d, reduction, se):
        super().__init__()
        a, b, c = 32 // d, 64 // d, 128 // d
        self.conv1, self.relu1 = nn.Conv2d(channels, a, 5), Act()
        self.conv2, self.relu2 = nn.Conv2d(a, b, 5, groups=4), Act()
        self.conv3, self.relu3 = nn.Conv2d(b, c, 5), Act()
        self.attn = SE(c, reduction) if se else None
        self.linear1, self.relu4 = nn.Linear(c, c // 2), Act()
        self.linear2 = nn.Linear(c // 2, LABELS)

    def forward(self, x):
        x = F.avg_pool2d(self.relu1(self.conv1(x)), 2)
        x = F.avg_pool2d(self.relu2(self.conv2(x)), 2)
        x = self.conv3(x)
        x = self.attn(x) if self.attn else x
        return self.linear2(self.relu4(self.linear1(self.relu3(x).mean((2, 3)))))


class Vgg(nn.Module):
    def __init__(self, channels, d, reduction, se, side=32):
        super().__init__()
        self.relu1 = self.relu2 = self.relu3 = self.relu4 = Act()
        widths = [channels, 32 // d, 64 // d, 128 // d, 256 // d]
        for i in range(4):
            conv = nn.Conv2d(widths[i], widths[i + 1], 3, padding=1, groups=8 if i else 1, bias=False)
            setattr(self, f"conv{i + 1}", conv)
        self.attn = SE(widths[4], reduction) if se else None
        self.linear1 = nn.Linear(widths[4] * (side // 16) ** 2, LABELS, bias=False)

    def forward(self, x):
        for i in range(4):
            x = self.relu1(getattr(self, f"conv{i + 1}")(x))
            x = self.attn(x) if self.attn and i == 3 else x
            x = F.avg_pool2d(x, 2)
        return self.linear1(x.flatten(1))


class HefNet(nn.Module):
    def __init__(self, channels, d, reduction, se, side=32):
        super().__init__()
        self.relu1 = self.relu2 = self.relu3 = self.relu4 = Act()
        widths = [channels, 64 // d, 128 // d, 256 // d, 256 // d]
        for i in range(4):
            kernel = 1 if i == 3 and side == 16 else 3
            setattr(self, f"conv{i + 1}", nn.Conv2d(widths[i], widths[i + 1], kernel, groups=8 if i else 1))
            setattr(self, f"bn{i + 1}", nn.BatchNorm2d(widths[i + 1]))
        self.attn = SE(widths[4], reduction) if se else None
        cells = 1 if side == 16 else (((side - 4) // 2 - 2) // 2 - 2) // 2
        self.linear1 = nn.Linear(widths[4] * cells**2, LABELS)

    def forward(self, x):
        for i in range(4):
            x = getattr(self, f"bn{i + 1}")(getattr(self, f"conv{i + 1}")(x))
            x = self.attn(x) if self.attn and i == 3 else x
            x = self.relu1(x)
            x = F.avg_pool2d(x, 2) if i else x
        return self.linear1(x.flatten(1))


class Block(nn.Module):
    def __init__(self, i, o, stride, reduction, se):
        super().__init__()
        self.conv1, self.bn1 = nn.Conv2d(i, o, 3, stride, 1, bias=False), nn.BatchNorm2d(o)
        self.relu = Act()
        self.conv2, self.bn2 = nn.Conv2d(o, o, 3, 1, 1, bias=False), nn.BatchNorm2d(o)
        self.shortcut = nn.Sequential()
        if stride != 1 or i != o:
            self.shortcut = nn.Sequential(nn.Conv2d(i, o, 1, stride, bias=False), nn.BatchNorm2d(o))
        self.attn = SE(o, reduction) if se else None

    def forward(self, x):
        y = self.bn2(self.conv2(self.relu(self.bn1(self.conv1(x)))))
        return (self.attn(y) if self.attn else y) + self.shortcut(x)


class ResNet(nn.Module):
    def __init__(self, channels, d, reduction, se, blocks):
        super().__init__()
        width = 16 // d
        self.conv1, self.bn1 = nn.Conv2d(channels, width, 3, 1, 1, bias=False), nn.BatchNorm2d(width)
        self.relu = Act()
        for stage in range(3):
            o = (16 // d) << stage
            strides = [2 if stage else 1] + [1] * (blocks - 1)
            layer = []
            for stride in strides:
                layer.append(Block(width, o, stride, reduction, se))
                width = o
            setattr(self, f"layer{stage + 1}", nn.Sequential(*layer))
        self.linear = nn.Linear(width, LABELS)

    def forward(self, x):
        x = self.relu(self.bn1(self.conv1(x)))
        return self.linear(self.layer3(self.layer2(self.layer1(x))).mean((2, 3)))


def network(name, channels=4, d=1, reduction=16, se=False):
    if name in BLOCKS:
        return ResNet(channels, d, reduction, se, BLOCKS[name])
    return {"lenet": LeNet, "vggnet": Vgg, "hefnet": HefNet}[name](channels, d, reduction, se)


def uniform(name, count):
    """Value i in [-1, 1), from the FNV-1a hash of the name and a mix of 32 bits."""
    mask = np.uint64(0xFFFFFFFF)
    seed = 0x811C9DC5
    for byte in name.encode():
        seed = ((seed ^ byte) * 0x01000193) & 0xFFFFFFFF
    x = (np.arange(1, count + 1, dtype=np.uint64) * np.uint64(2654435761) + np.uint64(seed)) & mask
    x ^= x >> np.uint64(15)
    x = (x * np.uint64(0x2C1B3C6D)) & mask
    x ^= x >> np.uint64(12)
    x = (x * np.uint64(0x297A2D39)) & mask
    x ^= x >> np.uint64(15)
    return x.astype(np.float64) / 2**31 - 1


def formula(name, shape):
    """The tensor `name` in f32. Names of a shared activation begin with relu1, so that its copies agree."""
    count = int(np.prod(shape))
    module, _, part = name.rpartition(".")
    u = uniform(name, count)
    norm = "bn" in module or module.endswith("shortcut.1")
    gate = module.endswith("sigmoid")
    if part == "alpha":
        v = -0.002 + 0.0005 * u if gate else 0.06 + 0.02 * u
    elif part == "beta":
        v = 0.12 + 0.02 * u if gate else 0.6 + 0.1 * u
    elif part == "c":
        v = 0.5 + 0.1 * u if gate else 0.2 * u
    elif part == "running_var":
        v = 1 + 0.5 * u
    elif part == "running_mean":
        v = 0.2 * u
    elif norm:
        v = (0.3 if module.endswith("bn2") else 1.0) + 0.2 * u if part == "weight" else 0.1 * u
    elif part == "bias":
        v = 0.1 * u
    else:
        v = u * np.sqrt(3.0 / (count // shape[0]))
    return torch.from_numpy(v.astype(np.float32).reshape(shape))


def filled(model, shared):
    """The model with the formula's weights; `shared` says that relu2 to relu4 are relu1."""
    state = model.state_dict()
    for name in state:
        if name.endswith("num_batches_tracked"):
            continue
        origin = "relu1." + name.split(".", 1)[1] if shared and name.startswith("relu") else name
        state[name] = formula(origin, list(state[name].shape))
    model.load_state_dict(state)
    return model.eval()


def films(channels, side=32, count=2):
    u = uniform("films", count * channels * side * side)
    return torch.from_numpy(u.astype(np.float32).reshape(count, channels, side, side))


def cases():
    for name in ["lenet", "vggnet", "hefnet", *BLOCKS]:
        for se in [False, True]:
            yield name, se


@torch.no_grad()
def outputs(model, channels=4):
    return [[round(float(v), 9) for v in row] for row in model(films(channels))]


def published(folder, name, se):
    sys.path.insert(0, folder)
    from models import hefnet, lenet, resnet, vgg

    options = dict(in_channels=4, input_size=32, num_classes=LABELS, attn="SE" if se else None)
    if name in BLOCKS:
        return resnet.ResNet(num_blocks=[BLOCKS[name]] * 3, **options)
    return {"lenet": lenet.LeNet5, "vggnet": vgg.VGG5, "hefnet": hefnet.hefNet}[name](**options)


def main():
    torch.set_num_threads(1)
    table = {}
    for name, se in cases():
        key, shared = name + ("-se" if se else ""), name in ("vggnet", "hefnet")
        table[key] = outputs(filled(network(name, se=se), shared))
        if len(sys.argv) == 3:
            theirs = filled(published(sys.argv[2], name, se), shared)
            difference = np.abs(np.array(outputs(theirs)) - np.array(table[key])).max()
            print(f"{key:12} {difference:.1e} of {np.abs(table[key]).max():.2f}")
    if len(sys.argv) == 3:
        return
    small = filled(network("resnet20", 3, 8, 4, True), False)
    optimizer = torch.optim.Adam(small.parameters())
    checkpoint = {"model_state_dict": small.state_dict(), "optimizer_state_dict": optimizer.state_dict()}
    torch.save(checkpoint, os.path.join(HERE, "classifier_resnet20_se.pt"))
    table["small resnet20-se"] = outputs(small, 3)
    small = filled(network("vggnet", 3, 4, 16, True), True)
    torch.save(small.state_dict(), os.path.join(HERE, "classifier_vggnet_se.pt"))
    table["small vggnet-se"] = outputs(small, 3)
    small = filled(network("hefnet", 3, 8, 16, False), True)
    torch.save(small.state_dict(), os.path.join(HERE, "classifier_hefnet.pt"), _use_new_zipfile_serialization=False)
    table["small hefnet"] = outputs(small, 3)
    # One number that claims to be 268 million.
    torch.save({"conv1.weight": torch.zeros(1).expand(64, 4, 1024, 1024)}, os.path.join(HERE, "classifier_expanded.pt"))
    with open(os.path.join(HERE, "classifiers.json"), "w") as f:
        json.dump(table, f, indent=0)


main()
