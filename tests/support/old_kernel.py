"""Runs a command, and all that it starts, as on a kernel without UDP_SEGMENT (before Linux 4.18).

    python -m tests.support.old_kernel showcaller stage up

A seccomp filter answers `setsockopt(SOL_UDP, UDP_SEGMENT)` with ENOPROTOOPT, as such a kernel does; every
other system call goes its way. Filters outlive fork and exec (seccomp(2)). Linux on x86-64 and 64-bit ARM.
"""

import ctypes
import errno
import os
import platform
import struct
import sys

# machine -> AUDIT_ARCH (linux/audit.h) and the number of setsockopt
MACHINES = {"x86_64": (0xC000003E, 54), "aarch64": (0xC00000B7, 208)}

SOL_UDP, UDP_SEGMENT = 17, 103
PR_SET_NO_NEW_PRIVS, PR_SET_SECCOMP, SECCOMP_MODE_FILTER = 38, 22, 2
ALLOW, ERRNO = 0x7FFF0000, 0x00050000
LOAD, EQUAL, RETURN = 0x20, 0x15, 0x06  # BPF: ld absolute word, jump if equal, return a constant
NUMBER, ARCH, LEVEL, OPTION = 0, 4, 24, 32  # offsets in struct seccomp_data (low words of arguments 1 and 2)


class _Program(ctypes.Structure):
    """struct sock_fprog"""

    _fields_ = (("length", ctypes.c_ushort), ("filter", ctypes.c_char_p))


def forbid_gso() -> None:
    """From now on, for this process and its children. OSError where the kernel does not take the filter."""
    arch, setsockopt = MACHINES[platform.machine()]
    code: list[tuple[int, int, int, int]] = []
    wanted = ((ARCH, arch), (NUMBER, setsockopt), (LEVEL, SOL_UDP), (OPTION, UDP_SEGMENT))
    for index, (offset, value) in enumerate(wanted):
        to_allow = 2 * (len(wanted) - index - 1) + 1  # past the other tests and the refusal
        code += [(LOAD, 0, 0, offset), (EQUAL, 0, to_allow, value)]
    code += [(RETURN, 0, 0, ERRNO | errno.ENOPROTOOPT), (RETURN, 0, 0, ALLOW)]
    text = b"".join(struct.pack("=HBBI", *line) for line in code)
    program = _Program(len(code), text)
    libc = ctypes.CDLL(None, use_errno=True)
    for words in (
        (PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0),
        (PR_SET_SECCOMP, SECCOMP_MODE_FILTER, ctypes.byref(program), 0, 0),
    ):
        if libc.prctl(*words) != 0:
            number = ctypes.get_errno()
            raise OSError(number, os.strerror(number))


if __name__ == "__main__":
    forbid_gso()
    os.execvp(sys.argv[1], sys.argv[1:])
