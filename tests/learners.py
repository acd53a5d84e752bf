"""A learner for tests of all that is made of learners."""

__all__ = ["EXACT", "TRAIN", "UNLEARN"]

TRAIN = "def train(net, train_loader, val_loader):"
UNLEARN = "def unlearn(net, retain_loader, forget_loader, val_loader, state):"
# Training from the start again, all examples in one batch: equal to a training without the forget set.
EXACT = f"""
import torch
def learn(net, data):
    net.train()
    optimizer = torch.optim.SGD(net.parameters(), lr=0.1, momentum=0.9)
    for _ in range(3):
        optimizer.zero_grad()
        torch.nn.functional.cross_entropy(net(data.inputs), data.labels).backward()
        optimizer.step()
    return net
{TRAIN}
    state = {{name: value.clone() for name, value in net.state_dict().items()}}
    return learn(net, train_loader.dataset), state
{UNLEARN}
    net.load_state_dict(state)
    return learn(net, retain_loader.dataset)
"""
