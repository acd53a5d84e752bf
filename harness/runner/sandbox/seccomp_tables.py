"""System calls by name and number, and which of them a run is refused: facts, no logic.

Numbers are those of the kernel's headers: asm/unistd_64.h (x86-64) and asm-generic/unistd.h (aarch64; None: it has no
such call). What is not listed is allowed, since lists of what is allowed break CUDA: `memfd_create`, AF_UNIX sockets
and `mbind` must stay.
"""

from dataclasses import dataclass

__all__ = ["ARCHITECTURES", "DENIED", "LOOKED_AT", "Architecture"]


@dataclass(frozen=True)
class Architecture:
    """What a filter must know of a processor architecture."""

    audit: int  # AUDIT_ARCH_*, as the kernel reports a call's architecture
    column: int  # in the tables below
    has_x32: bool  # a second set of numbers from 0x40000000 on


# By the name `platform.machine()` gives.
ARCHITECTURES = {
    "x86_64": Architecture(audit=0xC000003E, column=0, has_x32=True),
    "aarch64": Architecture(audit=0xC00000B7, column=1, has_x32=False),
}

Numbers = tuple[int | None, int | None]  # x86-64, aarch64

DENIED: dict[str, Numbers] = {
    # looking into and steering other processes
    "ptrace": (101, 117),
    "process_vm_readv": (310, 270),
    "process_vm_writev": (311, 271),
    "kcmp": (312, 272),
    "cachestat": (451, 451),  # which parts of a file earlier runs have read
    "pidfd_getfd": (438, 438),
    # large parts of the kernel that nothing here needs
    "bpf": (321, 280),
    "perf_event_open": (298, 241),
    "userfaultfd": (323, 282),
    # keyrings, which outlive a run
    "keyctl": (250, 219),
    "add_key": (248, 217),
    "request_key": (249, 218),
    # calls made past this filter, by the kernel's own threads
    "io_uring_setup": (425, 425),
    "io_uring_enter": (426, 426),
    "io_uring_register": (427, 427),
    # mounts and roots
    "mount": (165, 40),
    "umount2": (166, 39),
    "pivot_root": (155, 41),
    "chroot": (161, 51),
    "open_tree": (428, 428),
    "open_tree_attr": (467, 467),
    "move_mount": (429, 429),
    "fsopen": (430, 430),
    "fsconfig": (431, 431),
    "fsmount": (432, 432),
    "fspick": (433, 433),
    "mount_setattr": (442, 442),
    # namespaces (by clone: see `seccomp`)
    "unshare": (272, 97),
    "setns": (308, 268),
    # files without their paths
    "name_to_handle_at": (303, 264),
    "open_by_handle_at": (304, 265),
    "fanotify_init": (300, 262),
    "fanotify_mark": (301, 263),
    # being told which files others use, of runs side by side and of the machine
    "inotify_init": (253, None),
    "inotify_init1": (294, 26),
    "inotify_add_watch": (254, 27),
    # reads that answer only from memory, past the look at `preadv2`
    "io_setup": (206, 0),
    "io_submit": (209, 2),
    # the machine itself
    "init_module": (175, 105),
    "finit_module": (313, 273),
    "delete_module": (176, 106),
    "kexec_load": (246, 104),
    "kexec_file_load": (320, 294),
    "reboot": (169, 142),
    "swapon": (167, 224),
    "swapoff": (168, 225),
    "acct": (163, 89),
    "quotactl": (179, 60),
    "quotactl_fd": (443, 443),
    "settimeofday": (164, 170),
    "clock_settime": (227, 112),
    "clock_adjtime": (305, 266),
    "adjtimex": (159, 171),
    "sethostname": (170, 161),
    "setdomainname": (171, 162),
    "iopl": (172, None),
    "ioperm": (173, None),
    "syslog": (103, 116),
    "vhangup": (153, 58),
    # old or odd
    "personality": (135, 92),
    "uselib": (134, None),
    "ustat": (136, None),
    "modify_ldt": (154, None),
    "_sysctl": (156, None),
    "nfsservctl": (180, 42),
    "lookup_dcookie": (212, 18),
    "memfd_secret": (447, 447),
    "migrate_pages": (256, 238),
    "move_pages": (279, 239),
    # System V and POSIX queues, which outlive a run where there is no namespace for them
    "shmget": (29, 194),
    "shmat": (30, 196),
    "shmctl": (31, 195),
    "shmdt": (67, 197),
    "semget": (64, 190),
    "semop": (65, 193),
    "semctl": (66, 191),
    "semtimedop": (220, 192),
    "msgget": (68, 186),
    "msgsnd": (69, 189),
    "msgrcv": (70, 188),
    "msgctl": (71, 187),
    "mq_open": (240, 180),
    "mq_unlink": (241, 181),
}

# Allowed or refused by their arguments, in `seccomp`.
LOOKED_AT: dict[str, Numbers] = {
    "clone": (56, 220),
    "clone3": (435, 435),
    "openat2": (437, 437),
    "socket": (41, 198),
    "socketpair": (53, 199),
    "ioctl": (16, 29),
    "fcntl": (72, 25),
    "prlimit64": (302, 261),
    "preadv2": (327, 286),
    "fadvise64": (221, 223),
}
