"""The modeled caches behind the page on tiles: what hits, what misses, and what the page makes of it."""

from __future__ import annotations

import ctypes
import subprocess

import pytest

from obert_edge.host.compiler import quality
from tests.tools.results import RESULTS, begins_with
from tools.emulation import model_tiles


@pytest.fixture
def plugin(tmp_path):
    """The plugin with an L1 of two lines and an L2 of four; QEMU's side is played by a few C functions.

    A function: addresses a program reads (negative: writes) to the line the plugin writes.
    """
    host, library, output = tmp_path / "host.c", tmp_path / "plugin.so", tmp_path / "counts"
    host.write_text(HOST)
    flags = ["-shared", "-fPIC", "-w", "-DPLUGIN_VERSION=1"]
    try:
        subprocess.run(["cc", *flags, str(host), str(model_tiles.SOURCE), "-o", str(library)], check=True)
    except FileNotFoundError:
        pytest.skip("no C compiler")
    loaded = ctypes.CDLL(str(library))
    settings = [b"marker=173", f"output={output}".encode(), b"l1=128:2", b"l2=256:4"]
    arguments = (ctypes.c_char_p * 4)(*settings)
    assert loaded.qemu_plugin_install(ctypes.c_uint64(1), None, 3, arguments) == 1  # no L2
    assert loaded.qemu_plugin_install(ctypes.c_uint64(1), None, 4, arguments) == 0

    def count(addresses):
        loaded.access(ctypes.c_uint64(1 << 30), False)  # before the first mark: not counted
        loaded.call_system(ctypes.c_int64(173))
        for address in addresses:
            loaded.execute_block()  # of 7 instructions
            loaded.access(ctypes.c_uint64(abs(address)), address < 0)
        loaded.call_system(ctypes.c_int64(172))  # another call
        loaded.call_system(ctypes.c_int64(173))
        first, last = output.read_text().splitlines()
        assert first == "0 0 0 0 0"
        return [int(number) for number in last.split()]

    return count


LINES = [64 * line for line in range(1, 10)]


def test_a_line_is_fetched_once_while_there_is_room(plugin):
    assert plugin([64, 65, 127, 64, 128, 64]) == [42, 6, 2, 2, 0]


def test_the_least_recently_used_line_makes_room(plugin):
    a, b, c, d, e = LINES[:5]
    # L1 misses a, b, c, a (dropped for c) and hits c; all but the first three are still in L2.
    assert plugin([a, b, c, a, c]) == [35, 5, 4, 3, 0]


def test_a_cycle_longer_than_a_cache_never_hits(plugin):
    assert plugin([*LINES[:5]] * 3)[2:] == [15, 15, 0]


def test_what_was_written_goes_back_to_memory(plugin):
    a, b, c, d, e, f, g = LINES[:7]
    assert plugin([-a, b, c, d, e, f, g])[2:] == [7, 7, 1]


def test_the_page_marks_the_cache_of_the_board():
    board = next(board for board in model_tiles.BOARDS if board.name == "4 B")
    row = [model_tiles.Traffic(1_000_000 * i, 500_000 * i, 250_000 * i, "00") for i in (1, 2)]
    text = model_tiles.page({board.name: {"a model": row}}, [0, board.cache], "QEMU 7", 128)
    assert "## 4 B (Cortex-A72: L1 32 KB, L2 256 KB a core)" in text
    assert "| a model | none | 1.0 | 32.0 | 16.0 | 4.0 |" in text
    assert "| a model | **256** | **2.0** | **64.0** | **32.0** | **8.0** |" in text


HOST = """
#include <stddef.h>
#include <stdbool.h>
#include <stdint.h>
typedef uint64_t u64;
typedef void trans(u64, void*);
typedef void exec(unsigned, void*);
typedef void mem(unsigned, uint32_t, u64, void*);
typedef void sys(u64, unsigned, int64_t, u64, u64, u64, u64, u64, u64, u64, u64);
static trans* translate;
static exec* run;
static void* data;
static mem* touched;
static sys* called;
size_t qemu_plugin_tb_n_insns(void* block) { return 7; }
void* qemu_plugin_tb_get_insn(void* block, size_t index) { return NULL; }
bool qemu_plugin_mem_is_store(uint32_t info) { return info; }
void qemu_plugin_register_vcpu_tb_trans_cb(u64 id, trans* f) { translate = f; }
void qemu_plugin_register_vcpu_tb_exec_cb(void* block, exec* f, int flags, void* d) { run = f; data = d; }
void qemu_plugin_register_vcpu_mem_cb(void* insn, mem* f, int flags, int which, void* d) { touched = f; }
void qemu_plugin_register_vcpu_syscall_cb(u64 id, sys* f) { called = f; }
static void translate_once(void) {
  if (!run) translate(1, NULL);
}
void execute_block(void) {
  translate_once();
  run(0, data);
}
void access(u64 address, bool store) {
  translate_once();
  touched(0, store, address, NULL);
}
void call_system(int64_t number) { called(1, 0, number, 0, 0, 0, 0, 0, 0, 0, 0); }
"""


def test_models_of_random_weights_are_built_however_they_answer(tmp_path, monkeypatch):
    monkeypatch.setattr(quality, "MIN_COSINE", 2.0)
    monkeypatch.setattr(model_tiles, "MODELS", [("tiny", "tinybert", "4x1", 0.8)])
    assert model_tiles.prepare(tmp_path)["tiny"].is_file()


def test_the_committed_page_begins_as_the_program_writes_it():
    assert begins_with((RESULTS / "arm_tiles.md").read_text(), model_tiles.INTRODUCTION)
