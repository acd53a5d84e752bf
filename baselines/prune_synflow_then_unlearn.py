"""Prune by synaptic flow, train the rest on the retain set, unlearn under the masks.

Source: "Pruning neural networks without any data by iteratively conserving synaptic flow" (SynFlow; Tanaka et al.,
NeurIPS 2020, arXiv 2006.05467) as in "Model Sparsity Can Simplify Machine Unlearning" (Jia et al., NeurIPS 2023,
arXiv 2304.04934), "prune first, then unlearn", and its official code (OPTML-Group/Unlearn-Sparse: `main_synflow.py`,
`unlearn/`): 100 iterations, no data.

Steps: 1. keep the 1 - SPARSITY of the weights of all convolutions with the largest share in the synaptic flow, found in
ITERATIONS prunings of equal rate; linear layers and BatchNorm stay.
2. Train on the retain set under the masks. 3. What UNLEARNER adds: nothing ("finetune"), a penalty on absolute weights
in step 2 ("l1"), ascent of the forget set's loss ("gradient_ascent"), or noise where the diagonal Fisher information of
the retain set is small ("fisher"). Pruned weights are zero from first to last.
Deviations: in the paper the original model is pruned at its initialization, so that masks know nothing of the forget
set; here it comes trained and dense, the flow is that of its trained weights, and it trains under the masks on the
retain set only. Tracks with a `[pruning]` section are the paper's protocol; to unlearn on one under its own masks, use
`prune_omp_then_unlearn.py`.
EPOCHS is 8 where the source has 10, to leave time for pruning and step 3 within 10 % of 120 epochs. The information is
of single examples with a label drawn from the model, alpha as in Golatkar et al. 2020 for such; the official code
squares means over 32 examples with alpha 3e-8, gives surviving weights the mean variance of pruned ones, and has rules
of its own for the last layer.
Notes: on `digits`, whose net is small, 95 % is far from the dense retrained models: calibrated 0.13 +- 0.02 (64 runs;
floor 0.27, fine-tuning 0.45), test accuracy 0.95 of theirs.
"""

import copy

import torch
from torch import nn
from torch.func import functional_call, grad, vmap

UNLEARNER = "finetune"  # or "gradient_ascent", "l1", "fisher"
SPARSITY = 0.95  # share of all convolution weights that is pruned
ITERATIONS = 100  # prunings, of equal rate
EPOCHS = 8  # over the retain set, for every unlearner
LEARNING_RATE = 0.01
MOMENTUM = 0.9
WEIGHT_DECAY = 5e-4
L1_GAMMA = 1e-4  # "l1": weight of the sum of absolute weights at first, falling linearly
ASCENT_EPOCHS = 5  # "gradient_ascent": over the forget set
ASCENT_LEARNING_RATE = 1e-4
FISHER_ALPHA = 1e-6  # "fisher": variance of the noise is this over the Fisher information
FISHER_MAX = 1e3  # largest value of 1 / Fisher information
CHUNK = 32  # "fisher": examples whose gradients are held at once


def unlearn(net, retain_loader, forget_loader, val_loader):
    """Prune, train on the retain set, then unlearn; pruned weights are zero from first to last."""
    masks = synflow_masks(net, retain_loader.dataset[0][0])
    apply_masks(net, masks)
    train_on_retain_set(net, masks, retain_loader)
    net.eval()
    if UNLEARNER == "gradient_ascent":
        ascend(net, masks, forget_loader)
    elif UNLEARNER == "fisher":
        add_fisher_noise(net, masks, retain_loader)
    elif UNLEARNER not in ("finetune", "l1"):
        raise ValueError(f"no unlearner is called {UNLEARNER!r}")
    return net


# ---- pruning ------------------------------------------------------------------------------------------------------


def convolution_weights(net):
    """Return the weights that can be pruned: those of all convolutions."""
    return [module.weight for module in net.modules() if isinstance(module, nn.Conv2d)]


@torch.no_grad()
def apply_masks(net, masks):
    """Set pruned weights to zero."""
    for weight, mask in zip(convolution_weights(net), masks, strict=True):
        weight.mul_(mask)


def highest(scores, share):
    """Return masks in the shapes of the scores: 1 at the given share of all of them, the highest, 0 elsewhere."""
    flat = torch.cat([score.flatten() for score in scores])
    mask = torch.zeros_like(flat)
    mask[flat.topk(round(share * len(flat))).indices] = 1
    parts = mask.split([score.numel() for score in scores])
    return [part.view_as(score) for part, score in zip(parts, scores, strict=True)]


def synflow_masks(net, image):
    """Return masks that leave the weights of the largest share in the synaptic flow. image: (channels, height, width).

    The flow is the sum of the outputs for an input of ones, with every weight, bias and statistic replaced by its
    absolute value. In float64: products over many layers leave the range of float32.
    """
    flow = copy.deepcopy(net).double().eval()
    for value in flow.state_dict().values():
        value.abs_()
    weights = convolution_weights(flow)
    ones = torch.ones(1, *image.shape, dtype=torch.float64, device=weights[0].device)
    for iteration in range(1, ITERATIONS + 1):
        gradients = torch.autograd.grad(flow(ones).sum(), weights)
        scores = [(weight * gradient).detach() for weight, gradient in zip(weights, gradients, strict=True)]
        masks = highest(scores, (1 - SPARSITY) ** (iteration / ITERATIONS))
        apply_masks(flow, masks)
    return [mask.to(weight.dtype) for mask, weight in zip(masks, convolution_weights(net), strict=True)]


# ---- unlearning under the masks -----------------------------------------------------------------------------------


def train_on_retain_set(net, masks, retain_loader):
    """Train what is left on the retain set, with a penalty on its size if UNLEARNER is "l1"."""
    optimizer = torch.optim.SGD(net.parameters(), lr=LEARNING_RATE, momentum=MOMENTUM, weight_decay=WEIGHT_DECAY)
    net.train()
    for epoch in range(EPOCHS):
        for images, labels in retain_loader:
            loss = nn.functional.cross_entropy(net(images), labels)
            if UNLEARNER == "l1":
                loss = loss + L1_GAMMA * (1 - epoch / EPOCHS) * l1_norm(net)
            step(optimizer, loss, net, masks)


def ascend(net, masks, forget_loader):
    """Ascend the loss of the forget set, with BatchNorm's running statistics kept."""
    optimizer = torch.optim.SGD(net.parameters(), lr=ASCENT_LEARNING_RATE, momentum=MOMENTUM, weight_decay=WEIGHT_DECAY)
    for _ in range(ASCENT_EPOCHS):
        for images, labels in forget_loader:
            step(optimizer, -nn.functional.cross_entropy(net(images), labels), net, masks)


def step(optimizer, loss, net, masks):
    """Take one step down a loss under the masks."""
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    apply_masks(net, masks)


def l1_norm(net):
    """Return the sum of absolute values over all parameters."""
    return sum(weight.abs().sum() for weight in net.parameters())


def add_fisher_noise(net, masks, retain_loader):
    """Add noise to the weights, the more the less the retain set depends on them."""
    weights = {name: weight.detach() for name, weight in net.named_parameters()}
    buffers = dict(net.named_buffers())

    def loss(weights, image, label):
        logits = functional_call(net, (weights, buffers), (image[None],))
        return nn.functional.cross_entropy(logits, label[None])

    gradients_of_each = vmap(grad(loss), in_dims=(None, 0, 0))
    information = {name: torch.zeros_like(weight) for name, weight in weights.items()}
    count = 0
    for images, _ in retain_loader:
        drawn = net(images).softmax(dim=1).multinomial(1)[:, 0]
        for chunk in zip(images.split(CHUNK), drawn.split(CHUNK), strict=True):
            for name, gradient in gradients_of_each(weights, *chunk).items():
                information[name] += gradient.square().sum(dim=0)
        count += len(images)
    with torch.no_grad():
        for name, weight in net.named_parameters():
            variance = FISHER_ALPHA * (count / information[name]).clamp(max=FISHER_MAX)
            weight.add_(variance.sqrt() * torch.randn_like(weight))
    apply_masks(net, masks)
