"""The linker of kernels: what it puts into memory does what LLVM's does, and what it cannot do it says."""

from __future__ import annotations

import ctypes

import numpy as np
import pytest

pytest.importorskip("numba")

import llvmlite.binding as llvm

from backlit.engines.fast import elf, kernels_dense, llvm_host, machine_code, pointers, processor
from engines.kernel_calls import needs_machine_code

FUNCTION = ctypes.CFUNCTYPE(ctypes.c_double, ctypes.c_double)
ONE = """
@table = private constant [3 x double] [double 1.0, double 2.0, double 4.0]
declare double @outside(double)
declare double @log1p(double)
define double @inner(double %x) noinline { %y = fmul double %x, 3.0
  ret double %y }
define double @unit(double %x) {
  %i = fptosi double %x to i64
  %p = getelementptr [3 x double], [3 x double]* @table, i64 0, i64 %i
  %a = load double, double* %p
  %b = call double @inner(double %a)
  %c = call double @outside(double %b)
  %d = call double @log1p(double %c)
  ret double %d }
"""
VARIABLE = """
@count = global i64 5
define i64 @unit() { %n = load i64, i64* @count
  ret i64 %n }
"""


def compiled(text, model="jitdefault"):
    """Object code of a module, with addresses of 64 bits or, as "small", distances of 32."""
    module = llvm.parse_assembly(text)
    llvm_host.host()
    near = {"reloc": "pic", "codemodel": "small"} if model == "small" else {"reloc": "static", "jit": True}
    code = bytes(llvm.Target.from_default_triple().create_target_machine(**near).emit_object(module))
    if not elf.can_link(code):
        pytest.skip("this system's code is linked by LLVM")
    return code


@ctypes.CFUNCTYPE(ctypes.c_double, ctypes.c_double)
def outside(x):
    return x * x


KNOWN = {"outside": int(ctypes.cast(outside, ctypes.c_void_p).value)}


@pytest.mark.parametrize("linker", [elf, llvm_host])
def test_constants_other_functions_known_addresses_and_c_s_library(linker):
    unit = FUNCTION(linker.linked(compiled(ONE), "unit", KNOWN))
    for i, entry in enumerate((1.0, 2.0, 4.0)):
        assert unit(float(i)) == pytest.approx(np.log1p((3 * entry) ** 2), rel=1e-15)


def test_distances_of_32_bits():
    """Of a module of its own, where everything is near."""
    near = "\n".join(line for line in ONE.splitlines() if "@outside" not in line and "@log1p" not in line)
    unit = FUNCTION(elf.linked(compiled(near.replace("ret double %d", "ret double %b"), "small"), "unit", {}))
    assert [unit(0.0), unit(2.0)] == [3.0, 12.0]


def test_what_is_unknown_is_named():
    with pytest.raises(LookupError, match="'outside'"):
        elf.linked(compiled(ONE), "unit", {})


@pytest.mark.parametrize("linker", [elf, llvm_host])
def test_a_function_that_is_not_there(linker):
    with pytest.raises(LookupError, match="'elsewhere'"):
        linker.linked(compiled(ONE), "elsewhere", KNOWN)


def test_variables_are_refused():
    with pytest.raises(NotImplementedError, match="variables"):
        elf.linked(compiled(VARIABLE), "unit", {})


def test_a_kind_of_reference_that_is_not_known_is_refused(monkeypatch):
    monkeypatch.setattr(elf, "_KINDS", {})
    with pytest.raises(NotImplementedError, match="kind"):
        elf.linked(compiled(ONE), "unit", KNOWN)


@needs_machine_code
def test_what_is_refused_llvm_links(monkeypatch):
    def refuse(*_):
        raise NotImplementedError

    assert kernels_dense.add_to
    x = np.arange(5.0)
    words = np.array(machine_code.words_of([x, x]), np.int64)
    machine_code.address("add_to", (x, x))
    name = machine_code._name("add_to", ("float64:1", "float64:1"))
    monkeypatch.setattr(elf, "linked", refuse)
    place = machine_code._link(name, machine_code._file(name).read_bytes())
    pointers.CODE(place)(words.ctypes.data, 1, 4, 0)
    assert np.array_equal(x, [0, 2, 4, 6, 4])


def test_memory_that_may_not_be_executed_is_an_error(monkeypatch):
    class Library:
        def __init__(self, *_, **__):
            self.mprotect = lambda *_: -1

    code = compiled(ONE.replace("@log1p", "@outside2"))
    monkeypatch.setattr(elf.ctypes, "CDLL", Library)
    with pytest.raises(OSError, match="no compiled code"):
        elf.linked(code, "unit", KNOWN | {"outside2": KNOWN["outside"]})


def test_functions_of_c_s_library_by_name():
    log = FUNCTION(pointers.of_library("log"))
    assert log(2.0) == pytest.approx(np.log(2.0), rel=1e-15)
    with pytest.raises(LookupError, match="'no_such_function'"):
        pointers.of_library("no_such_function")


def test_functions_do_not_all_begin_on_the_same_lines_of_the_cache():
    code = compiled(ONE)
    places = [elf.linked(code, "unit", KNOWN) for _ in range(5)]
    assert len({place // 64 % 64 for place in places}) == len(places)


def test_other_files_are_not_taken():
    assert not elf.can_link(b"")
    assert not elf.can_link(b"\xcf\xfa\xed\xfe" + bytes(60))
    aarch64 = bytearray(64)
    aarch64[:5], aarch64[18] = b"\x7fELF\x02", 183
    assert not elf.can_link(bytes(aarch64))


# --- the processor ----------------------------------------------------------------------------------------------------


def test_linux_tells_what_a_processor_is(monkeypatch, tmp_path):
    ask = processor.about.__wrapped__
    monkeypatch.setattr(processor.sys, "platform", "linux")
    monkeypatch.setattr(processor.platform, "machine", lambda: "x86_64")
    first = "processor\t: 0\nmodel name\t: A 1\ncpu MHz\t: {}\nflags\t: fpu avx2\n"
    file = tmp_path / "cpuinfo"
    monkeypatch.setattr(processor, "_CPUINFO", file)
    file.write_text(first.format(1) + "\nprocessor\t: 1\nflags\t: none\n")
    told = ask()
    assert "A 1" in told
    assert "fpu avx2" in told
    file.write_text(first.format(2))
    assert ask() == told
    file.write_text(first.replace("avx2", "avx512f"))
    assert ask() != told
    file.unlink()
    assert llvm.get_host_cpu_name() in ask()


@pytest.mark.parametrize(("answer", "lent"), [(0, True), (-1, False)])
def test_the_system_lends_its_tiles_or_does_not(monkeypatch, answer, lent):
    asked = []

    class Library:
        def __init__(self, *_):
            self.syscall = lambda *words: asked.append(words) or answer

    monkeypatch.setattr(pointers.ctypes, "CDLL", Library)
    assert pointers.ask_for_tiles() is lent
    assert asked == [(158, 0x1023, 18)]  # arch_prctl, ARCH_REQ_XCOMP_PERM, XFEATURE_XTILEDATA


def test_another_system_is_told_by_llvm(monkeypatch):
    monkeypatch.setattr(processor.sys, "platform", "darwin")
    assert processor.about.__wrapped__().startswith(llvm.get_host_cpu_name())
