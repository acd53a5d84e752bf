"""What one run leaves in the kernel: a run of another submission tries to read a message of 1 KB, over each channel."""

import pytest

from benchmarks.channels.measure import CHANNELS, measured
from harness.runner.sandbox.cgroup import Cgroup
from harness.runner.sandbox.traces import can_be_asked, is_kept, leave, new_name
from harness.tracks.track import Track
from tests.attacks.attempts import SIGNATURE, Attacks, skip_unless_offered

# Of a message's bits: so few are the noise of guessing, so many show that the channel is there.
NOISE, SEEN = 0.005, 0.02
REFUSED = {"names asked outright": "ENOSYS", "pages asked outright": "ENOTSUP"}
COUNTERS = ("inode numbers", "count of processes")  # a few bits a run: docs/security.md says so


@pytest.mark.parametrize("channel", [name for name in CHANNELS if name not in COUNTERS])
def test_no_message_gets_to_a_later_run(tiny: Track, channel: str) -> None:
    skip_unless_offered("full")
    inside = measured(tiny, channel, "full", side_by_side=False)
    assert inside.error == REFUSED.get(channel)
    assert inside.carried < NOISE * inside.bits


@pytest.mark.parametrize(
    "channel", ["names asked outright", "names by time", "pages asked outright", "pages by faults"]
)
def test_without_isolation_it_would(tiny: Track, channel: str) -> None:
    outside = measured(tiny, channel, "none", side_by_side=False)
    if outside.error is not None or (channel.startswith("pages") and not outside.carried):
        pytest.skip("the kernel or the file system here does not tell")
    assert outside.carried > SEEN * outside.bits


@pytest.mark.parametrize("channel", COUNTERS)
def test_counters_of_the_machine_carry_a_few_bits_and_no_message(tiny: Track, channel: str) -> None:
    skip_unless_offered("full")
    found = measured(tiny, channel, "full", side_by_side=False)
    assert found.error is None
    assert CHANNELS[channel].bits <= 8
    assert 8192 / CHANNELS[channel].bits * found.seconds / CHANNELS[channel].messages > 30, "a run could send 1 KB"


# ---- what is forgotten is read back ---------------------------------------------------------------------------------


def test_a_name_that_was_looked_up_is_known_until_it_is_forgotten() -> None:
    if not can_be_asked():
        pytest.skip("this kernel does not say which names it keeps")
    name = new_name()
    assert not is_kept(name)
    leave(name)
    assert is_kept(name)


def test_a_run_whose_traces_stay_is_the_harness_s_failure(attacks: Attacks, monkeypatch: pytest.MonkeyPatch) -> None:
    skip_unless_offered("full")
    if not can_be_asked():
        pytest.skip("this kernel does not say which names it keeps")
    monkeypatch.setattr(Cgroup, "forget", lambda self: None)
    evaluation = attacks.evaluate(f"{SIGNATURE} pass", level="full")
    assert evaluation.outcome == "HARNESS_ERROR"
    assert evaluation.failed is not None
    assert "the kernel does not forget which files a run looked up" in evaluation.failed.info.message


LEAVE_MANY = f"""
import os
{SIGNATURE}
    for number in range(300_000):
        os.path.exists(f"/usr/lib/name-{{number}}")
"""


def test_names_by_the_hundred_thousand_are_forgotten_too(attacks: Attacks) -> None:
    skip_unless_offered("full")
    if not can_be_asked():
        pytest.skip("this kernel does not say which names it keeps")
    assert attacks.evaluate(LEAVE_MANY, level="full").outcome == "OK"
    assert sum(is_kept(f"/usr/lib/name-{number}") for number in range(0, 300_000, 100)) == 0
