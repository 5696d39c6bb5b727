"""Transformers and their training in the ways of other code on the Random Hierarchy Model, of one size here.

Both networks normalise before each branch, write attention out as products and a softmax, and are trained in
float32 by a plain loop over a DataLoader, which collates single examples. They are given the tokens of this
library's task instead of their own (the class of a string, or its last token): 1.4 million parameters, 7
blocks of dimension 128, no dropout.
"""
import math

import torch
import torch.nn.functional as F
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

DIM, HEADS, BLOCKS = 128, 8, 7


class TanhGELU(nn.Module):
    "GELU, written out."

    def forward(self, x):
        return 0.5 * x * (1 + torch.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x**3)))


class Block(nn.Module):
    "Attention and a perceptron; `joint`: queries, keys and values by one matrix, with biases."

    def __init__(self, joint, activation):
        super().__init__()
        parts = [3 * DIM] if joint else [DIM] * 3
        self.inputs = nn.ModuleList(nn.Linear(DIM, part, bias=joint) for part in parts)
        self.output = nn.Linear(DIM, DIM, bias=joint)
        self.norms = nn.ModuleList(nn.LayerNorm(DIM) for _ in range(2))
        self.ff = nn.Sequential(nn.Linear(DIM, 4 * DIM), activation, nn.Linear(4 * DIM, DIM))

    def attend(self, x):
        mixed = torch.cat([f(x) for f in self.inputs], -1).chunk(3, -1)
        q, k, v = (y.unflatten(-1, (HEADS, -1)).transpose(1, 2) for y in mixed)
        weights = F.softmax(q @ k.transpose(-2, -1) / math.sqrt(k.shape[-1]), -1)
        return self.output((weights @ v).transpose(1, 2).flatten(2))

    def forward(self, x):
        x = x + self.attend(self.norms[0](x))
        return x + self.ff(self.norms[1](x))


class Network(nn.Module):
    "Blocks between an embedding of tokens, or of one-hot tokens, and a read-out."

    def __init__(self, tokens, n, v, joint, activation, one_hot):
        super().__init__()
        self.one_hot, self.tokens = one_hot, tokens
        self.embed = nn.Linear(tokens, DIM, bias=False) if one_hot else nn.Embedding(tokens, DIM)
        self.position = nn.Parameter(torch.randn(n, DIM))
        self.blocks = nn.Sequential(*(Block(joint, activation()) for _ in range(BLOCKS)))
        self.read = nn.Linear(DIM, v, bias=False)

    def forward(self, x): return self.read(self.blocks(self.embed(x) + self.position))


def hierarchy_learning(tokens, n, v):
    "Its GPT: embedded tokens, one matrix for queries, keys and values, GELU written out."
    return Network(tokens, n, v, joint=True, activation=TanhGELU, one_hot=False)


def random_hierarchy_model(tokens, n, v):
    "Its transformer encoder: one-hot tokens in floats, four matrices a head, ReLU."
    return Network(tokens, n, v, joint=False, activation=nn.ReLU, one_hot=True)


def loader(network, noisy, clean, batch):
    "Batches of noisy and clean tokens, collated from single examples."
    inputs = F.one_hot(noisy, network.tokens).float() if network.one_hot else noisy
    return DataLoader(TensorDataset(inputs, clean), batch_size=batch, shuffle=True, drop_last=True)


def train(network, batches, steps):
    "Train for some steps, at most an epoch."
    network.train()
    optimiser = torch.optim.AdamW(network.parameters(), lr=1e-3)
    running = 0.
    for _, (inputs, targets) in zip(range(steps), batches):
        loss = F.cross_entropy(network(inputs).transpose(1, 2), targets)
        running += loss.item()
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    return running / steps
