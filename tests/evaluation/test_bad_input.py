"""Bad input through the real command line: the right outcome or usage error, the next step, the exit code."""

import io
import json
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from click.testing import Result
from rich.console import Console

from harness import api
from harness.report.terminal import show_check
from harness.tracks.track import Track
from tests.ground.notebooks import notebook

Harness = Callable[..., Result]
Write = Callable[[str | bytes], Path]

SIGNATURE = "def unlearn(net, retain_loader, forget_loader, val_loader):"
IDENTITY = f"{SIGNATURE} pass"

# What a file does, the outcome, what the participant must read (besides the remedy).
FAULTS = {
    "null byte": ("x = 1\0", "INVALID_SUBMISSION", "null byte"),
    "not Python": (b"\x89PNG\xff\xfe", "INVALID_SUBMISSION", "not UTF-8 text"),
    "syntax error": ("def unlearn(:", "INVALID_SUBMISSION", "line 1"),
    "too large": ("#" * 300_000, "INVALID_SUBMISSION", "the limit is 256 KB"),
    "nested": (f"x = {'-' * 100_000}1\n{IDENTITY}", "INVALID_SUBMISSION", "nested too deeply"),
    "huge integer": (f"x = 0x{'f' * 4000}\n{IDENTITY}", "INVALID_SUBMISSION", "integer of more than 4300 digits"),
    "huge string": (f"x = 'a' * 10**12\n{IDENTITY}", "MEMORY_LIMIT", "MemoryError"),
    "no function": ("def forget(net): pass", "INVALID_SUBMISSION", "defines no function unlearn"),
    "class": ("class unlearn: pass", "INVALID_SUBMISSION", "is a class"),
    "coroutine": (f"async {IDENTITY}", "INVALID_SUBMISSION", "coroutine"),
    "wrong number of arguments": ("def unlearn(net, retain_loader): pass", "INVALID_SUBMISSION", "takes 2 arguments"),
    "a lambda of two": (
        "unlearn = lambda net, retain_loader: net",
        "EXCEPTION",
        "the function takes (net, retain_loader); it is called with net, retain_loader, forget_loader, val_loader",
    ),
    "a generator": (f"{SIGNATURE} yield net", "BAD_OUTPUT", "return the net instead"),
    "bound to something else": ("unlearn = 3", "EXCEPTION", "defines no function unlearn"),
    "import error": ("import nothing_like_this\n" + IDENTITY, "IMPORT_ERROR", "foo.py, line 1"),
    "import that never ends": (f"while True: x = 1\n{SIGNATURE} x", "TIME_LIMIT", "killed after"),
    "exception": (f"{SIGNATURE}\n    print('before')\n    return 1 / 0", "EXCEPTION", "foo.py, line 3, in unlearn"),
    "exception that cannot be printed": (
        f"class E(Exception):\n    def __str__(self): raise ValueError\n{SIGNATURE}\n    raise E",
        "EXCEPTION",
        "E (its message cannot be printed)",
    ),
    "KeyboardInterrupt": (f"{SIGNATURE} raise KeyboardInterrupt", "EXCEPTION", "KeyboardInterrupt"),
    "sleeping forever": (f"import time\n{SIGNATURE} time.sleep(1e6)", "TIME_LIMIT", "the limit is 1.00 s"),
    "ignoring SIGTERM": (
        f"import signal\n{SIGNATURE}\n    signal.signal(signal.SIGTERM, signal.SIG_IGN)\n    while True: pass",
        "TIME_LIMIT",
        "killed after",
    ),
    "os._exit": (f"import os\n{SIGNATURE} os._exit(0)", "CRASHED", "exit status 0"),
    "sys.exit": (f"import sys\n{SIGNATURE} sys.exit(0)", "EXCEPTION", "SystemExit"),
    "full shared memory": (f"import os\n{SIGNATURE} os.kill(os.getpid(), 7)", "CRASHED", "load data without workers"),
    "null pointer": (f"import ctypes\n{SIGNATURE} ctypes.string_at(0)", "CRASHED", "SIGSEGV"),
    "memory": (f"{SIGNATURE} bytearray(1 << 60)", "MEMORY_LIMIT", "MemoryError"),
    "tensor memory": (f"import torch\n{SIGNATURE} torch.empty(1 << 55)", "MEMORY_LIMIT", "can't allocate memory"),
    "returning an int": (f"{SIGNATURE} return 3", "BAD_OUTPUT", "returned int, not a net"),
    "another architecture": (
        f"import torch\n{SIGNATURE} return torch.nn.Linear(2, 2)",
        "BAD_OUTPUT",
        "another architecture: no bn1.bias",
    ),
    "another shape": (
        f"import torch\n{SIGNATURE} net.fc = torch.nn.Linear(16, 3)",
        "BAD_OUTPUT",
        "fc.weight has shape",
    ),
    "a mask left on": (
        f"import torch.nn.utils.prune\n{SIGNATURE} torch.nn.utils.prune.identity(net.fc, 'weight')",
        "BAD_OUTPUT",
        'torch.nn.utils.prune.remove(net.fc, "weight")',
    ),
    "spawned workers": (
        f"from torch.utils.data import DataLoader\n{SIGNATURE}\n"
        "    list(DataLoader(retain_loader.dataset, num_workers=2, multiprocessing_context='spawn'))",
        "EXCEPTION",
        'use multiprocessing_context="fork"',
    ),
    "NaN weights": (
        f"{SIGNATURE} net.fc.weight.data[:] = float('nan')",
        "NON_FINITE",
        "160 of 5,310 weights are NaN or inf: 160 in fc.weight",
    ),
    "finite weights, infinite outputs": (
        f"{SIGNATURE} net.bn1.running_var.fill_(-1)",
        "NON_FINITE",
        "the outputs of the net are not",
    ),
    "net on meta": (f"{SIGNATURE} return net.to('meta')", "BAD_OUTPUT", "holds no data"),
}


@pytest.mark.parametrize(("source", "outcome", "message"), FAULTS.values(), ids=FAULTS)
def test_a_fault_of_the_file_gets_its_outcome_and_a_remedy(
    source: str | bytes, outcome: str, message: str, harness: Harness, submission: Write, tiny_file: Path
) -> None:
    file = submission(source)
    result = harness("evaluate", file, "--track", tiny_file, "--runs", 2, "--time-limit", 0.05, "--jobs", 1)
    assert result.exit_code == 3, result.output
    assert outcome in result.output
    assert message in result.output
    assert "remedy: " in result.output
    assert "Traceback" not in result.output
    assert "harness/" not in result.output.replace("(harness/contract.py)", "")  # no line of ours


ENTRIES = {
    "an object": f"class Method:\n    def __call__(self, {SIGNATURE.partition('(')[2]} pass\nunlearn = Method()",
    "a partial": f"""
import functools
{SIGNATURE.replace("):", ", epochs):")} pass
unlearn = functools.partial(unlearn, epochs=3)
""",
    "a decorator that adds an argument": """
import functools
def configured(function):
    return functools.wraps(function)(lambda *loaders: function(*loaders, 3))
@configured
def unlearn(net, retain_loader, forget_loader, val_loader, epochs): pass
""",
    "a coroutine that is run": f"""
import asyncio, functools
def run(function):
    return functools.wraps(function)(lambda *loaders: asyncio.run(function(*loaders)))
@run
async {IDENTITY}
""",
}


@pytest.mark.parametrize("source", ENTRIES.values(), ids=ENTRIES)
def test_whatever_can_be_called_as_the_contract_says_is_run(
    source: str, harness: Harness, submission: Write, tiny_file: Path
) -> None:
    result = harness("check", submission(source), "--track", tiny_file)
    assert result.exit_code == 0, result.output


def test_float64_weights_are_read_as_float32(harness: Harness, submission: Write, tiny_file: Path) -> None:
    file = submission(f"{SIGNATURE} return net.double()")
    assert harness("evaluate", file, "--track", tiny_file, "--runs", 2).exit_code == 0


def test_an_exception_at_run_3_of_8_is_told_and_the_rest_is_skipped(
    harness: Harness, submission: Write, tiny_file: Path, home: Path, tmp_path: Path
) -> None:
    counter = tmp_path / "counter"
    counter.mkdir()
    source = f"""
import os, pathlib
{SIGNATURE}
    counter = pathlib.Path({str(counter)!r})
    number = len(os.listdir(counter))
    (counter / str(number)).touch()
    if number == 3:
        raise RuntimeError("three")
"""
    options = ("--runs", 8, "--jobs", 1, "--isolation", "none")  # the runs count in a folder of ours
    result = harness("evaluate", submission(source), "--track", tiny_file, *options)
    assert result.exit_code == 3
    assert "EXCEPTION in run 3 of 8" in result.output
    assert "RuntimeError: three" in result.output
    assert len(list(home.glob("results/*/*/run-*.npz"))) == len(list(counter.iterdir())) == 4


def test_a_failed_submission_is_not_run_again(harness: Harness, submission: Write, tiny_file: Path, home: Path) -> None:
    file = submission(f"{SIGNATURE} 1 / 0")
    first = harness("evaluate", file, "--track", tiny_file, "--runs", 4, "--jobs", 1)
    stored = {path: path.stat().st_mtime_ns for path in home.glob("results/*/*/run-*.npz")}
    again = harness("evaluate", file, "--track", tiny_file, "--runs", 4, "--jobs", 1)
    assert first.exit_code == again.exit_code == 3
    assert {path: path.stat().st_mtime_ns for path in home.glob("results/*/*/run-*.npz")} == stored
    assert len(stored) == 1
    assert (
        f"remedy: run it in the foreground, with prints and breakpoint(): harness check --debug {file} --track tiny"
        in (first.output)
    )


def test_commands_that_are_printed_name_the_device_that_auto_would_not_take(
    harness: Harness, submission: Write, tiny_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file, fit = submission(f"{SIGNATURE} 1 / 0"), submission(IDENTITY)
    monkeypatch.setattr("harness.evaluation.commands.is_present", lambda: True)
    call = ("--track", tiny_file, "--runs", 1, "--device", "cpu")
    assert f"harness check --debug {file} --track tiny --device cpu" in harness("evaluate", file, *call).output
    assert f"harness evaluate {file} --track tiny --device cpu --again" in harness("evaluate", file, *call).output
    assert "finetune.py --track tiny --device cpu --runs 1" in harness("evaluate", fit, *call).output
    checked = harness("check", fit, "--track", tiny_file, "--device", "cpu").output
    assert f"score it: harness evaluate {fit} --track tiny --device cpu" in checked


def test_an_exception_in_lines_of_letters_that_take_many_bytes_is_one(
    harness: Harness, submission: Write, tiny_file: Path
) -> None:
    deep = f"def deeper(): deeper()  # {chr(0x1D518) * 460}"
    result = harness("evaluate", submission(f"{deep}\n{SIGNATURE} deeper()"), "--track", tiny_file, "--runs", 1)
    assert result.exit_code == 3
    assert "EXCEPTION in run 0" in result.output
    assert "RecursionError" in result.output


def test_100_mb_of_output_neither_block_nor_fill(harness: Harness, submission: Write, tiny_file: Path) -> None:
    file = submission(f"import sys\n{SIGNATURE}\n    for _ in range(100): sys.stdout.write('x' * (1 << 20))\n    1 / 0")
    result = harness("evaluate", file, "--track", tiny_file, "--runs", 1)
    assert "EXCEPTION" in result.output
    assert "more bytes were printed" in result.output
    assert len(result.output) < 150_000


def test_output_of_a_participant_cannot_steer_the_terminal(
    harness: Harness, submission: Write, tiny_file: Path
) -> None:
    file = submission(
        f"{SIGNATURE}\n    print('\\x1b[2J::set-output name=a::b')\n    raise ValueError('\\x1b]0;title\\x07')"
    )
    result = harness("evaluate", file, "--track", tiny_file, "--runs", 1)
    assert "\x1b" not in result.output
    assert "\x07" not in result.output
    assert "| \\x1b[2J::set-output" in result.output  # no line of it begins a line of ours


def test_a_file_that_is_not_run_cannot_steer_the_terminal(harness: Harness, tmp_path: Path, tiny_file: Path) -> None:
    cells = [{"cell_type": "code", "source": f"!echo \x1b[2J ##vso[task]\n{IDENTITY}"}]
    languages = {"foreign": "\x1b[31mjulia ##vso[task]", "python": "python"}
    for name, language in languages.items():
        metadata = {"language_info": {"name": language}}
        (tmp_path / f"{name}.ipynb").write_text(json.dumps({"cells": cells, "metadata": metadata}))
    for command, name, shown in (
        (("check", "--track", tiny_file), "foreign", "the notebook's language is \\x1b[31mjulia # #vso"),
        (("evaluate", "--track", tiny_file), "foreign", "the notebook's language is \\x1b[31mjulia # #vso"),
        (("new", tmp_path / "mine.py", "--from"), "foreign", "the notebook's language is \\x1b[31mjulia # #vso"),
        (("new", tmp_path / "mine.py", "--from"), "python", "cell 1, line 1: !echo \\x1b[2J # #vso"),
    ):
        result = harness(*command, tmp_path / f"{name}.ipynb")
        assert shown in result.output
        assert "\x1b" not in result.output
        assert "##" not in result.output


# ---- wrong usage --------------------------------------------------------------------------------------------------


def usage_error(result: Result) -> str:
    """Return what a usage error says, asserting that it is one."""
    assert result.exit_code == 2, result.output
    assert "Traceback" not in result.output
    return result.output


def test_a_missing_file_names_the_command_that_starts_one(harness: Harness, tiny_file: Path) -> None:
    output = usage_error(harness("evaluate", "submissions/nothing.py", "--track", tiny_file))
    assert "harness new submissions/nothing.py" in output


def test_a_folder_is_no_submission(harness: Harness, tmp_path: Path, tiny_file: Path) -> None:
    assert "is not a file" in usage_error(harness("evaluate", tmp_path, "--track", tiny_file))


def test_an_unknown_track_names_those_there_are(harness: Harness, submission: Write) -> None:
    output = usage_error(harness("evaluate", submission(IDENTITY), "--track", "digit"))
    assert "no track 'digit' (did you mean digits?); there are " in output


def test_a_mistyped_track_file_is_asked_about(harness: Harness, submission: Write, tiny_file: Path) -> None:
    output = usage_error(harness("evaluate", submission(IDENTITY), "--track", tiny_file.with_name("tny.toml")))
    assert f"(did you mean {tiny_file}?)" in output


def test_an_unprepared_track_names_the_command(harness: Harness, submission: Write, tiny_file: Path) -> None:
    other = submission("").with_name("other.toml")
    other.write_text(tiny_file.read_text().replace('"tiny"', '"other"'))
    output = usage_error(harness("evaluate", submission(IDENTITY), "--track", other))
    assert f"harness prepare {other}" in output.replace("\n", "")


def test_a_changed_declaration_asks_for_a_new_preparation(harness: Harness, submission: Write, tiny_file: Path) -> None:
    other = submission("").with_name("other.toml")
    other.write_text(tiny_file.read_text().replace("width = 4", "width = 5"))
    assert "--force" in usage_error(harness("evaluate", submission(IDENTITY), "--track", other))


def test_toml_with_unknown_keys_names_all_of_them(harness: Harness, submission: Write, tiny_file: Path) -> None:
    other = submission("").with_name("other.toml")
    other.write_text(tiny_file.read_text().replace("width = 4", "width = 4\nlayers = 3") + "\n[extra]\nx = 1\n")
    output = usage_error(harness("evaluate", submission(IDENTITY), "--track", other))
    assert "model.layers: unknown key" in output
    assert "extra: unknown key" in output


def test_more_runs_than_the_pool_name_the_way_to_more(harness: Harness, submission: Write, tiny_file: Path) -> None:
    output = usage_error(harness("evaluate", submission(IDENTITY), "--track", tiny_file, "--runs", 17))
    assert "harness prepare tiny --retrained 17" in output


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--set", "EPOCHS"], "NAME=VALUE"),
        (["--set", "EPOCHS=3"], "sets no such constant"),
        (["--runs", "0"], "0 is not in the range x>=1"),
        (["--runs", "two"], "'two' is not a valid integer range"),
        (["--rums", "2"], "--runs"),
        *((["--time-limit", value], "above 0, up to 100, such as 0.1") for value in ("-1", "0", "nan", "inf", "101")),
        (["--json", "no/such/folder/out.json"], "no folder"),
        (["--isolation", "strong"], "full"),
    ],
)
def test_a_wrong_option_says_what_it_takes(
    options: list[str], message: str, harness: Harness, submission: Write, tiny_file: Path
) -> None:
    output = usage_error(harness("evaluate", submission(IDENTITY), "--track", tiny_file, *options))
    assert message in output


# ---- the machine fails --------------------------------------------------------------------------------------------


def test_less_isolation_than_required_refuses(harness: Harness, submission: Write, tiny_file: Path) -> None:
    options = ("--isolation", "none", "--require-isolation", "syscall")
    result = harness("evaluate", submission(IDENTITY), "--track", tiny_file, *options)
    assert result.exit_code == 4
    assert "less than --require-isolation" in result.output


def test_a_corrupt_track_is_noticed_and_earlier_results_stay(
    harness: Harness, submission: Write, tiny_file: Path, tiny: Track, home: Path
) -> None:
    file = submission(IDENTITY)
    assert harness("evaluate", file, "--track", tiny_file, "--runs", 2).exit_code == 0
    stored = {path: path.read_bytes() for path in home.glob("results/**/*.npz")}
    own = home / "own"
    subprocess.run(["cp", "-r", str(tiny.folder), str(own)], check=True)
    (home / "tracks").unlink()
    (home / "tracks").mkdir()
    own.rename(home / "tracks" / "tiny")
    damaged = home / "tracks" / "tiny" / "private" / "retrained-scoring.npz"
    damaged.write_bytes(damaged.read_bytes()[:-100])
    result = harness("evaluate", file, "--track", tiny_file, "--runs", 2)
    assert result.exit_code == 4, result.output
    assert "harness prepare tiny --force" in result.output
    assert {path: path.read_bytes() for path in home.glob("results/**/*.npz")} == stored


def test_a_full_disk_says_so_and_earlier_results_stay(
    submission: Write, tiny_file: Path, prepared_tracks: Path, tmp_path: Path
) -> None:
    """A HARNESS_HOME of 400 KB in a mount namespace of its own fills up during the runs."""
    folder = tmp_path / "small"
    folder.mkdir()
    file = submission(f"import torch\n{SIGNATURE} net.fc.bias.data += torch.randn(10)")
    command = f"{sys.executable} -m harness evaluate {file} --track {tiny_file} --jobs 1 --isolation none"
    script = f"""
mount -t tmpfs -o size=400k tmpfs {folder} && ln -s {prepared_tracks} {folder}/tracks
export HARNESS_HOME={folder}
{command} --runs 16
echo "exit code $?"
{sys.executable} -c "import numpy; numpy.load('$(echo {folder}/results/*/*/run-0000.npz)')['info']" && echo intact
"""
    done = subprocess.run(
        ["unshare", "--map-root-user", "--mount", "sh", "-c", script], capture_output=True, text=True, check=False
    )
    assert "exit code 4" in done.stdout, done
    assert "Make room" in done.stderr
    assert "intact" in done.stdout


# ---- harness check ------------------------------------------------------------------------------------------------


def test_check_tells_all_problems_of_the_text_at_once(harness: Harness, submission: Write, tiny_file: Path) -> None:
    result = harness("check", submission("def unlearn(net, *, needed): pass"), "--track", tiny_file)
    assert result.exit_code == 3
    assert "takes 1 arguments" in result.output
    assert "needed" in result.output


def test_check_tells_what_cannot_be_parsed(harness: Harness, submission: Write, tiny_file: Path) -> None:
    for options in ((), ("--debug",)):
        result = harness("check", submission(f"x = 0x{'f' * 4000}\n{IDENTITY}"), "--track", tiny_file, *options)
        assert result.exit_code == 3, result
        assert "integer of more than 4300 digits" in result.output


def test_check_runs_once_and_shows_what_was_used(harness: Harness, submission: Write, tiny_file: Path) -> None:
    result = harness("check", submission(IDENTITY), "--track", tiny_file)
    assert result.exit_code == 0, result.output
    assert "of 256 KB" in result.output
    assert "harness evaluate" in result.output


def test_check_says_what_a_run_that_is_ok_may_not_have_been_meant_to_do(
    submission: Write, tiny: Track, home: Path
) -> None:
    file = submission(f"{SIGNATURE}\n    print('nothing yet')")
    evaluation = api.evaluate(file, track=tiny, runs=1, home=home)
    over = evaluation.score_file.model_copy(update={"share_of_limit": 1.2})
    console = Console(file=io.StringIO(), width=200)
    for each in (evaluation, replace(evaluation, score_file=over)):
        with console.capture() as shown:
            console.print(show_check(each))
        said = shown.get()
        assert "the weights are those of the original model" in said
        assert f"to see what it printed: harness check --debug {file} --track tiny" in said
        assert ("over the time limit" in said) == (each.share_of_limit > 1)


def test_check_runs_at_the_level_that_is_asked_for(harness: Harness, submission: Write, tiny_file: Path) -> None:
    call = ("check", submission(IDENTITY), "--track", tiny_file, "--isolation", "none")
    result = harness(*call)
    assert result.exit_code == 0, result.output
    assert "isolation        none; no security boundary" in result.output
    assert "without isolation" in usage_error(harness(*call, "--debug"))


def test_check_debug_runs_in_the_foreground_with_a_whole_traceback(
    harness: Harness, submission: Write, tiny_file: Path
) -> None:
    file = submission(f"{SIGNATURE}\n    breakpoint()\n    helper()\ndef helper():\n    1 / 0")
    command = [sys.executable, "-m", "harness", "check", str(file), "--track", str(tiny_file), "--debug"]
    done = subprocess.run(command, input="p type(net).__name__\nc\n", capture_output=True, text=True, check=False)
    assert done.returncode == 3
    assert "'SmallResNet'" in done.stdout
    assert f'File "{file}", line 5, in helper' in done.stderr
    assert "foreground.py" not in done.stderr
    assert harness("check", submission(IDENTITY), "--track", tiny_file, "--debug").exit_code == 0


def test_check_debug_of_a_notebook_shows_the_lines_that_are_run(
    harness: Harness, tmp_path: Path, tiny_file: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "entry.ipynb"
    file.write_text(notebook([("code", f"!ls\n{SIGNATURE}\n    return 1 / 0  # here")]))
    assert harness("check", file, "--track", tiny_file, "--debug").exit_code == 3
    assert "return 1 / 0  # here" in capfd.readouterr().err
    result = harness("check", file, "--track", tiny_file)
    assert "what is taken of entry.ipynb, line 2, in unlearn: return 1 / 0  # here" in result.output


@pytest.mark.parametrize(
    ("body", "said"),
    [
        ("torch.nn.utils.prune.identity(net.fc, 'weight')", "BAD_OUTPUT: fc.weight has a pruning mask left on"),
        ("torch.cuda.synchronize()", "take the device from the net"),
        pytest.param(
            "net.fc.bias.data[3] = torch.inf",
            "NON_FINITE: 1 of 5,310 weights is NaN or inf: 1 in fc.bias",
            marks=pytest.mark.long,
        ),
        pytest.param("raise SystemExit(0)", "EXCEPTION: SystemExit: 0", marks=pytest.mark.long),
    ],
)
def test_check_debug_calls_nothing_ok_that_fails_in_a_run(
    body: str, said: str, harness: Harness, submission: Write, tiny_file: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    file = submission(f"import torch.nn.utils.prune\n{SIGNATURE}\n    {body}")
    assert harness("check", file, "--track", tiny_file, "--debug").exit_code == 3
    assert said in capfd.readouterr().err


@pytest.mark.parametrize(
    ("body", "said"),
    [
        ("os._exit(0)", "CRASHED: the process ended with exit status 0 before unlearn returned"),
        pytest.param("os.abort()", "CRASHED: the process was ended by SIGABRT", marks=pytest.mark.long),
    ],
)
def test_check_debug_says_how_a_process_died(
    body: str, said: str, harness: Harness, submission: Write, tiny_file: Path
) -> None:
    result = harness("check", submission(f"import os\n{SIGNATURE} {body}"), "--track", tiny_file, "--debug")
    assert result.exit_code == 3
    assert said in result.output
    assert "remedy: the process ended without returning: look for os._exit" in result.output
