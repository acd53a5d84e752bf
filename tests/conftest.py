"""A tiny track for the whole suite: real digits, 2 originals, 2 pools of 16, prepared in seconds, limit of its own."""

import fcntl
import os
import signal
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch
from click.testing import CliRunner, Result

from data_prep.prepare import prepare
from harness.cli.main import cli
from harness.runner.isolation import offered
from harness.tracks.declaration import read_declaration
from harness.tracks.track import Track

Once = Callable[[str, Callable[[Path], None]], Path]

TINY = """
name = "tiny"
title = "a track for tests"

[data]
source = "sklearn:digits"
scale = 16

[split]
train = 120
val = 80

[forget]
kind = "random"
count = 20

[model]
name = "small_resnet"
width = 4

[training]
epochs = 8
batch_size = 30
learning_rate = 0.1

[reference]
originals = 2
retrained = 16
published_secret = "00112233"

[limits]
seconds = 2.0

[evaluation]
runs = 4
"""


# A suite that was started in the background ignores Ctrl-C, and so would every process it starts.
signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_report_header() -> str:
    """Say at which level the tests run submissions: those of stronger levels are skipped."""
    return f"isolation: {offered().strongest}"


@pytest.fixture(scope="session")
def tiny_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The declaration of the tiny track."""
    file = tmp_path_factory.mktemp("tiny") / "tiny.toml"
    file.write_text(TINY)
    return file


@pytest.fixture(scope="session")
def once(tmp_path_factory: pytest.TempPathFactory, worker_id: str) -> Once:
    """once(name, fill) returns a folder that one of the suite's processes fills for all of them; not to be changed."""
    own = tmp_path_factory.getbasetemp()
    base = own if worker_id == "master" else own.parent

    def call(name: str, fill: Callable[[Path], None]) -> Path:
        folder, done = base / name, base / f"{name}.done"
        with (base / f"{name}.lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            if not done.exists():
                folder.mkdir()
                fill(folder)
                done.touch()
        return folder

    return call


@pytest.fixture(scope="session")
def prepared_tracks(tiny_file: Path, once: Once) -> Path:
    """A folder of prepared tracks with the tiny one; not to be changed."""

    def fill(folder: Path) -> None:
        prepare(read_declaration(tiny_file), tiny_file, folder / "tracks", jobs=2)

    return once("prepared", fill) / "tracks"


@pytest.fixture(scope="session")
def tiny(prepared_tracks: Path) -> Track:
    """The prepared tiny track."""
    from harness.tracks.track import load_track

    return load_track(prepared_tracks / "tiny")


@pytest.fixture
def home(prepared_tracks: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty HARNESS_HOME whose tracks are the prepared ones (one folder for all, so that one zygote serves all)."""
    folder = tmp_path / "home"
    folder.mkdir()
    (folder / "tracks").symlink_to(prepared_tracks)
    monkeypatch.setenv("HARNESS_HOME", str(folder))
    return folder


@pytest.fixture
def harness(home: Path) -> Callable[..., Result]:
    """The command line: harness("check", file)."""

    def call(*arguments: object) -> Result:
        return CliRunner().invoke(cli, [str(argument) for argument in arguments], prog_name="harness")

    return call


EVALUATED = {
    "ada/finetune.py": """
import torch

def unlearn(net, retain_loader, forget_loader, val_loader):
    optimizer = torch.optim.SGD(net.parameters(), lr=0.05, momentum=0.9)
    net.train()
    for images, labels in retain_loader:
        optimizer.zero_grad()
        torch.nn.functional.cross_entropy(net(images), labels).backward()
        optimizer.step()
""",
    "bob/nothing.py": (Path(__file__).parents[1] / "baselines" / "identity.py").read_text(),
    "bob/noise.py": """
import torch

def unlearn(net, retain_loader, forget_loader, val_loader):
    with torch.no_grad():
        for parameter in net.parameters():
            parameter += 0.02 * torch.randn_like(parameter)
""",
    "cy/broken.py": "def unlearn(net, retain_loader, forget_loader, val_loader): 1 / 0",
}


@pytest.fixture(scope="session")
def evaluated_home(prepared_tracks: Path, tiny_file: Path, once: Once) -> Path:
    """A HARNESS_HOME with 16 runs of four submissions, beside it what --json wrote of each; not to be changed."""

    def fill(folder: Path) -> None:
        (folder / "tracks").symlink_to(prepared_tracks)
        for name, source in EVALUATED.items():
            file = folder / "submissions" / name
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(source)
            out = ["--json", str(folder / f"{file.stem}.json")]
            call = ["evaluate", str(file), "--track", str(tiny_file), "--runs", "16", *out]
            result = CliRunner(env={"HARNESS_HOME": str(folder)}).invoke(cli, call)
            assert result.exit_code == (3 if file.stem == "broken" else 0), result.output

    return once("evaluated", fill)


@pytest.fixture
def submission(tmp_path: Path) -> Callable[[str], Path]:
    """Writes a participant's file into a folder of its own."""
    folder = tmp_path / "submissions"
    folder.mkdir()
    made: Iterator[int] = iter(range(1000))

    def write(source: str | bytes) -> Path:
        file = folder / f"foo{next(made) or ''}.py"
        file.write_bytes(source if isinstance(source, bytes) else source.encode())
        return file

    return write


@pytest.fixture(autouse=True)
def one_thread() -> None:
    """One thread for PyTorch: the small networks of tests are slower on several, sixty times beside other tests."""
    torch.set_num_threads(1)


torch.set_num_threads(1)  # in fixtures of a session
os.environ["OMP_NUM_THREADS"] = "1"  # in processes that tests start
os.environ.pop("HARNESS_HOME", None)
