"""ARM boards on an x86 machine: QEMU, a Debian system for it, and what can be counted there."""
