"""The layer that embeds inputs: its formulas, its parameters and which inputs it takes."""

from __future__ import annotations

import math

import pytest
import torch

from sweeper.models import Cohort, TrainConfig, TrialConfig, build_mlp, n_parameters
from sweeper.models.embedding import layout_of
from tests.tiny import tiny_data

PLR = TrialConfig(numeric_embedding="plr", frequencies=3, embedding_size=4, hidden_layers=(5,))
PBLD = TrialConfig(numeric_embedding="pbld", frequencies=3, embedding_size=4, hidden_layers=(5,))


@pytest.mark.parametrize("config", [PLR, PBLD], ids=["plr", "pbld"])
def test_each_number_is_embedded_as_published(config: TrialConfig) -> None:
    model, x = build_mlp(config, 2, 1, seed=0), torch.randn(7, 2)
    own = dict(model.embedding.named_parameters())
    with torch.no_grad():
        made = model.embedding(x)
        for row in range(7):
            for number in range(2):
                value = x[row, number]
                angle = 2 * math.pi * value * own["frequencies"][number]
                if config is PLR:
                    waves = torch.cat([angle.cos(), angle.sin()])
                    wanted = torch.relu(own["weight"][number] @ waves + own["bias"][number])
                else:
                    waves = (angle + own["phases"][number]).cos()
                    wanted = torch.cat([value[None], own["weight"][number] @ waves + own["bias"][number]])
                torch.testing.assert_close(made[row, 4 * number : 4 * number + 4], wanted)


def test_a_text_column_with_many_values_is_looked_up_and_an_unknown_value_is_zeros() -> None:
    config = TrialConfig(category_embedding=3, max_one_hot=2, hidden_layers=(5,))
    columns = [0, 1, 1, 2, 2, 2]
    model = build_mlp(config, 6, 1, seed=0, columns=columns)
    table = model.state_dict()["embedding.categories.0"]
    x = torch.tensor([[0.5, 1, 0, 0, 0, 1], [0.5, 0, 1, 0, 0, 0]])
    wanted = torch.cat([x[:, :3], torch.stack([table[2], torch.zeros(3)])], dim=1)
    with torch.no_grad():
        assert torch.equal(model.embedding(x), wanted)
    assert model[1].in_features == 6
    layout = layout_of(config.embedding, columns, 6)
    assert n_parameters((6, 5, 1), layout=layout) == sum(p.numel() for p in model.parameters())


def test_frequencies_start_from_their_scale() -> None:
    config = TrialConfig(numeric_embedding="plr", frequencies=200, frequency_scale=0.05)
    frequencies = build_mlp(config, 50, 1, seed=1).state_dict()["embedding.frequencies"]
    assert frequencies.std().item() == pytest.approx(0.05, rel=0.05)


def test_inputs_that_are_not_embedded_leave_the_network_as_it_was() -> None:
    config = TrialConfig(category_embedding=8, hidden_layers=(5,))
    plain = build_mlp(TrialConfig(hidden_layers=(5,)), 4, 1, seed=0)
    same = build_mlp(config, 4, 1, seed=0, columns=[0, 1, 1, 1])
    assert list(same.state_dict()) == list(plain.state_dict())
    assert torch.equal(same[0].weight, plain[0].weight)


def test_what_cannot_be_embedded_is_refused() -> None:
    with pytest.raises(ValueError, match="embedding_size is 1: it must be 2 or more"):
        TrialConfig(numeric_embedding="pbld", embedding_size=1)
    with pytest.raises(ValueError, match="numeric_embedding is 'ple'"):
        TrialConfig(numeric_embedding="ple")
    cohort = Cohort(TrainConfig(batch_size=8), (5,), tiny_data(), width=1)
    with pytest.raises(ValueError, match="is not this cohort's None"):
        cohort.admit(0, PLR, seed=0)
