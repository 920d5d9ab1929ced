"""Counting instructions: the plugin says what a program executed, and the page what was counted."""

from __future__ import annotations

import ctypes
import subprocess

import pytest

from obert_edge.host.compiler import quality
from tests.tools.results import RESULTS, begins_with
from tools.emulation import count_instructions


def test_the_share_is_of_the_better_of_the_others():
    count = count_instructions.Count
    row = {
        "80 % 4x1": count("neondot", (50_000_000, 50_000_100, 50_000_200)),
        "90 % 4x1": count("neondot", (40_000_000,)),
        "dense": count("neondot", (120_000_000,)),
        "onnxruntime-int8": count("", (200_000_000,)),
        "litert-int8": count("", (125_000_000,)),
    }
    text = count_instructions.page({("cortex-a76", 128): row}, ["QEMU 7", "ONNX Runtime 1", "LiteRT 2"], 3)
    assert "| cortex-a76 | `neondot` | 128 | 50.0 | 40.0 | 120.0 | 200.0 | 125.0 | 0.40 |" in text
    assert "n = 3" in text


@pytest.mark.parametrize("version", [1, 2])
def test_the_plugin_registers_with_either_interface_and_refuses_without_arguments(tmp_path, version):
    """QEMU's side of the interface is played by a few C functions: what is called, and with what."""
    host = tmp_path / "host.c"
    host.write_text(HOST)
    library = tmp_path / "plugin.so"
    flags = ["-shared", "-fPIC", "-w", f"-DPLUGIN_VERSION={version}"]
    try:
        subprocess.run(
            ["cc", *flags, str(host), str(count_instructions.SOURCE), "-o", str(library)], check=True
        )
    except FileNotFoundError:
        pytest.skip("no C compiler")
    plugin = ctypes.CDLL(str(library))
    assert ctypes.c_int.in_dll(plugin, "qemu_plugin_version").value == version
    output = tmp_path / "counts"
    arguments = (ctypes.c_char_p * 2)(b"marker=173", f"output={output}".encode())
    assert plugin.qemu_plugin_install(ctypes.c_uint64(1), None, 1, arguments) == 1  # no output named
    assert plugin.qemu_plugin_install(ctypes.c_uint64(1), None, 2, arguments) == 0
    plugin.execute_block()  # of 7 instructions
    plugin.call_system(ctypes.c_int64(173))
    plugin.execute_block()
    plugin.call_system(ctypes.c_int64(172))  # another call
    plugin.call_system(ctypes.c_int64(173))
    assert output.read_text().split() == ["7", "14"]


HOST = """
#include <stddef.h>
#include <stdint.h>
typedef void trans(uint64_t, void*);
typedef void exec(unsigned, void*);
typedef uint64_t u64;
typedef void sys(u64, unsigned, int64_t, u64, u64, u64, u64, u64, u64, u64, u64);
static trans* translate;
static exec* run;
static void* data;
static sys* called;
static uint64_t* address;
static uint64_t value;
size_t qemu_plugin_tb_n_insns(void* block) { return 7; }
void qemu_plugin_register_vcpu_tb_trans_cb(uint64_t id, trans* f) { translate = f; }
void qemu_plugin_register_vcpu_tb_exec_cb(void* block, exec* f, int flags, void* d) { run = f; data = d; }
void qemu_plugin_register_vcpu_tb_exec_inline(void* block, int op, void* a, u64 v) { address = a, value = v; }
void qemu_plugin_register_vcpu_syscall_cb(uint64_t id, sys* f) { called = f; }
void execute_block(void) {
  if (!run && !address) translate(1, NULL);
  if (run) run(0, data);
  if (address) *address += value;
}
void call_system(int64_t number) { called(1, 0, number, 0, 0, 0, 0, 0, 0, 0, 0); }
"""


def test_models_of_random_weights_are_built_however_they_answer(tmp_path, monkeypatch):
    monkeypatch.setattr(quality, "MIN_COSINE", 2.0)
    monkeypatch.setattr(count_instructions, "MODELS", [("80 % 4x1", "4x1", 0.8)])
    bundles, artifacts = count_instructions.prepare(tmp_path, [])
    assert bundles["80 % 4x1"].is_file() and not artifacts


def test_the_committed_page_begins_as_the_program_writes_it():
    assert begins_with((RESULTS / "arm_instructions.md").read_text(), count_instructions.INTRODUCTION)
