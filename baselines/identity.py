"""Do nothing: the original model as it is, the floor of every track.

Source: the trivial end of the scale (introduction slides: "not unlearning: optimal accuracy, poor unlearning").
"""


def unlearn(net, retain_loader, forget_loader, val_loader):
    """Return the net unchanged."""
    return net
