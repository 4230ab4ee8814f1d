"""Presets so small that a run takes a second, and text to train them on."""

import importlib
from pathlib import Path

import pytest

from paper_repro import presets
from paper_repro.data.prepare import prepare

COMMON = """
data = "tiny"
sequence_length = 16
sequences_per_step = 8
sequences_per_forward = 4
steps = 12
evaluate_every = 6
evaluation_sequences = 16
measure_every = 4
warmup = 2

[rates]
embedding = { row = 0.05, hybrid = 0.05, adamw = 0.01 }
lm_head = { row = 0.05, hybrid = 0.05, adamw = 0.01 }
mlp = { muon = 0.03, hybrid = 0.03, row = 0.03, adamw = 0.01 }
router = { row = 0.02, left = 0.02, left_uncentered = 0.02, adamw = 0.01 }
attention = { muon = 0.03, adamw = 0.01 }
other = 0.01

[decay]
attention = 1e-3
mlp = 1e-3
other = 1e-3

[model]
vocab_size = 320
hidden_size = 32
intermediate_size = 32
num_hidden_layers = 1
num_attention_heads = 2
max_position_embeddings = 16
"""
FAMILIES = {
    "qwen3": ("qwen3", "", "num_key_value_heads = 1\nhead_dim = 16"),
    "olmoe": ("olmoe", "", "num_key_value_heads = 2\nnum_experts = 4\nnum_experts_per_tok = 2"),
    "gpt-oss": (
        "gpt_oss",
        "balance_loss = 1e-2\nz_loss = 1e-3\n",
        "num_key_value_heads = 1\nhead_dim = 16\nnum_local_experts = 4\nnum_experts_per_tok = 2\nsliding_window = 8",
    ),
}
DATA = 'source = "pydoc"\nvocabulary = 320\nheld_out = 0.08\n'


def write_presets(folder: Path) -> None:
    (folder / "smoke").mkdir(parents=True)
    (folder / "data").mkdir()
    (folder / "data" / "tiny.toml").write_text(DATA)
    for name, (family, extra, model) in FAMILIES.items():
        (folder / "smoke" / f"{name}.toml").write_text(f'family = "{family}"\n{extra}{COMMON}{model}\n')


@pytest.fixture(scope="session")
def world(tmp_path_factory):
    """A folder with ``presets`` and ``data``."""
    for module in ("transformers", "tokenizers"):
        pytest.importorskip(module)
    folder = tmp_path_factory.mktemp("world")
    write_presets(folder / "presets")
    return folder


@pytest.fixture
def tiny(world, monkeypatch):
    """The folder of the data; inside the test, presets are the tiny ones."""
    monkeypatch.setattr(presets, "FOLDER", world / "presets")
    prepare(presets.load_data_spec("tiny"), world / "data")
    yield world / "data"
    importlib.import_module("paper_repro.training.model")._last = None
