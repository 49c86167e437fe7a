"""Makes perceptual.safetensors for train/tests/pytorch.rs: `python perceptual.py` (PyTorch 2.6, CPU), a second.

The distance of Zhang et al., "The unreasonable effectiveness of deep features as a perceptual metric" (2018), as in the
package lpips (net="vgg"), written out here: VGG16 of torchvision at a 32nd of its width, random weights. Two batches of
grey films, the distance between them, and its gradient at the second.
"""

import torch
from torch import nn

from vectors import save

WIDTHS = [2, 4, 8, 16, 16]
CONVOLUTIONS = [2, 2, 3, 3, 3]
SHIFT = torch.tensor([-0.030, -0.088, -0.188]).view(1, 3, 1, 1)
SCALE = torch.tensor([0.458, 0.448, 0.450]).view(1, 3, 1, 1)


def vgg16():
    layers, channels = [], 3
    for width, count in zip(WIDTHS, CONVOLUTIONS):
        for _ in range(count):
            layers += [nn.Conv2d(channels, width, 3, padding=1), nn.ReLU()]
            channels = width
        layers.append(nn.MaxPool2d(2, 2))
    return nn.Sequential(*layers)


def features(net, x):
    """After relu1_2, relu2_2, relu3_3, relu4_3, relu5_3, of unit length in every cell."""
    out, h = [], (x.repeat(1, 3, 1, 1) - SHIFT) / SCALE
    for layer in net:
        if isinstance(layer, nn.MaxPool2d):
            out.append(h / (h.square().sum(1, keepdim=True).sqrt() + 1e-10))
        h = layer(h)
    return out


def distance(net, lin, x, y):
    pairs = zip(lin, features(net, x), features(net, y))
    return sum(nn.functional.conv2d((a - b) ** 2, w).mean((1, 2, 3)) for w, a, b in pairs).mean()


def main():
    torch.manual_seed(5)
    net = vgg16()
    for layer in net:
        if isinstance(layer, nn.Conv2d):
            nn.init.kaiming_normal_(layer.weight)
            nn.init.normal_(layer.bias, std=0.1)
    lin = [torch.rand(1, width, 1, 1) for width in WIDTHS]
    x, y = torch.rand(2, 1, 32, 32) * 2 - 1, (torch.rand(2, 1, 32, 32) * 2 - 1).requires_grad_()
    value = distance(net, lin, x, y)
    value.backward()
    tensors = {f"features.{name}": t for name, t in net.state_dict().items()}
    tensors |= {f"lin{i}.model.1.weight": w for i, w in enumerate(lin)}
    tensors |= dict(x=x, y=y, distance=value.reshape(1), gradient=y.grad)
    save("perceptual.safetensors", tensors)


if __name__ == "__main__":
    main()
