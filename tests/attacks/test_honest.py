"""What honest submissions do works in the sandbox. For torch.compile see tests/runner/test_isolation.py."""

from pathlib import Path

import pytest

from harness.runner.outcome import Outcome
from tests.attacks.attempts import SIGNATURE, TRIED, Attacks

HONEST = {
    "loader with workers": """
    from torch.utils.data import DataLoader
    own = DataLoader(retain_loader.dataset, batch_size=32, shuffle=True, num_workers=2)
    assert sum(len(labels) for _, labels in own) == len(retain_loader.dataset)
    """,
    "loader with workers that stay": """
    from torch.utils.data import DataLoader
    own = DataLoader(retain_loader.dataset, batch_size=32, num_workers=2, persistent_workers=True)
    assert len([1 for _ in range(2) for _ in own]) == 2 * len(own)
    """,
    "threads": """
    from concurrent.futures import ThreadPoolExecutor
    with ThreadPoolExecutor(4) as pool:
        assert sum(pool.map(lambda n: n * n, range(10))) == 285
    torch.set_num_threads(2)
    torch.randn(500, 500) @ torch.randn(500, 500)
    """,
    "processes and queues": """
    import multiprocessing
    queue, lock = multiprocessing.Queue(), multiprocessing.Lock()
    def put(n):
        with lock:
            queue.put({"losses": [n] * 1000})
    processes = [multiprocessing.Process(target=put, args=(n,)) for n in range(2)]
    [process.start() for process in processes]
    assert sorted(queue.get()["losses"][0] for _ in processes) == [0, 1]
    [process.join() for process in processes]
    """,
    "pool of processes": """
    import multiprocessing
    with multiprocessing.Pool(2) as pool:
        assert pool.map(abs, [-1, -2]) == [1, 2]
    """,
    "temporary files": """
    import os, tempfile
    with tempfile.NamedTemporaryFile() as file, tempfile.TemporaryDirectory() as folder:
        file.write(b"x" * 1000)
        torch.save(net.state_dict(), folder + "/best.pt")
        net.load_state_dict(torch.load(folder + "/best.pt"))
        open(os.path.expanduser("~/mine"), "w").close()
        open("here", "w").close()
    """,
    "packages": """
    import numpy, pandas, scipy.linalg, scipy.optimize, scipy.stats
    from sklearn.cluster import KMeans
    from sklearn.ensemble import RandomForestClassifier
    from sklearn.linear_model import LogisticRegression
    numbers = numpy.random.default_rng(0).normal(size=(60, 3))
    labels = (numbers[:, 0] > 0).astype(int)
    assert LogisticRegression().fit(numbers, labels).score(numbers, labels) > 0.9
    RandomForestClassifier(5, n_jobs=2).fit(numbers, labels)
    KMeans(2, n_init=1).fit(numbers)
    scipy.optimize.minimize(lambda x: (x**2).sum(), numbers[0])
    pandas.DataFrame(numbers).describe()
    scipy.linalg.svd(numbers)
    """,
    "training": """
    import copy
    teacher = copy.deepcopy(net)
    optimizer = torch.optim.AdamW(net.parameters(), lr=1e-4)
    net.train()
    for images, labels in retain_loader:
        loss = torch.nn.functional.kl_div(net(images).log_softmax(1), teacher(images).softmax(1))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    """,
    "programs": """
    import subprocess
    assert subprocess.run(["echo", "hello"], capture_output=True, text=True, check=True).stdout == "hello\\n"
    """,
    "vectorised gradients": """
    from torch.func import functional_call, grad, vmap
    parameters = {name: value.detach() for name, value in net.named_parameters()}
    def loss(parameters, image, label):
        outputs = functional_call(net, parameters, (image[None],))
        return torch.nn.functional.cross_entropy(outputs, label[None])
    images, labels = next(iter(forget_loader))
    vmap(grad(loss), in_dims=(None, 0, 0))(parameters, images[:4], labels[:4])
    """,
}


@pytest.mark.parametrize("level", [level for level in TRIED if level != "none"])
@pytest.mark.parametrize("practice", HONEST)
def test_honest_practice_works(attacks: Attacks, practice: str, level: str) -> None:
    source = f"import torch, warnings\nwarnings.simplefilter('ignore')\n{SIGNATURE}{HONEST[practice]}"
    evaluation = attacks.evaluate(source, level=level, limit_seconds=60.0)
    assert evaluation.outcome == Outcome.OK, evaluation.runs[-1].info


def test_the_template_and_the_baselines_run_at_full(attacks: Attacks) -> None:
    folder = Path(__file__).parents[2]
    for file in (folder / "submissions/template.py", folder / "baselines/finetune.py"):
        evaluation = attacks.evaluate(file.read_text(), level="full", limit_seconds=60.0)
        assert evaluation.outcome == Outcome.OK, evaluation.runs[-1].info
