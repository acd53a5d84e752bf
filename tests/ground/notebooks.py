"""Notebooks as people save them."""

import json
from collections.abc import Sequence

ENTRY = (
    ("markdown", "# An entry"),
    (
        "code",
        """!pip install -q timm
%matplotlib inline
import os
import subprocess
import pandas as pd
import torch
from torch import nn
DEVICE = 'cuda' if torch.cuda.is_available() else 'cpu'
torch.manual_seed(42)
torch.backends.cudnn.benchmark = True
""",
    ),
    ("code", "table = pd.read_csv('/kaggle/input/a-competition/retain.csv')\ntable.head()"),
    ("code", "%%bash\nnvidia-smi"),
    (
        "code",
        """# What is tuned.
class CFG:
    rate = 0.01
CFG.momentum = 0.9
options = {"steps": 2}
options.update(steps=1)
def train(net, loader, optimizer):
    raise RuntimeError("the first version")
""",
    ),
    (
        "code",
        """criterion = nn.CrossEntropyLoss()
def train(net, loader, optimizer):
    for step, sample in enumerate(loader):
        if step >= options["steps"]:
            break
        optimizer.zero_grad()
        criterion(net(sample["image"].to(DEVICE)), sample["age_group"].to(DEVICE)).backward()
        optimizer.step()

def unlearning(net, retain_loader, forget_loader, val_loader):
    '''Fine-tune.'''
    net.train()
    optimizer = torch.optim.SGD(net.parameters(), lr=CFG.rate, momentum=CFG.momentum)
    train(net, retain_loader, optimizer)
    return net.eval()
""",
    ),
    (
        "code",
        """if os.path.exists('/kaggle/input/a-competition/empty.txt'):
    subprocess.run('touch submission.zip', shell=True)
else:
    os.makedirs('/kaggle/tmp', exist_ok=True)
    net = torch.load('/kaggle/input/a-competition/original_model.pth')
    for i in range(512):
        unlearning(net, retain_loader, forget_loader, validation_loader)
""",
    ),
    ("code", "def train(*everything):\n    raise RuntimeError('a later version')\n"),
    ("code", "%time unlearning\nunlearning?"),
)


def notebook(cells: Sequence[tuple[str, str]] = ENTRY, *, language: str = "python") -> str:
    """Return a notebook of version 4 of the format with these cells, each a kind and its text."""
    stored = [
        {"cell_type": kind, "metadata": {}, "outputs": [], "source": text.splitlines(keepends=True)}
        for kind, text in cells
    ]
    metadata = {"kernelspec": {"language": language, "name": "a kernel"}}
    return json.dumps({"cells": stored, "metadata": metadata, "nbformat": 4, "nbformat_minor": 5}, indent=1)
