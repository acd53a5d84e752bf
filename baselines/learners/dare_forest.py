"""DaRE forest: trees that unlearn exactly, by growing again only what lies below a split that changed.

Source: "Machine Unlearning for Random Forests" (Brophy and Lowd, ICML 2021) and its code (jjbrophy47/dare_rf). For
tracks whose model is `forest`.

Steps of `train`, for each tree from the root on: 1. at the upper RANDOM_LEVELS levels, split a random attribute at a
random threshold between its smallest and its largest value. 2. Below them, choose the split with the lowest Gini
impurity among THRESHOLDS random valid thresholds each of a few random attributes, the square root of their number. A
threshold is valid between two neighbouring values whose examples are not all of one class. 3. Stop at examples of one
class, where no threshold is valid, and at the depth of the net.
Steps of `unlearn`, for each tree from the root on: 1. choose the split of the examples that stay. 2. If it is the one
that is there, go on to those of its two sides that lose examples. 3. Else grow what is below again.

Exact: a tree is a function of a key and of the set of its examples. Nothing is drawn in turn: what is random is a hash
of the key, of the node's place, and of what is chosen from. With a fresh key it is distributed as in the source.
Deviations: the source's code keeps a threshold after the last example with its value is gone, adds none between values
that become neighbours, and so is not exact; it is for two classes, this is for any number. The source keeps counts at
each node. Here the examples of those nodes that lose some are counted again.
"""

import itertools

import numpy as np
import torch

# As published.
RANDOM_LEVELS = 0  # from the root on; the more there are, the less is grown again
THRESHOLDS = 25  # of an attribute

# Ours: the source says nothing, or something else.
LOWEST, HIGHEST = 0.0, 1.0  # of any input, whatever the examples are; random thresholds are drawn between them
DRAWS = 64  # of random thresholds at once


def train(net, train_loader, val_loader):
    """Grow the trees; the key is all that is kept."""
    key = int(torch.randint(2**62, ()))
    values, labels = examples(train_loader)
    for tree in trees(net, key):
        grow(tree, 0, values, labels)
    return net, {"key": torch.tensor(key)}


def unlearn(net, retain_loader, forget_loader, val_loader, state):
    """Make the trees what they are without the forget set."""
    values, labels = examples(retain_loader)
    forgotten, _ = examples(forget_loader)
    for tree in trees(net, int(state["key"])):
        take_out(tree, 0, forgotten, values, labels)
    return net, state


def grow(tree, node, values, labels):
    """Grow the subtree of a node from its examples: values (n, n_attributes) and labels (n,)."""
    split = tree.choose_split(node, values, labels)
    if split is None:
        tree.set_leaf(node, labels)
        return
    tree.set_split(node, split)
    for child, side in sides(node, split, values):
        grow(tree, child, values[side], labels[side])


def take_out(tree, node, forgotten, values, labels):
    """Make the subtree of a node what it is without those of its examples that are forgotten; the others stay."""
    if len(forgotten) == 0:
        return
    split = tree.choose_split(node, values, labels)
    if split is None or split != tree.split(node):
        tree.clear(node)
        grow(tree, node, values, labels)
        return
    for (child, side), (_, lost) in zip(sides(node, split, values), sides(node, split, forgotten), strict=True):
        take_out(tree, child, forgotten[lost], values[side], labels[side])


def sides(node, split, values):
    """Return the two nodes after a node, each with the mask (n,) of the examples that go there."""
    attribute, threshold = split
    is_first = values[:, attribute] <= threshold
    return (2 * node + 1, is_first), (2 * node + 2, ~is_first)


def examples(loader):
    """Return all values (n, n_attributes) float32 and labels (n,) of a loader's data set."""
    values = loader.dataset.inputs.flatten(1).numpy() + np.float32(0)  # -0 becomes 0: the bits of values are hashed
    return values, loader.dataset.labels.numpy()


# ---- a tree -------------------------------------------------------------------------------------------------------


def trees(net, key):
    """Return the trees of a net, which moves to the CPU; what they are set to is set in the net."""
    net.cpu()
    return [Tree(net, number, key) for number in range(len(net.feature))]


class Tree:
    """A tree in the arrays of a net, and how its splits are chosen. A split is an attribute and a threshold."""

    def __init__(self, net, number, key):
        self.feature, self.threshold = net.feature[number].numpy(), net.threshold[number].numpy()
        self.value = net.value[number].numpy()
        self.depth, self.key = net.depth, (key, number)

    def split(self, node):
        """Return the split of a node."""
        return int(self.feature[node]), self.threshold[node]

    def set_split(self, node, split):
        """Let a node split."""
        self.feature[node], self.threshold[node] = split
        self.value[node] = 0

    def set_leaf(self, node, labels):
        """Let a node be a leaf of examples with these labels."""
        self.value[node] = np.bincount(labels, minlength=self.value.shape[1]) / len(labels)

    def clear(self, node):
        """Let a node and all below it be as in a new net."""
        first, last = node, node
        while first < len(self.value):
            self.value[first : last + 1] = 0
            self.feature[first : last + 1], self.threshold[first : last + 1] = -1, 0
            first, last = 2 * first + 1, 2 * last + 2

    def choose_split(self, node, values, labels):
        """Return the split of a node with these examples; None for a leaf."""
        level = (node + 1).bit_length() - 1
        if level == self.depth or len(np.unique(labels)) == 1:
            return None
        attributes = np.argsort(hashed(*self.key, node, np.arange(values.shape[1])))
        choose = self.choose_random if level < RANDOM_LEVELS else self.choose_greedily
        return choose(node, attributes.tolist(), values, labels)

    def choose_random(self, node, attributes, values, labels):
        """Return the first attribute that can be split, and the first threshold that splits it."""
        for attribute in attributes:
            low, high = values[:, attribute].min(), values[:, attribute].max()
            if low < LOWEST or high > HIGHEST:
                raise ValueError(f"an input goes from {low:g} to {high:g}: set LOWEST and HIGHEST to what it can be")
            for start in itertools.count(0, DRAWS) if low < high else ():
                drawn = hashed(*self.key, node, attribute, np.arange(start, start + DRAWS)) / 2.0**64
                thresholds = (LOWEST + (HIGHEST - LOWEST) * drawn).astype(np.float32)
                inside = thresholds[(low <= thresholds) & (thresholds < high)]
                if len(inside):
                    return attribute, inside[0]
        return None

    def choose_greedily(self, node, attributes, values, labels):
        """Return the best split of the first few attributes that have a valid threshold; of equals, by value."""
        found = []
        for attribute in attributes:
            low, high, left = valid_thresholds(values[:, attribute], labels, self.value.shape[1])
            if len(low) == 0:
                continue
            if len(low) > THRESHOLDS:
                ranked = np.argsort(hashed(*self.key, node, attribute, low.view(np.uint32), high.view(np.uint32)))
                chosen = np.sort(ranked[:THRESHOLDS])
                low, high, left = low[chosen], high[chosen], left[chosen]
            impurity = gini(left, np.bincount(labels, minlength=self.value.shape[1]) - left)
            best = impurity.argmin()
            found.append((impurity[best], attribute, middle(low[best], high[best])))
            if len(found) == int(len(attributes) ** 0.5):
                break
        return min(found)[1:] if found else None


# ---- thresholds and chance ----------------------------------------------------------------------------------------


def valid_thresholds(column, labels, n_classes):
    """Return the values below and above each valid threshold (n,), and the class counts up to it (n, n_classes)."""
    values, place = np.unique(column, return_inverse=True)
    counts = np.bincount(place * n_classes + labels, minlength=len(values) * n_classes).reshape(-1, n_classes)
    is_valid = (counts[:-1] + counts[1:] > 0).sum(1) > 1
    return values[:-1][is_valid], values[1:][is_valid], counts.cumsum(0)[:-1][is_valid]


def gini(left, right):
    """Return the mean Gini impurity (n,) of two sides with these class counts (n, n_classes)."""
    n_left, n_right = left.sum(1), right.sum(1)
    return 1 - ((left**2).sum(1) / n_left + (right**2).sum(1) / n_right) / (n_left + n_right)


def middle(low, high):
    """Return a float32 between two: at least the lower one, and below the other."""
    half = np.float32((float(low) + float(high)) / 2)
    return half if half < high else low


def hashed(*words):
    """Return 64 random bits for integers, or for each row of arrays of them (n,): SplitMix64's, word by word."""
    bits = np.zeros(1, np.uint64)
    for word in words:
        bits = (bits ^ np.asarray(word).astype(np.uint64)) + np.uint64(0x9E3779B97F4A7C15)
        bits = (bits ^ (bits >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        bits = (bits ^ (bits >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        bits ^= bits >> np.uint64(31)
    return bits
