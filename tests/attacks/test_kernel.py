"""Parts of the kernel no submission needs, and ways to more rights than a run has."""

import ctypes
import fcntl
import mmap
import os
import platform
import resource
import signal
from collections.abc import Callable
from pathlib import Path

import pytest

from harness.runner.outcome import Outcome
from harness.runner.sandbox import landlock
from tests.attacks.attempts import AS_ROOT, THROUGH, Attacks, Attempt, Found, at_each_level, each_level, submission_of
from tests.attacks.inside import c_call, ends, in_child, system_call

Make = Callable[..., Found]

pytestmark = pytest.mark.skipif(platform.machine() != "x86_64", reason="calls are made by their numbers on x86-64")

NEW_USER, NEW_NET = 0x10000000, 0x40000000


# ---- calls by number ----------------------------------------------------------------------------------------------


def set_up_io_uring() -> None:
    os.close(system_call(425, 1, ctypes.create_string_buffer(120)))


def load_a_kernel_program() -> None:
    array_of_one_integer = (ctypes.c_uint32 * 16)(2, 4, 4, 1)
    os.close(system_call(321, 0, array_of_one_integer, 64))


def handle_page_faults() -> None:
    os.close(system_call(323, os.O_CLOEXEC))


def count_events_of_the_processor() -> None:
    software_clock = (ctypes.c_uint32 * 32)(1, 128)
    os.close(system_call(298, software_clock, 0, -1, -1, 0))


def join_a_keyring() -> int:
    session_keyring = -3
    return system_call(250, 0, session_keyring, 1)


def keep_a_key() -> int:
    process_keyring = -2
    return system_call(248, b"user", b"attempt", b"content", 7, process_keyring)


def share_memory_by_system_v() -> None:
    segment = system_call(29, 0, 4096, 0o1600)
    system_call(31, segment, 0, None)  # IPC_RMID


def open_a_message_queue() -> None:
    name = b"attempt"
    os.close(system_call(240, name, os.O_CREAT | os.O_RDWR, 0o600, None))
    system_call(241, name)


def name_a_file_by_a_handle() -> None:
    handle = (ctypes.c_uint32 * 40)(128)
    system_call(303, -100, b"/usr", handle, ctypes.byref(ctypes.c_int()), 0)


def watch_all_files() -> None:
    os.close(system_call(300, 0, 0))


def watch_a_folder() -> None:
    watcher = system_call(294, 0)
    system_call(254, watcher, b"/usr/bin", 1)  # IN_ACCESS
    os.close(watcher)


def be_told_of_a_folder_by_a_signal() -> None:
    folder = os.open("/usr/bin", os.O_RDONLY)
    fcntl.fcntl(folder, 1026, 1)  # F_NOTIFY, DN_ACCESS
    os.close(folder)


def read_by_the_kernel_s_own_queue() -> None:
    context = ctypes.c_ulong(0)
    system_call(206, 1, ctypes.byref(context))
    system_call(207, ctypes.c_ulong(context.value))


def ask_for_what_is_in_memory() -> None:
    how = (ctypes.c_uint64 * 3)(os.O_PATH, 0, 0x20)  # RESOLVE_CACHED
    os.close(system_call(437, -100, b"/usr", how, 24))


def hide_memory_from_the_kernel() -> None:
    os.close(system_call(447, 0))  # memfd_secret


def enter_namespaces_of_the_first_process() -> None:
    with open("/proc/1/ns/net") as namespace:
        system_call(308, namespace.fileno(), NEW_NET)


def read_the_log_of_the_kernel() -> int:
    return system_call(103, 10, None, 0)  # SYSLOG_ACTION_SIZE_BUFFER


def compare_processes() -> int:
    return system_call(312, os.getpid(), os.getpid(), 1, 0, 0)


def change_its_personality() -> int:
    return system_call(135, 0x0040000)  # ADDR_NO_RANDOMIZE


def make_namespaces() -> None:
    in_child(lambda: c_call("unshare", NEW_USER))


def fork_into_a_user_namespace() -> None:
    child = system_call(56, NEW_USER | signal.SIGCHLD, None, None, None, None)
    if child == 0:
        os._exit(0)
    os.waitpid(child, 0)


def fork_with_hidden_flags() -> None:
    flags = (ctypes.c_uint64 * 11)(NEW_USER, 0, 0, 0, signal.SIGCHLD)
    child = system_call(435, flags, ctypes.sizeof(flags))
    if child == 0:
        os._exit(0)
    os.waitpid(child, 0)


def mount_a_file_system() -> None:
    os.mkdir("mounted")
    in_child(lambda: c_call("mount", b"tmpfs", b"mounted", b"tmpfs", 0, None) or c_call("umount2", b"mounted", 2))


def unmount_its_folder() -> None:
    c_call("umount2", b"/tmp", 2)


def mount_its_root_anew() -> None:
    remount = 32
    c_call("mount", None, b"/", None, remount, None)


def make_a_detached_mount() -> None:
    os.close(system_call(428, -100, b"/usr", 1))  # open_tree with OPEN_TREE_CLONE


def change_the_root() -> None:
    in_child(lambda: os.chroot("/tmp"))


EPERM = {"full": "EPERM", "syscall": "EPERM"}


@at_each_level(
    {
        set_up_io_uring: {**EPERM, "none": THROUGH},
        watch_a_folder: {**EPERM, "none": THROUGH},
        be_told_of_a_folder_by_a_signal: {**EPERM, "none": THROUGH},
        read_by_the_kernel_s_own_queue: {**EPERM, "none": THROUGH},
        ask_for_what_is_in_memory: {"full": "ENOSYS", "syscall": "ENOSYS", "none": THROUGH},
        hide_memory_from_the_kernel: {**EPERM, "none": THROUGH},
        enter_namespaces_of_the_first_process: {"full": "EPERM|EACCES", "syscall": "EPERM|EACCES", "none": AS_ROOT},
        load_a_kernel_program: {**EPERM, "none": AS_ROOT},
        handle_page_faults: {**EPERM, "none": AS_ROOT},
        count_events_of_the_processor: {**EPERM, "none": AS_ROOT},
        join_a_keyring: {**EPERM, "none": THROUGH},
        keep_a_key: {**EPERM, "none": THROUGH},
        share_memory_by_system_v: {**EPERM, "none": THROUGH},
        open_a_message_queue: {**EPERM, "none": THROUGH},
        name_a_file_by_a_handle: {**EPERM, "none": THROUGH},
        watch_all_files: {**EPERM, "none": AS_ROOT},
        read_the_log_of_the_kernel: {**EPERM, "none": AS_ROOT},
        compare_processes: {**EPERM, "none": THROUGH},
        change_its_personality: {**EPERM, "none": THROUGH},
        make_namespaces: {**EPERM, "none": THROUGH},
        fork_into_a_user_namespace: {**EPERM, "none": THROUGH},
        fork_with_hidden_flags: {"full": "ENOSYS", "syscall": "ENOSYS", "none": THROUGH},
        mount_a_file_system: {**EPERM, "none": AS_ROOT},
        unmount_its_folder: EPERM,  # the control is in the one above
        mount_its_root_anew: EPERM,
        make_a_detached_mount: {**EPERM, "none": AS_ROOT},
        change_the_root: {**EPERM, "none": AS_ROOT},
    }
)
def test_what_no_submission_needs_is_refused(
    make: Make, attempt: Attempt, level: str, end: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if level == "none":
        monkeypatch.chdir(tmp_path)
        try:
            in_child(attempt)
        except OSError as error:
            pytest.skip(f"not on this kernel anyway: {error}")
    assert make(attempt, level=level).end in end.split("|")


# ---- other sets of calls ------------------------------------------------------------------------------------------


def call_by_the_numbers_of_32_bits() -> int:
    code = bytes.fromhex("b814000000cd80c3")  # mov eax, 20 (getpid); int 0x80; ret
    memory = mmap.mmap(-1, 4096, prot=mmap.PROT_READ | mmap.PROT_WRITE | mmap.PROT_EXEC)
    memory.write(code)
    function = ctypes.CFUNCTYPE(ctypes.c_int)(ctypes.addressof(ctypes.c_char.from_buffer(memory)))
    return int(function())


def call_by_the_numbers_of_x32() -> str:
    try:
        system_call(0x40000000 | 39)
    except OSError:
        return "no such call on this kernel, which is not our doing"
    return "called"


@each_level
@pytest.mark.parametrize("attempt", [call_by_the_numbers_of_32_bits, call_by_the_numbers_of_x32])
def test_calls_by_another_set_of_numbers_end_the_run(attacks: Attacks, attempt: Attempt, level: str) -> None:
    evaluation = attacks.evaluate(submission_of(attempt, {}), level=level)
    if level == "none":
        assert evaluation.outcome == Outcome.OK
    else:
        assert evaluation.outcome == Outcome.CRASHED
        assert "SIGSYS" in evaluation.runs[0].info.message


# ---- rights -------------------------------------------------------------------------------------------------------


def read_its_status() -> dict[str, str]:
    return {name: value.strip() for name, _, value in (line.partition(":") for line in open("/proc/self/status"))}


@pytest.mark.parametrize("level", ["full", "userns"])
def test_a_run_has_no_capability_and_cannot_gain_any(make: Make, level: str) -> None:
    status = make(read_its_status, level=level).value
    capabilities = {name: value for name, value in status.items() if name.startswith("Cap")}
    assert set(capabilities) == {"CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb"}
    assert set(capabilities.values()) == {"0" * 16}
    assert (status["NoNewPrivs"], status["Seccomp"]) == ("1", "2")
    if os.geteuid() == 0:
        assert {*status["Uid"].split(), *status["Gid"].split()}.isdisjoint({"0"})
        assert status["Groups"] == ""


def become_root() -> None:
    os.setuid(0)


def become_somebody_else() -> None:
    os.setresuid(12345, 12345, 12345)


def lower_the_chance_to_be_killed_for_memory() -> None:
    with open("/proc/self/oom_score_adj", "w") as file:
        file.write("-500")


def set_limit(limit: int, value: int) -> None:
    c_call("setrlimit", limit, (ctypes.c_ulong * 2)(value, value))


def raise_the_limit_on_processes() -> None:
    set_limit(resource.RLIMIT_NPROC, 1000)


def raise_the_limit_on_core_files() -> None:
    set_limit(resource.RLIMIT_CORE, 1 << 20)


def raise_the_limit_on_the_size_of_files() -> None:
    set_limit(resource.RLIMIT_FSIZE, 1 << 40)


def raise_the_limit_on_processor_time() -> None:
    set_limit(resource.RLIMIT_CPU, 100_000)


def run_before_others() -> None:
    os.setpriority(os.PRIO_PROCESS, 0, -10)


def run_in_real_time() -> None:
    os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(1))


def run_by_deadlines() -> None:
    attributes = (ctypes.c_uint64 * 6)(48 | 6 << 32, 0, 0, 10_000_000, 20_000_000, 20_000_000)  # SCHED_DEADLINE
    system_call(314, 0, attributes, 0)


def be_first_at_the_disk() -> None:
    system_call(251, 1, 0, 1 << 13)  # IOPRIO_CLASS_RT


def give_a_file_capabilities() -> None:
    with open("program", "w"):
        pass
    os.setxattr("program", "security.capability", bytes.fromhex("010000020004000000000000000000000000000000"[:40]))


def give_a_file_to_root() -> None:
    with open("given", "w"):
        pass
    os.chown("given", 1, 1)


@at_each_level(
    {
        become_root: {"full": "EPERM|EINVAL", "syscall": "EPERM", "none": AS_ROOT},
        become_somebody_else: {"full": "EPERM|EINVAL", "syscall": "EPERM", "none": AS_ROOT},
        lower_the_chance_to_be_killed_for_memory: {"full": "EACCES", "syscall": "EACCES"},
        raise_the_limit_on_processes: {"full": "EPERM", "none": THROUGH},
        raise_the_limit_on_core_files: {**EPERM, "none": THROUGH},
        raise_the_limit_on_the_size_of_files: {**EPERM, "none": THROUGH},
        raise_the_limit_on_processor_time: {**EPERM, "none": THROUGH},
        run_before_others: {"full": "EACCES|EPERM", "syscall": "EACCES|EPERM", "none": AS_ROOT},
        run_in_real_time: {"full": "EPERM", "syscall": "EPERM", "none": AS_ROOT},
        run_by_deadlines: {"full": "EPERM|EBUSY", "syscall": "EPERM|EBUSY"},
        be_first_at_the_disk: {**EPERM, "none": AS_ROOT},
        give_a_file_capabilities: {"full": "EPERM|EOPNOTSUPP", "syscall": "EPERM"},
        give_a_file_to_root: {"full": "EPERM|EINVAL", "syscall": "EPERM", "none": AS_ROOT},
    }
)
def test_rights_and_limits_cannot_be_raised(make: Make, attempt: Attempt, level: str, end: str) -> None:
    assert make(attempt, level=level).end in end.split("|")


def type_into_the_terminal() -> None:
    fcntl.ioctl(0, 0x5412, b"x")  # TIOCSTI


@at_each_level({type_into_the_terminal: {"full": "EPERM", "syscall": "EPERM", "none": "ENOTTY"}})
def test_nothing_can_be_typed_into_a_terminal(make: Make, attempt: Attempt, level: str, end: str) -> None:
    assert make(attempt, level=level).end in end.split("|")


def run_programs(paths: list[str]) -> dict[str, str]:
    for path in paths:
        with open("/usr/bin/true", "rb") as original, open(path, "wb") as copy:
            copy.write(original.read())
        os.chmod(path, 0o755)
    return ends(run_program, paths)


def run_program(path: str) -> None:
    in_child(lambda: os.execv(path, [path]))


@each_level
def test_no_program_can_be_run_from_where_files_can_be_written(make: Make, level: str) -> None:
    found = make(run_programs, level=level, paths=["program", "/dev/shm/program"]).value
    if level == "none":
        os.unlink("/dev/shm/program")
        assert found["program"] == THROUGH
    else:
        assert set(found.values()) == {"EACCES"}


def test_no_program_can_be_run_from_the_cache_of_compilers(make: Make) -> None:
    if landlock.abi() == 0:
        pytest.skip("it takes Landlock")
    assert make(run_programs, level="full", paths=["/cache/program"]).value == {"/cache/program": "EACCES"}
