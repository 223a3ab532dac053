"""Real and generated samples go through the networks in passes of their own, in every method.

Batch normalisation couples the samples of a pass: in one pass for both halves, what a network says
of real samples, and the gradients that follow, would depend on the generated ones.
"""

import numpy as np
import pytest
import torch
from torch import nn

from gandetect import (
    AdversarialVAEDetector,
    ALOCCDetector,
    BiGANDetector,
    ConvNet,
    GANomalyDetector,
    RDNADetector,
)

IMAGES = np.random.default_rng(0).random((16, 16, 16))


class Classifier(nn.Module):
    """A classifier with batch normalisation."""

    def __init__(self):
        super().__init__()
        self.layers = nn.Sequential(nn.Flatten(), nn.LazyLinear(4), nn.BatchNorm1d(4))
        with torch.random.fork_rng():
            torch.manual_seed(0)
            self.layers(torch.rand(8, 256))

    def forward(self, x):
        return self.layers(x)


def calls_in_a_step(in_training, detector, judge, changed):
    """What one network was given and answered in the calls of a step, in their order.

    With `changed`, the weights of the network of this name are others than without.
    """
    detector.set_params(
        n_estimators=1, random_state=0, latent_dim=4, architecture=ConvNet(n_filters=4)
    )
    model, run, x = in_training(detector, IMAGES, 16)
    if changed:
        with torch.no_grad():
            for weight in getattr(model, changed).parameters():
                weight.mul_(1.5)
    network = model.classifier.module if judge == "classifier" else getattr(model, judge)
    calls = []

    def keep(_, inputs, output):
        first = output[0] if isinstance(output, tuple) else output
        calls.append(([values.detach().clone() for values in inputs], first.detach().clone()))

    network.register_forward_hook(keep)
    run.random.generator.manual_seed(1)
    model.training_step(x, run)
    return calls


@pytest.mark.parametrize(
    ("detector", "judge", "changed"),
    [
        (GANomalyDetector(), "discriminator", "decoder"),
        (GANomalyDetector(adversarial_loss="bce"), "discriminator", "decoder"),
        (BiGANDetector(), "discriminator", "generator"),
        (BiGANDetector(), "discriminator", "encoder"),
        (BiGANDetector(), "generator", "encoder"),
        (BiGANDetector(variant="alad"), "discriminator_xx", "generator"),
        (BiGANDetector(variant="alad"), "encoder", "generator"),
        (ALOCCDetector(), "discriminator", "refiner"),
        (ALOCCDetector(adversarial_loss="wasserstein"), "discriminator", "refiner"),
        (RDNADetector(), "sample_discriminator", "reconstructor"),
        (RDNADetector(), "mask_discriminator", "discriminant"),
        (AdversarialVAEDetector(classifier=Classifier()), "classifier", "decoder"),
    ],
    ids=lambda value: str(value),
)
def test_one_half_is_judged_whatever_the_other_is(in_training, detector, judge, changed):
    before = calls_in_a_step(in_training, detector, judge, None)
    after = calls_in_a_step(in_training, detector, judge, changed)
    assert len(before) == len(after)
    n_same = 0
    for (inputs, answer), (inputs_after, answer_after) in zip(before, after, strict=True):
        if all(torch.equal(a, b) for a, b in zip(inputs, inputs_after, strict=True)):
            assert torch.equal(answer, answer_after)
            n_same += 1
    # The calls of one half saw the same, those of the other something else.
    assert 0 < n_same < len(before)


@pytest.mark.parametrize("adversarial_loss", ["feature", "bce"])
def test_ganomalys_generator_learns_from_its_own_half(in_training, adversarial_loss):
    """Its gradient is that of its loss where the discriminator sees one half at a time."""
    detector = GANomalyDetector(
        n_estimators=1,
        random_state=0,
        reconstruction_weight=0.0,
        latent_weight=0.0,
        adversarial_loss=adversarial_loss,
        architecture=ConvNet(n_filters=4),
    )
    model, run, x = in_training(detector, IMAGES, 16)
    logits, features = model.discriminator(model.decoder(model.encoder(x)))
    if adversarial_loss == "bce":
        loss = nn.functional.softplus(-logits).mean()
    else:
        real_features = model.discriminator(x)[1].detach()
        loss = (features - real_features).square().mean()
    weights = [*model.encoder.parameters(), *model.decoder.parameters()]
    expected = torch.autograd.grad(loss, weights)
    before = [weight.detach().clone() for weight in weights]
    run.optimizers["generator"] = torch.optim.SGD(weights, lr=1.0)
    model.training_step(x, run)
    for weight, was, gradient in zip(weights, before, expected, strict=True):
        torch.testing.assert_close(was - weight.detach(), gradient, rtol=1e-3, atol=1e-6)
