"""The forward processes over random alphabets and times: distributions, limits and types."""
import math

import numpy as np
import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st

from rhmdiff.diffusion import PROCESSES, DiffusionProcess, make_process

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
