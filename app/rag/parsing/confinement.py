"""What the child gives up before it opens a file: memory, processor time, writing, the network, other processes, other files.

Every layer is there where the system has it (Landlock and seccomp on Linux), none needs a privilege, and root is confined like
anybody. `limit_resources` comes before the parsers are imported, `enclose` after: from then on there is no way back.
"""

import contextlib
import ctypes
import os
import platform
import re
import resource
import struct
import sys
from collections.abc import Iterable, Sequence
from typing import Final

_NO_NEW_PRIVILEGES: Final = 38
_PARENT_DEATH_SIGNAL: Final = 1
_SET_SECCOMP: Final = 22
_FILTER: Final = 2
_KILL: Final = 9
_OPEN_FILES: Final = 64

_AUDITED: Final = (
    "socket.",
    "subprocess.",
    "os.system",
    "os.exec",
    "os.posix_spawn",
    "os.fork",
    "os.kill",
    "pty.",
    "urllib.",
    "http.",
    "ftplib.",
    "smtplib.",
)


_NICENESS: Final = 10


def come_last() -> None:
    """Take the processor only where nobody who answers requests wants it."""
    with contextlib.suppress(OSError):
        os.nice(_NICENESS)


def limit_resources(*, memory_bytes: int, cpu_seconds: int, most_cpu_seconds: int) -> None:
    """Address space and processor time; no core dump; few open files. The end of the parent is the end of the child."""
    _lower(resource.RLIMIT_CPU, cpu_seconds, most_cpu_seconds)
    _lower(resource.RLIMIT_CORE, 0, 0)
    _lower(resource.RLIMIT_NOFILE, _OPEN_FILES, _OPEN_FILES)
    with contextlib.suppress(ValueError, OSError):  # macOS knows it but does not let it be set
        _lower(resource.RLIMIT_AS, memory_bytes, memory_bytes)
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PARENT_DEATH_SIGNAL, _KILL, 0, 0, 0)


def enclose(readable: Iterable[str], *, program: str | None = None) -> list[str]:
    """No more writing, network, other processes, or files but those under `readable`; the names of the layers that hold.

    With a `program` (OCR) that one may be started, and what it starts lives under the same rules.
    """
    held = []
    with contextlib.suppress(OSError):
        _status.append(os.open(_STATUS, os.O_RDONLY | os.O_CLOEXEC))
    _lower(resource.RLIMIT_FSIZE, 0, 0)
    if sys.platform == "linux":
        libc = ctypes.CDLL(None, use_errno=True)
        if libc.prctl(_NO_NEW_PRIVILEGES, 1, 0, 0, 0) == 0:
            if _landlock(libc, readable, program=program):
                held.append("landlock")
            if _seccomp(libc, processes=program is not None):
                held.append("seccomp")
    if program is None and "seccomp" not in held:
        _lower(resource.RLIMIT_NPROC, 0, 0)  # does not hold root
    _audit(processes=program is not None)
    return [*held, "audit"]


_STATUS: Final = "/proc/self/status"
_status: list[int] = []
"""The open file of the system's account of this process: after `enclose` it can't be opened any more."""


def peak_memory_bytes() -> int:
    """The most resident memory that this process has had, without what its parent had when it started it."""
    for opened in _status:
        found = re.search(rb"VmHWM:\s+(\d+) kB", os.pread(opened, 10_000, 0))
        if found is not None:
            return int(found[1]) * 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


def use_all_cpu_seconds() -> None:
    """From here on the child may use the time that it has for OCR."""
    most = resource.getrlimit(resource.RLIMIT_CPU)[1]
    resource.setrlimit(resource.RLIMIT_CPU, (most, most))


def _lower(limit: int, soft: int, hard: int) -> None:
    """Set a limit, or the stricter one that holds already."""
    present = resource.getrlimit(limit)[1]
    if present != resource.RLIM_INFINITY:
        hard = min(hard, present)
    resource.setrlimit(limit, (min(soft, hard), hard))


def _audit(*, processes: bool) -> None:
    """Python's own functions refuse; the only layer on systems without the others."""
    refused = tuple(
        name
        for name in _AUDITED
        if not (processes and name in ("subprocess.", "os.fork", "os.posix_spawn", "os.exec"))
    )

    def refuse(event: str, _: tuple[object, ...]) -> None:
        if event.startswith(refused):
            raise PermissionError(f"a parser may not use {event}")

    sys.addaudithook(refuse)


# Landlock (Linux 5.13 and later): which files can be opened at all, and, since 6.7, no TCP.

_CREATE_RULESET, _ADD_RULE, _RESTRICT_SELF = 444, 445, 446
_EXECUTE, _WRITE_FILE, _READ_FILE, _READ_DIR = 1, 2, 4, 8
_RIGHTS_BY_VERSION: Final = ((1, 13), (2, 14), (3, 15), (5, 16))
_NET_SINCE, _SCOPES_SINCE = 4, 6


def _landlock(libc: ctypes.CDLL, readable: Iterable[str], *, program: str | None) -> bool:
    version = libc.syscall(_CREATE_RULESET, None, 0, 1)
    if version < 1:
        return False
    bits = max(count for since, count in _RIGHTS_BY_VERSION if version >= since)
    attributes = struct.pack(
        "=QQQ", (1 << bits) - 1, 3 if version >= _NET_SINCE else 0, 3 if version >= _SCOPES_SINCE else 0
    )
    size = 24 if version >= _SCOPES_SINCE else 16 if version >= _NET_SINCE else 8
    ruleset = libc.syscall(_CREATE_RULESET, attributes, size, 0)
    if ruleset < 0:
        return False
    try:
        for path in readable:
            _allow(libc, ruleset, path, _READ_FILE | _READ_DIR)
        if program is not None:
            for path in (program, "/usr", "/lib", "/lib64", "/etc/ld.so.cache", "/opt"):
                _allow(libc, ruleset, path, _READ_FILE | _READ_DIR | _EXECUTE)
            _allow(libc, ruleset, "/dev/null", _READ_FILE | _WRITE_FILE)
        return bool(libc.syscall(_RESTRICT_SELF, ruleset, 0) == 0)
    finally:
        os.close(ruleset)


def _allow(libc: ctypes.CDLL, ruleset: int, path: str, rights: int) -> None:
    try:
        opened = os.open(path, os.O_PATH | os.O_CLOEXEC)
    except OSError:
        return
    try:
        if not os.path.isdir(path):  # noqa: PTH112 (pathlib is not needed for anything else here)
            rights &= ~_READ_DIR
        libc.syscall(_ADD_RULE, ruleset, 1, struct.pack("=Qi", rights, opened), 0)
    finally:
        os.close(opened)


# seccomp: which calls the kernel refuses. Numbers by architecture; every other architecture does without this layer.

_ALWAYS_REFUSED: Final = {
    "x86_64": {
        "socket": 41, "socketpair": 53, "connect": 42, "bind": 49, "listen": 50, "accept": 43, "accept4": 288,
        "sendto": 44, "sendmsg": 46, "sendmmsg": 307, "ptrace": 101, "process_vm_readv": 310, "process_vm_writev": 311,
        "kill": 62, "mount": 165, "umount2": 166, "pivot_root": 155, "chroot": 161, "unshare": 272, "setns": 308,
        "bpf": 321, "perf_event_open": 298, "io_uring_setup": 425, "io_uring_enter": 426, "io_uring_register": 427,
        "keyctl": 250, "add_key": 248, "request_key": 249, "userfaultfd": 323, "pidfd_open": 434, "pidfd_getfd": 438,
        "open_by_handle_at": 304, "memfd_create": 319, "init_module": 175, "finit_module": 313, "kexec_load": 246,
        "personality": 135, "shmget": 29, "msgget": 68, "semget": 64, "mq_open": 240, "execveat": 322,
    },
    "aarch64": {
        "socket": 198, "socketpair": 199, "connect": 203, "bind": 200, "listen": 201, "accept": 202, "accept4": 242,
        "sendto": 206, "sendmsg": 211, "sendmmsg": 269, "ptrace": 117, "process_vm_readv": 270, "process_vm_writev": 271,
        "kill": 129, "mount": 40, "umount2": 39, "pivot_root": 41, "chroot": 51, "unshare": 97, "setns": 268,
        "bpf": 280, "perf_event_open": 241, "io_uring_setup": 425, "io_uring_enter": 426, "io_uring_register": 427,
        "keyctl": 219, "add_key": 217, "request_key": 218, "userfaultfd": 282, "pidfd_open": 434, "pidfd_getfd": 438,
        "open_by_handle_at": 265, "memfd_create": 279, "init_module": 105, "finit_module": 273, "kexec_load": 104,
        "personality": 92, "shmget": 194, "msgget": 186, "semget": 190, "mq_open": 180, "execveat": 281,
    },
}  # fmt: skip
_PROCESSES: Final = {
    "x86_64": {"fork": 57, "vfork": 58, "execve": 59},
    "aarch64": {"execve": 221},
}
_CLONE: Final = {"x86_64": 56, "aarch64": 220}
_CLONE3: Final = 435
_CLONE_THREAD: Final = 0x10000
_AUDIT_ARCHITECTURE: Final = {"x86_64": 0xC000003E, "aarch64": 0xC00000B7}
_ALLOW, _KILL_PROCESS, _EPERM, _ENOSYS = 0x7FFF0000, 0x80000000, 0x00050001, 0x00050026
_LOAD, _JUMP_EQUAL, _JUMP_AT_LEAST, _JUMP_SET, _RETURN = 0x20, 0x15, 0x35, 0x45, 0x06
_NUMBER, _ARCHITECTURE, _FIRST_ARGUMENT = 0, 4, 16
_FOREIGN_NUMBERS: Final = 0x40000000

Instruction = tuple[int, int, int, int]


def _seccomp(libc: ctypes.CDLL, *, processes: bool) -> bool:
    machine = platform.machine()
    if machine not in _AUDIT_ARCHITECTURE or sys.byteorder != "little":
        return False
    program = b"".join(struct.pack("=HBBI", *step) for step in _filter(machine, processes=processes))
    steps = ctypes.create_string_buffer(program, len(program))
    description = struct.pack("@HP", len(program) // 8, ctypes.addressof(steps))
    return bool(libc.prctl(_SET_SECCOMP, _FILTER, description, 0, 0) == 0)


def _filter(machine: str, *, processes: bool) -> Sequence[Instruction]:
    """A program for the kernel: operation, jump if true, jump if not, value."""
    steps: list[Instruction] = [
        (_LOAD, 0, 0, _ARCHITECTURE),
        (_JUMP_EQUAL, 1, 0, _AUDIT_ARCHITECTURE[machine]),
        (_RETURN, 0, 0, _KILL_PROCESS),
        (_LOAD, 0, 0, _NUMBER),
    ]
    if machine == "x86_64":
        steps += [(_JUMP_AT_LEAST, 0, 1, _FOREIGN_NUMBERS), (_RETURN, 0, 0, _KILL_PROCESS)]
    refused = set(_ALWAYS_REFUSED[machine].values())
    if not processes:
        refused |= set(_PROCESSES[machine].values())
        # A C library that finds no clone3 takes clone, whose flags a filter can read: threads yes, processes no.
        steps += [(_JUMP_EQUAL, 0, 1, _CLONE3), (_RETURN, 0, 0, _ENOSYS)]
        steps += [
            (_JUMP_EQUAL, 0, 4, _CLONE[machine]),
            (_LOAD, 0, 0, _FIRST_ARGUMENT),
            (_JUMP_SET, 1, 0, _CLONE_THREAD),
            (_RETURN, 0, 0, _EPERM),
            (_RETURN, 0, 0, _ALLOW),
        ]
    for number in sorted(refused):
        steps += [(_JUMP_EQUAL, 0, 1, number), (_RETURN, 0, 0, _EPERM)]
    return [*steps, (_RETURN, 0, 0, _ALLOW)]
