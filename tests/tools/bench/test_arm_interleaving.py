"""Every way of interleaving is a loop that computes what it says."""

from __future__ import annotations

from tools.bench import arm_interleaving


def test_every_way_of_interleaving_multiplies_what_it_interleaved():
    for name, loop in arm_interleaving.alternatives():
        products = [line for line in loop if line.startswith("sdot")]
        rows = int(name.split()[0])
        tokens = 8 if "8 tokens" in name else 16
        assert len(products) * 16 == rows * tokens * 4, name
        sums = [line.split()[1] for line in products]
        assert len(set(sums)) == len(sums), name
        written = {
            word.strip(",") for line in loop if not line.startswith("sdot") for word in line.split()[1:2]
        }
        for line in products:
            source = line.split()[2].strip(",").split(".")[0]
            assert any(target in (source + ".16b", source + ".8h", "q" + source[1:]) for target in written), (
                line
            )
