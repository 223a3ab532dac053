"""A torch network as a classifier: a frozen copy that reads logits and probabilities."""

from concurrent.futures import ThreadPoolExecutor

import pytest
import torch
from torch import nn

from gandetect.classifiers import ModuleClassifier
from gandetect.classifiers.module import found_output

X = torch.linspace(-1, 1, 12, dtype=torch.float64).reshape(4, 3)


def network(n_out=2, *last):
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(3, 5), nn.Dropout(0.5), nn.Linear(5, n_out), *last)


@pytest.fixture(autouse=True)
def global_generator_is_put_back():
    with torch.random.fork_rng():
        yield


def test_the_callers_network_is_left_as_it_was():
    own = network().train()
    classifier = ModuleClassifier(own, "logits")
    assert own.training
    assert all(p.requires_grad for p in own.parameters())
    assert not any(module.training for module in classifier.module.modules())
    assert not any(p.requires_grad for p in classifier.module.parameters())


def test_dropout_is_off():
    classifier = ModuleClassifier(network(), "logits")
    assert torch.equal(classifier.log_probabilities(X), classifier.log_probabilities(X))


def test_logits_and_their_softmax_are_one_classifier():
    logits = ModuleClassifier(network(), "logits").log_probabilities(X)
    softmax = ModuleClassifier(network(2, nn.Softmax(1)), "probabilities").log_probabilities(X)
    torch.testing.assert_close(logits, softmax)


@pytest.mark.parametrize("last", [(), (nn.Flatten(0),)], ids=["column", "vector"])
def test_one_output_is_the_second_class(last):
    logits = ModuleClassifier(network(1, *last), "logits").log_probabilities(X)
    one = ModuleClassifier(network(1, nn.Sigmoid(), *last), "probabilities").log_probabilities(X)
    assert logits.shape == (4, 2)
    torch.testing.assert_close(logits, one)
    torch.testing.assert_close(logits.exp().sum(1), torch.ones(4))


def test_a_probability_of_nothing_has_a_logarithm():
    class Certain(nn.Module):
        def forward(self, x):
            return torch.tensor([[1.0, 0.0]]).expand(len(x), 2)

    assert ModuleClassifier(Certain(), "probabilities").log_probabilities(X).isfinite().all()


def test_a_network_in_double_precision():
    assert ModuleClassifier(network().double(), "logits").log_probabilities(X).dtype == X.dtype


def test_hidden_layers():
    classifier = ModuleClassifier(network(), "logits")
    log_p, (hidden,) = classifier.with_hidden(X, ["0"])
    assert torch.equal(log_p, classifier.log_probabilities(X))
    assert torch.equal(hidden, classifier.module[0](X.float()))
    assert not classifier.module[0]._forward_hooks


def test_hidden_layers_from_several_threads():
    classifier = ModuleClassifier(network(), "logits")
    parts = [X[:1], X[1:], X, X[2:]] * 20
    with ThreadPoolExecutor(4) as pool:
        hidden = list(pool.map(lambda x: classifier.with_hidden(x, ["0"])[1][0], parts))
    assert [len(h) for h in hidden] == [len(part) for part in parts]


def test_a_hidden_layer_that_is_not_there():
    with pytest.raises(ValueError, match=r"names \['7'\].*\['0', '1', '2'\]"):
        ModuleClassifier(network(), "logits").with_hidden(X, ["7"])


def test_a_network_that_cannot_be_copied():
    own = network()
    own.kept = own[0].weight * 2  # a tensor with a gradient history
    with pytest.raises(TypeError, match="cannot be copied"):
        ModuleClassifier(own, "logits")


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        ([[0.2, 0.8], [1.0, 0.0]], "probabilities"),
        ([[0.2, 0.8], [1.0, 0.1]], "logits"),
        ([[-0.2, 1.2]], "logits"),
        ([[3.0, 4.0]], "logits"),
        ([[0.3], [0.9]], "probabilities"),
        ([[0.3], [1.9]], "logits"),
        ([[-0.3], [0.9]], "logits"),
    ],
)
def test_logits_are_told_from_probabilities(answer, expected):
    assert found_output(torch.tensor(answer)) == expected
