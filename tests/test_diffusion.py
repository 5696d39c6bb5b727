"""The forward processes over random alphabets and times: distributions, limits and types."""
import math

import numpy as np
import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st

from rhmdiff.diffusion import PROCESSES, DiffusionProcess, RaggedProcess, make_process

tiny = st.floats(0, 1e-12)
powers_of_ten = st.floats(-324, 0).map(lambda x: 10.**x)  # where a variance underflows, and its root does not
times = st.one_of(st.sampled_from([0., 1.]), st.floats(0, 1), tiny, tiny.map(lambda x: 1 - x), powers_of_ten)
noises = st.sampled_from(["masking", "uniform", "gaussian"])


@settings(max_examples=200, deadline=None)
@given(st.sampled_from(["masking", "uniform", "belief"]), st.integers(1, 40), times)
def test_discrete_evidence_is_a_distribution(name, v, t):
    process = make_process(name, v)
    states = torch.arange(process.channels if name == "masking" else v)[:, None]
    p = process.log_evidence(states, torch.tensor(t, dtype=torch.float64)).exp()[:, 0]
    assert torch.allclose(p.sum(0), torch.ones(v, dtype=torch.float64), atol=1e-12)


@settings(max_examples=300, deadline=None)
@given(noises, st.integers(1, 20), times, times, st.integers(0, 2**32),
       st.sampled_from([torch.float32, torch.float64]))
@example("gaussian", 1, 1.7464903497747323e-161, 0., 0, torch.float64)  # a variance that is subnormal
@example("gaussian", 20, 1.7464903497747323e-161, 0., 0, torch.float64)
@example("gaussian", 5, 1e-20, 0., 0, torch.float32)
@example("gaussian", 5, 1e-23, 0., 0, torch.float32)  # a variance of 0 whose root is not 0
def test_what_is_drawn_is_possible(name, v, t, s, seed, dtype):
    "Forward to t, back to s: the clean symbol stays possible, nothing is NaN, the step's ends are exact."
    s, t = sorted((s, t))
    process = make_process(name, v)
    x0 = torch.randint(v, (3, 5), generator=torch.Generator().manual_seed(seed))
    x_t = process.sample(x0, torch.tensor(t, dtype=dtype), seed=seed)
    e = process.log_evidence(x_t, torch.tensor(t, dtype=dtype))
    assert e.dtype == dtype and not e.isnan().any() and not (e == math.inf).any()
    assert (e.gather(-1, x0[..., None]) > -math.inf).all()
    x_s = process.posterior_step(x_t, t, s, x0, seed=seed)
    assert x_s.shape == x_t.shape and x_s.dtype == x_t.dtype
    assert not (x_s.is_floating_point() and x_s.isnan().any())
    clean = process.sample(x0, torch.tensor(0., dtype=dtype))
    assert process.posterior_step(x_t, t, 0., x0, seed=seed).equal(clean)
    if t > 0: assert process.posterior_step(x_t, t, t, x0, seed=seed).equal(x_t)


@settings(max_examples=100, deadline=None)
@given(noises, st.lists(st.floats(0, 1), min_size=4, max_size=4), st.integers(0, 2**32))
def test_a_batch_of_times_is_a_batch_of_calls(name, t, seed):
    process, t = make_process(name, 5), torch.tensor(t, dtype=torch.float64)
    x0 = torch.randint(5, (4, 3), generator=torch.Generator().manual_seed(seed))
    x_t = process.sample(x0, t, seed=seed)
    together = process.log_evidence(x_t, t)
    for b in range(4):
        assert torch.equal(together[b:b + 1], process.log_evidence(x_t[b:b + 1], t[b:b + 1]))


@settings(max_examples=100, deadline=None)
@given(st.sampled_from(["cos", "linear", "exp"]), st.floats(0.01, 1e4), st.integers(0, 2**32))
def test_schedules_run_from_signal_to_noise(mode, max_time, seed):
    process = DiffusionProcess(3, max_time=max_time, mode=mode)
    t = np.linspace(0, 1, 101)
    signal = process.alpha_bar(t).numpy()
    assert signal[0] == 1 and (np.diff(signal) <= 0).all()
    assert signal[-1] == (0 if mode != "exp" else pytest.approx(math.exp(-max_time / 2), rel=1e-9))


def test_single_precision_agrees_with_double():
    x0 = torch.arange(8)[None]
    for name in PROCESSES:
        process = make_process(name, 8)
        for t in (1e-3, 0.3, 0.7, 0.999):
            x_t = process.sample(x0, t, seed=0)
            single = process.log_evidence(x_t, t)
            x_t = x_t.double() if x_t.is_floating_point() else x_t
            double = process.log_evidence(x_t, torch.tensor(t, dtype=torch.float64))
            assert torch.allclose(single.double(), double, rtol=1e-5, atol=1e-4), (name, t)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device on this machine")
@pytest.mark.parametrize("name", ["masking", "uniform", "gaussian"])
def test_on_the_device_of_its_input(name):
    process, x0 = make_process(name, 5), torch.randint(5, (4, 3), device="cuda")
    t = torch.linspace(0, 1, 4)
    x_t = process.sample(x0, t, seed=0)
    outs = [x_t, process.log_evidence(x_t, t), process.features(x_t), process.noised(x_t)]
    outs.append(process.posterior_step(x_t, t, t / 2, x0, seed=0))
    assert all(x.device.type == "cuda" for x in outs)
    there = process.log_evidence(x_t, t).cpu()
    assert torch.allclose(there, process.log_evidence(x_t.cpu(), t), atol=1e-4, rtol=1e-4)


def ragged(name: str) -> tuple:
    "Noised leaves of which some are empty: the process with and without the empty symbol, x_0, x_t, t and s."
    base = make_process(name, 4)
    x0 = torch.randint(5, (6, 9), generator=torch.Generator().manual_seed(1))
    t, s = torch.linspace(0.3, 0.9, 6, dtype=torch.float64), torch.linspace(0.1, 0.7, 6, dtype=torch.float64)
    process = RaggedProcess(base)
    return base, process, x0, process.sample(x0, t, seed=2), t, s


def test_jumps_of_ragged_leaves_are_those_of_the_base():
    base, process, x0, x_t, t, s = ragged("uniform")
    empty = x0 == 4
    p = torch.rand(6, 9, 5, generator=torch.Generator().manual_seed(3), dtype=torch.float64)
    p = torch.where(empty[..., None], torch.tensor([0., 0., 0., 0., 1.]), p * torch.tensor([1., 1, 1, 1, 0]))
    p = p / p.sum(-1, keepdim=True)
    told = torch.where(empty[..., None], 0.25, p[..., :-1])
    expected = base.leap(torch.where(empty, 0, x_t), t, s, told, seed=4)
    found = process.leap(x_t, t, s, p, seed=4)
    assert found.equal(torch.where(empty, 4, expected)) and not found.equal(x_t)


def test_steps_of_ragged_leaves_from_a_mean_are_those_of_the_base():
    base, process, x0, x_t, t, s = ragged("gaussian")
    empty = x0 == 4
    mean = torch.nn.functional.one_hot(x0, 5).double()
    kept = torch.where(empty[..., None], torch.tensor([1., 0., 0., 0.]), x_t[..., :-1])
    for eta in (0., 1.):
        expected = base.mean_step(kept, t, s, mean[..., :-1], 5, eta)
        found = process.mean_step(x_t, t, s, mean, 5, eta)
        assert found[..., -1].equal(empty.to(found)) and not found[empty][:, :-1].any()
        assert found[~empty][:, :-1].equal(expected[~empty].to(found))


@pytest.mark.parametrize("name", ["masking", "uniform", "gaussian"])
def test_the_bound_of_ragged_leaves_is_that_of_the_base_where_they_are_not_empty(name):
    base, process, x0, x_t, t, _ = ragged(name)
    empty = x0 == 4
    logits = torch.randn(6, 9, 5, generator=torch.Generator().manual_seed(6), dtype=torch.float64)
    found = process.nelbo_rate(process.constrain(logits, x_t), x_t, t, x0)
    assert found.shape == x0.shape and not found[empty].any() and (found[~empty] >= 0).all()
    for row, clean in enumerate(x0):  # a row without its empty leaves is one of the base
        kept = clean != 4
        x = x_t[row:row + 1, kept]
        x = x[..., :-1] if x.is_floating_point() else x - (x > 4).long()
        own = base.constrain(logits[row:row + 1, kept, :-1], x)
        alone = base.nelbo_rate(own, x, t[row:row + 1], clean[None, kept])
        assert torch.allclose(found[row, kept], alone[0], atol=1e-12)
