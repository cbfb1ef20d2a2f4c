"""Items and batches as people have them: two rounds, with people who answer otherwise than the data set."""

from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils.rnn import pack_padded_sequence, pad_sequence

from lightning_diffal import ActiveDataModule
from lightning_diffal._lightning import pl
from tests.clients.rounds import input_of, two_rounds

N, C, D, W = 30, 3, 8, 16
GENERATOR = torch.Generator().manual_seed(0)
X = torch.randn(N, D, generator=GENERATOR)
X[:, 0] = torch.arange(N) / 10  # tells items apart
Y = torch.randint(0, C, (N,), generator=GENERATOR)
WORDS = [torch.randint(2, 50, (3 + i % 5,), generator=GENERATOR) for i in range(N)]
for i, word in enumerate(WORDS):
    word[0] = i + 2
BAGS = [torch.cat([X[i : i + 1], torch.randn(2 + i % 3, D, generator=GENERATOR)]) for i in range(N)]


def shown(x, y):
    return zip((x[:, 0] * 10).round().int().tolist(), y.reshape(-1).int().tolist(), strict=True)


def data(items, **settings):
    return ActiveDataModule(items, **{"initial_labels": 6, "batch_size": 8, "num_classes": C, **settings})


class Base(pl.LightningModule):
    """A body and a head."""

    def __init__(self):
        super().__init__()
        self.body, self.head = nn.Sequential(nn.Linear(D, W), nn.ReLU()), nn.Linear(W, C)

    def forward(self, x):
        return self.head(self.body(x))

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), lr=1e-3)


def test_a_dict_with_several_inputs_ids_and_indices():
    class Model(Base):
        def __init__(self):
            super().__init__()
            self.side = nn.Linear(2, W)

        def forward(self, batch):
            return self.head(self.body(batch["signal"]) + self.side(batch["meta"]).relu())

        def training_step(self, batch, batch_idx):
            return F.cross_entropy(self(batch), batch["target"])

    items = [{"id": f"p{i}", "signal": X[i], "meta": X[i, 1:3], "target": Y[i], "index": i} for i in range(N)]
    two_rounds(
        Model(),
        data(items),
        Y,
        lambda batch: shown(batch["signal"], batch["target"]),
        lambda m: input_of(m.head, lambda: m({"signal": X, "meta": X[:, 1:3]})),
    )


class Sample(NamedTuple):
    image: Tensor
    label: int
    path: str


def test_named_tuples():
    class Model(Base):
        def training_step(self, batch, batch_idx):
            return F.cross_entropy(self(batch.image), batch.label)

    items = [Sample(X[i], int(Y[i]), f"{i}.png") for i in range(N)]
    two_rounds(Model(), data(items), Y, lambda batch: shown(batch.image, batch.label), lambda m: m.body(X))


@dataclass(frozen=True)
class Record:
    uid: str
    features: Tensor
    y: int


@dataclass
class Records:
    features: Tensor
    y: Tensor
    uids: list

    @classmethod
    def of(cls, items):
        return cls(torch.stack([i.features for i in items]), torch.tensor([i.y for i in items]), [i.uid for i in items])


def test_frozen_dataclasses():
    class Model(Base):
        def forward(self, batch: Records):
            return super().forward(batch.features)

        def training_step(self, batch, batch_idx):
            return F.cross_entropy(self(batch), batch.y)

    items = [Record(str(i), X[i], int(Y[i])) for i in range(N)]
    two_rounds(
        Model(),
        data(items, collate_fn=Records.of),
        Y,
        lambda batch: shown(batch.features, batch.y),
        lambda m: m.body(X),
    )


def test_inputs_in_a_tuple_of_their_own():
    class Model(Base):
        def forward(self, first, second):
            return super().forward(first + second)

        def training_step(self, batch, batch_idx):
            (first, second), y = batch
            return F.cross_entropy(self(first, second), y)

    items = [((X[i], 2 * X[i]), Y[i]) for i in range(N)]
    two_rounds(Model(), data(items), Y, lambda batch: shown(batch[0][0], batch[1]), lambda m: m.body(3 * X))


def test_two_views_of_which_forward_takes_one():
    class Model(Base):
        def training_step(self, batch, batch_idx):
            (one, other), y = batch
            return F.cross_entropy(self(one), y) - F.cosine_similarity(self.body(one), self.body(other)).mean()

        def predict_step(self, batch, batch_idx):
            return self(batch[0][0])

    items = [((X[i], 1.1 * X[i]), Y[i]) for i in range(N)]
    two_rounds(Model(), data(items), Y, lambda batch: shown(batch[0][0], batch[1]), lambda m: m.body(X))


def test_weights_after_the_label():
    class Model(Base):
        def training_step(self, batch, batch_idx):
            x, y, weight = batch
            return (F.cross_entropy(self(x), y, reduction="none") * weight).mean()

    items = [(X[i], Y[i], 1.5) for i in range(N)]
    two_rounds(Model(), data(items, target=1), Y, lambda batch: shown(batch[0], batch[1]), lambda m: m.body(X))


def test_an_index_before_the_input():
    class Model(Base):
        def __init__(self):
            super().__init__()
            self.register_buffer("seen", torch.zeros(N))

        def training_step(self, batch, batch_idx):
            index, x, y = batch
            self.seen[index] += 1
            return F.cross_entropy(self(x), y)

    items = [(i, X[i], Y[i]) for i in range(N)]
    two_rounds(Model(), data(items, target=2), Y, lambda batch: shown(batch[1], batch[2]), lambda m: m.body(X))


def test_class_names_that_a_collate_function_looks_up():
    names = ["cat", "dog", "owl"]

    def collate(items):
        return {"x": torch.stack([x for x, _ in items]), "target": torch.tensor([names.index(n) for _, n in items])}

    class Model(Base):
        def training_step(self, batch, batch_idx):
            return F.cross_entropy(self(batch["x"]), batch["target"])

    items = [(X[i], names[int(Y[i])]) for i in range(N)]
    two_rounds(
        Model(),
        data(items, collate_fn=collate, class_names=names),
        Y,
        lambda batch: shown(batch["x"], batch["target"]),
        lambda m: m.body(X),
    )


def padded(items):
    words, labels = zip(*items, strict=True)
    return pad_sequence(words, batch_first=True), torch.tensor([len(w) for w in words]), torch.tensor(labels)


def of_words(batch):
    return zip((batch[0][:, 0] - 2).tolist(), batch[2].tolist(), strict=True)


def test_packed_sequences():
    class Model(Base):
        def __init__(self):
            super().__init__()
            self.embedding = nn.Embedding(60, D, padding_idx=0)
            self.lstm = nn.LSTM(D, W // 2, batch_first=True, bidirectional=True)

        def forward(self, tokens, lengths):
            packed = pack_padded_sequence(self.embedding(tokens), lengths, batch_first=True, enforce_sorted=False)
            hidden = self.lstm(packed)[1][0]
            return self.head(torch.cat([hidden[-2], hidden[-1]], 1))

        def training_step(self, batch, batch_idx):
            tokens, lengths, y = batch
            return F.cross_entropy(self(tokens, lengths), y)

    items = [(word, int(y)) for word, y in zip(WORDS, Y, strict=True)]
    tokens, lengths, _ = padded(items)
    two_rounds(
        Model(),
        data(items, collate_fn=padded),
        Y,
        of_words,
        lambda m: input_of(m.head, lambda: m(tokens, lengths)),
    )


def test_time_before_items_and_a_mask():
    def collate(items):
        tokens = pad_sequence([word for word, _ in items])
        return (tokens, (tokens == 0).T), torch.tensor([y for _, y in items])

    class Model(Base):
        def __init__(self):
            super().__init__()
            self.embedding = nn.Embedding(60, W)
            self.encoder = nn.TransformerEncoder(nn.TransformerEncoderLayer(W, 2, 32), 1, enable_nested_tensor=False)

        def forward(self, tokens, mask):
            states = self.encoder(self.embedding(tokens), src_key_padding_mask=mask)
            kept = (~mask).T[..., None].float()
            return F.log_softmax(self.head((states * kept).sum(0) / kept.sum(0)), -1)

        def training_step(self, batch, batch_idx):
            (tokens, mask), y = batch
            return F.nll_loss(self(tokens, mask), y)

    items = [(word, int(y)) for word, y in zip(WORDS, Y, strict=True)]
    (tokens, mask), _ = collate(items)
    two_rounds(
        Model(),
        data(items, collate_fn=collate),
        Y,
        lambda batch: zip((batch[0][0][0] - 2).tolist(), batch[1].tolist(), strict=True),
        lambda m: input_of(m.head, lambda: m(tokens, mask)),
    )


def test_bags_of_instances():
    class Model(Base):
        def __init__(self):
            super().__init__()
            self.attention = nn.Linear(W, 1)

        def pooled(self, bag):
            states = self.body(bag)
            return (self.attention(states).softmax(0) * states).sum(0)

        def forward(self, bags):
            return self.head(torch.stack([self.pooled(bag) for bag in bags]))

        def training_step(self, batch, batch_idx):
            return F.cross_entropy(self(batch[0]), batch[1])

    def collate(items):
        return [bag for bag, _ in items], torch.tensor([int(y) for _, y in items])

    two_rounds(
        Model(),
        data(list(zip(BAGS, Y, strict=True)), collate_fn=collate),
        Y,
        lambda batch: shown(torch.stack([bag[0] for bag in batch[0]]), batch[1]),
        lambda m: input_of(m.head, lambda: m(BAGS)),
    )


def test_a_single_output_for_two_classes():
    truth = (Y > 0).long()

    class Model(Base):
        def __init__(self):
            super().__init__()
            self.head = nn.Linear(W, 1)

        def forward(self, x):
            return super().forward(x).squeeze(-1)

        def training_step(self, batch, batch_idx):
            return F.binary_cross_entropy_with_logits(self(batch[0]), batch[1].float())

    items = list(zip(X, truth, strict=True))
    two_rounds(
        Model(),
        data(items, num_classes=2),
        truth,
        lambda batch: shown(batch[0], batch[1]),
        lambda m: m.body(X),
        n_classes=2,
    )
