"""Devices by name, and random numbers that are borrowed and given back."""

import numpy as np
import pytest
import torch

from gandetect.distributed import draw_seed, isolated_seed, resolve_device

CPU = torch.device("cpu")


class TestResolveDevice:
    @pytest.mark.parametrize("device", ["cpu", torch.device("cpu")])
    def test_the_cpu(self, device):
        assert resolve_device(device) == CPU

    @pytest.mark.parametrize(
        ("cuda", "mps", "expected"),
        [(True, True, "cuda"), (False, True, "mps"), (False, False, "cpu")],
    )
    def test_auto(self, monkeypatch, cuda, mps, expected):
        monkeypatch.setattr(torch.cuda, "is_available", lambda: cuda)
        monkeypatch.setattr(torch.backends.mps, "is_available", lambda: mps)
        assert resolve_device("auto").type == expected

    @pytest.mark.parametrize(
        ("name", "there"), [("cuda", True), ("cuda:1", True), ("cuda:2", False)]
    )
    def test_several_gpus(self, monkeypatch, name, there):
        monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
        monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
        if there:
            assert resolve_device(name) == torch.device(name)
        else:
            with pytest.raises(ValueError, match="'cuda:2' is not available"):
                resolve_device(name)

    @pytest.mark.parametrize("name", ["cuda", "cuda:0", "mps", "xpu", "vulkan"])
    def test_not_on_this_machine(self, monkeypatch, name):
        monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
        monkeypatch.setattr(torch.backends.mps, "is_available", lambda: False)
        with pytest.raises(ValueError, match=r"not available .*: use device='auto' or 'cpu'"):
            resolve_device(name)

    @pytest.mark.parametrize("name", ["gpu", "", "cuda:x", "CPU 1"])
    def test_unknown_names(self, name):
        with pytest.raises(ValueError, match=r"Unknown device .*: use 'auto'"):
            resolve_device(name)

    @pytest.mark.parametrize("device", [0, None, b"cpu", ["cpu"]])
    def test_what_is_no_name(self, device):
        with pytest.raises(TypeError, match="device must be a string"):
            resolve_device(device)


class TestDrawSeed:
    @pytest.mark.parametrize("seed", [0, 7, 2**32 - 1, np.int64(7), np.uint8(7)])
    def test_an_integer_is_itself(self, seed):
        assert draw_seed(seed) == seed
        assert type(draw_seed(seed)) is int

    @pytest.mark.parametrize("generator", [np.random.RandomState, np.random.default_rng])
    def test_generators_are_advanced(self, generator):
        a, b = generator(0), generator(0)
        seeds = [draw_seed(a) for _ in range(3)]
        assert seeds == [draw_seed(b) for _ in range(3)]
        assert len(set(seeds)) == 3

    def test_none_is_new_each_time(self):
        state = np.random.get_state()[1].copy()
        assert draw_seed(None) != draw_seed(None)
        np.testing.assert_array_equal(np.random.get_state()[1], state)

    @pytest.mark.parametrize("seed", [-1, 2**32, 1.0, "0", True, [1]])
    def test_what_is_no_seed(self, seed):
        with pytest.raises(ValueError, match="random_state must be"):
            draw_seed(seed)


class TestIsolatedSeed:
    def test_inside_the_seed_decides(self):
        draws = []
        for _ in range(2):
            with isolated_seed(3, CPU):
                draws.append(torch.rand(4))
            torch.rand(1)
        assert torch.equal(*draws)

    def test_outside_nothing_has_happened(self):
        before = torch.get_rng_state()
        with isolated_seed(3, CPU):
            torch.rand(4)
        assert torch.equal(torch.get_rng_state(), before)

    def test_nor_when_it_raises(self):
        before = torch.get_rng_state()
        with pytest.raises(RuntimeError), isolated_seed(3, CPU):
            torch.rand(4)
            raise RuntimeError
        assert torch.equal(torch.get_rng_state(), before)
