"""SalUn: random labels for the forget set, taught only to the weights the forget set's loss depends on most.

Source: "SalUn: Empowering Machine Unlearning via Gradient-based Weight Saliency" (Fan et al., ICLR 2024,
arXiv 2310.12508) and its official code (OPTML-Group/Unlearn-Saliency, `Classification/`: `generate_mask.py`,
`unlearn/RL.py`; README: 10 epochs at learning rate 0.013, half of the weights, for 10 % random forgetting).

Steps: 1. gradient of the forget set's loss at the original weights; the MASK_SHARE of weights with the largest ones
may change, all others keep their values. 2. Per epoch: one pass over the forget set with labels drawn anew, one pass
over the retain set with its own labels.
Deviations: EPOCHS is 8 where the source has 10, which would take all of 10 % of 120 epochs. The gradient is that of
the whole forget set at the original weights, the paper's formula; the official code takes optimizer steps while it
sums, and ranks such that the weights with the smallest gradients change. Labels are drawn from all classes, as in the
code; the paper leaves out the true one (TRUE_LABEL_ALLOWED = False).
"""

import torch
from torch import nn

# As published.
LEARNING_RATE = 0.013
MOMENTUM = 0.9
WEIGHT_DECAY = 5e-4
MASK_SHARE = 0.5  # of all weights
TRUE_LABEL_ALLOWED = True

# Adapted to small tracks and short limits.
EPOCHS = 8  # 10 in the source


def unlearn(net, retain_loader, forget_loader, val_loader):
    """Train the salient weights on random labels for the forget set and on the retain set."""
    masks = saliency_masks(net, forget_loader)
    originals = [weight.detach().clone() for weight in net.parameters()]
    optimizer = torch.optim.SGD(net.parameters(), lr=LEARNING_RATE, momentum=MOMENTUM, weight_decay=WEIGHT_DECAY)
    net.train()
    for _ in range(EPOCHS):
        for loader, draws_labels in ((forget_loader, True), (retain_loader, False)):
            for images, labels in loader:
                if len(labels) == 1:  # BatchNorm cannot train on a single example
                    continue
                logits = net(images)
                targets = random_labels(labels, logits.shape[1]) if draws_labels else labels
                optimizer.zero_grad()
                nn.functional.cross_entropy(logits, targets).backward()
                optimizer.step()
                restore(net, masks, originals)
    return net.eval()


def saliency_masks(net, forget_loader):
    """Return for each parameter which of its weights are among the MASK_SHARE of largest gradients."""
    net.eval().zero_grad()
    for images, labels in forget_loader:
        nn.functional.cross_entropy(net(images), labels, reduction="sum").backward()
    saliency = torch.cat([weight.grad.abs().flatten() for weight in net.parameters()])
    chosen = torch.zeros_like(saliency, dtype=torch.bool)
    chosen[saliency.topk(round(MASK_SHARE * len(saliency))).indices] = True
    parts = chosen.split([weight.numel() for weight in net.parameters()])
    return [part.view_as(weight) for part, weight in zip(parts, net.parameters(), strict=True)]


def random_labels(labels, n_classes):
    """Return as many labels, drawn uniformly from all classes, or from all but the true ones."""
    if TRUE_LABEL_ALLOWED:
        return torch.randint_like(labels, n_classes)
    return (labels + torch.randint_like(labels, 1, n_classes)) % n_classes


@torch.no_grad()
def restore(net, masks, originals):
    """Give the weights outside the masks their original values."""
    for weight, mask, original in zip(net.parameters(), masks, originals, strict=True):
        weight.copy_(torch.where(mask, weight, original))
