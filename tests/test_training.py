"""Training that is killed, and what a trained network reaches."""
import signal
import subprocess
import sys
import time

import pytest
import torch

from rhmdiff.diffusion import make_process
from rhmdiff.grammar import HierarchicalGrammar
from rhmdiff.models import TransformerDenoiser
from rhmdiff.thesis import BINARY_3_LEVEL_GRAMMAR
from rhmdiff.training import bayes_gap, fit, grammar_stream

SCRIPT = """
import sys, torch
torch.set_num_threads(1)
from rhmdiff.diffusion import make_process
from rhmdiff.grammar import HierarchicalGrammar
from rhmdiff.models import TransformerDenoiser
from rhmdiff.training import fit, grammar_stream
grammar, process = HierarchicalGrammar.random(4, 2, 2, 2, seed=1), make_process("uniform", 4)
model = TransformerDenoiser(process, 4, dim=32, heads=4, layers=1, ff=64, dropout=0.1)
history = fit(model, process, grammar_stream(grammar), steps=300, batch_size=32, grammar=grammar, device="cpu",
              checkpoint=sys.argv[1], checkpoint_every=10, log_every=25)
torch.save((history.table.to_dict("list"), model.state_dict()), sys.argv[2])
"""


def command(folder, name):
    return [sys.executable, "-c", SCRIPT, str(folder/f"{name}.pt"), str(folder/f"{name}.out")]


@pytest.mark.parametrize("kill", [signal.SIGKILL, signal.SIGINT])
def test_killed_and_resumed_is_uninterrupted(tmp_path, kill):
    subprocess.run(command(tmp_path, "whole"), check=True)
    process = subprocess.Popen(command(tmp_path, "killed"), stderr=subprocess.DEVNULL)
    end = time.monotonic() + 60
    while not (tmp_path/"killed.pt").exists():
        assert process.poll() is None and time.monotonic() < end
        time.sleep(0.005)
    process.send_signal(kill)
    assert process.wait(60) != 0 and not (tmp_path/"killed.out").exists()
    step = torch.load(tmp_path/"killed.pt", weights_only=True)["step"]
    assert 10 <= step < 300
    subprocess.run(command(tmp_path, "killed"), check=True)
    (table, weights), (table_, weights_) = (torch.load(tmp_path/f"{n}.out", weights_only=True) for n in ("whole", "killed"))
    assert table == table_ and all(weights[k].equal(weights_[k]) for k in weights)


def test_the_transformer_reaches_the_exact_posterior_of_the_thesis_grammar():
    "0.05 nats per masked token is the target; a quarter of that is what a few seconds give."
    grammar, process = HierarchicalGrammar(BINARY_3_LEVEL_GRAMMAR), make_process("masking", 4)
    model = TransformerDenoiser(process, grammar.n_leaves, dim=64, heads=4, layers=3, ff=256)
    fit(model, process, grammar_stream(grammar), steps=300, batch_size=64, lr=3e-3, device="cpu")
    assert bayes_gap(model, process, grammar, n=2048).mean < 0.0125


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device on this machine")
def test_training_on_a_device():
    grammar = HierarchicalGrammar.random(4, 2, 2, 2, seed=1)
    for noise in ("masking", "uniform", "gaussian"):
        process = make_process(noise, 4)
        model = TransformerDenoiser(process, 4, dim=32, heads=4, layers=2, ff=64, self_conditioning=True)
        fit(model, process, grammar_stream(grammar), steps=300, lr=5e-3, device="cuda", grammar=grammar)
        assert bayes_gap(model, process, grammar).mean < 0.05
