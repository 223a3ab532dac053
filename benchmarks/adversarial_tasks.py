"""The tasks of `adversarial.py`: data between 0 and 1, a classifier, and attacks on it.

All random numbers depend on the seed only. Attacked samples and networks are stored in a folder,
because the attacks take longer than the detectors.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.datasets import load_breast_cancer, load_digits
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import train_test_split
from sklearn.neural_network import MLPClassifier
from sklearn.preprocessing import MinMaxScaler
from torch import Tensor, nn

from gandetect.classifiers import taken

TASKS = (
    "mnist/cnn",
    "digits/LogisticRegression",
    "digits/MLP",
    "breast_cancer/LogisticRegression",
    "breast_cancer/MLP",
)
STRENGTHS = ("minimum", "maximum")
# The largest change of a value by an attack, for data between 0 and 1: for MNIST, and for rows.
EPSILONS = {
    "FGSM": (0.3, 0.3),
    "PGD-Linf": (0.3, 0.3),
    "PGD-L2": (3.0, 1.5),
    "SLIDE": (30.0, 4.0),
}
ATTACKS = (*EPSILONS, "CW")
# An attack of fixed size is run at these shares of its epsilon. The smallest successful one is
# "minimum", the largest is "maximum".
SHARES = (0.1, 0.2, 0.4, 0.7, 1.0)
# The confidence of C&W: the margin beyond the decision boundary, in logits.
CONFIDENCES = {"minimum": 0.0, "maximum": 5.0}
_EPOCHS = 4
_BATCH_SIZE = 128


@dataclass(frozen=True, eq=False)
class Task:
    """Clean training and test samples, and the classifier.

    Parameters
    ----------
    X_train, X_test : ndarray of float32
        Rows, or images (n, height, width), between 0 and 1.
    y_train, y_test : ndarray
    classifier : nn.Module or fitted classifier
    """

    X_train: NDArray[np.float32]
    y_train: NDArray[Any]
    X_test: NDArray[np.float32]
    y_test: NDArray[Any]
    classifier: Any

    def labels(self, X: NDArray) -> NDArray:
        """Return the labels that the classifier predicts."""
        model = torch_model(self.classifier, self.X_test)
        with torch.no_grad():
            parts = torch.from_numpy(_with_channel(X)).split(512)
            return torch.cat([model(part).argmax(1) for part in parts]).numpy()

    def probabilities(self, X: NDArray) -> NDArray:
        """Return the class probabilities of the classifier."""
        model = torch_model(self.classifier, self.X_test)
        with torch.no_grad():
            parts = torch.from_numpy(_with_channel(X)).split(512)
            return torch.cat([model(part).softmax(1) for part in parts]).double().numpy()


class _Answering(nn.Module):
    """A converted classifier as a network that returns logits."""

    def __init__(self, form: Any) -> None:
        super().__init__()
        self.form = form

    def forward(self, x: Tensor) -> Tensor:
        return self.form.log_probabilities(x).float()


def torch_model(classifier: Any, X: NDArray) -> nn.Module:
    """Return the classifier as a network from samples (images with a channel axis) to logits."""
    if isinstance(classifier, nn.Module):
        return classifier.eval()
    form = taken(classifier, "auto", torch.from_numpy(X[:2]))
    return _Answering(form).eval()


def make_task(name: str, seed: int, *, data: Path | None, kept: Path, n_test: int) -> Task:
    """Read the data and fit the classifier, or load it from the folder `kept`."""
    dataset, model = name.split("/")
    if dataset == "mnist":
        if data is None:
            raise ValueError("mnist/cnn needs --data, a folder with mnist.npz.")
        return _mnist_task(data / "mnist.npz", seed, kept, n_test)
    X, y = {"digits": load_digits, "breast_cancer": load_breast_cancer}[dataset](return_X_y=True)
    X_train, X_test, y_train, y_test = train_test_split(
        X, y, test_size=0.4, random_state=seed, stratify=y
    )
    scaler = MinMaxScaler().fit(X_train)
    X_train = scaler.transform(X_train).astype(np.float32)
    X_test = scaler.transform(X_test).clip(0, 1).astype(np.float32)[:n_test]
    models: dict[str, Any] = {
        "LogisticRegression": LogisticRegression(C=10, max_iter=2000),
        "MLP": MLPClassifier((64,), max_iter=200, early_stopping=True, random_state=seed),
    }
    classifier = models[model].fit(X_train, y_train)
    return Task(X_train, y_train, X_test, y_test[:n_test], classifier)


def _mnist_task(path: Path, seed: int, kept: Path, n_test: int) -> Task:
    with np.load(path, allow_pickle=False) as arrays:
        images, y, part = arrays["x"], arrays["y"].astype(np.int64), arrays["split"]
    test = np.random.default_rng(seed).permutation(np.flatnonzero(part == 1))[:n_test]
    X_train, y_train = images[part == 0].astype(np.float32) / 255, y[part == 0]
    network = convolutional_network()
    weights = kept / f"mnist-cnn-{seed}.pt"
    if weights.exists():
        network.load_state_dict(torch.load(weights, weights_only=True))
    else:
        train_network(network, X_train, y_train, seed)
        kept.mkdir(parents=True, exist_ok=True)
        torch.save(network.state_dict(), weights)
    return Task(X_train, y_train, images[test].astype(np.float32) / 255, y[test], network)


def convolutional_network() -> nn.Module:
    """Create a network of two convolutions and two dense layers (accuracy on MNIST about 0.99)."""
    return nn.Sequential(
        nn.Conv2d(1, 16, 3, padding=1),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Conv2d(16, 32, 3, padding=1),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Flatten(),
        nn.Linear(32 * 7 * 7, 64),
        nn.ReLU(),
        nn.Dropout(0.3),
        nn.Linear(64, 10),
    )


def train_network(network: nn.Module, X: NDArray, y: NDArray, seed: int) -> None:
    """Train with Adam and a learning rate that decreases to 0."""
    x, target = torch.from_numpy(_with_channel(X)), torch.from_numpy(y)
    optimizer = torch.optim.Adam(network.parameters(), 2e-3)
    n_updates = _EPOCHS * -(-len(x) // _BATCH_SIZE)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, n_updates)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        network.train()
        for _ in range(_EPOCHS):
            for rows in torch.randperm(len(x)).split(_BATCH_SIZE):
                loss = nn.functional.cross_entropy(network(x[rows]), target[rows])
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
                schedule.step()
    network.eval()


def attacked(
    task: Task, name: str, seed: int, attack: str, strength: str, kept: Path
) -> NDArray[np.float32]:
    """Return the attacked test samples, read from the folder `kept` if they are stored there."""
    path = kept / f"{name.replace('/', '-')}-{seed}-{len(task.X_test)}-{attack}-{strength}.npy"
    if not path.exists():
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            attacks = run_attack(task, attack)
        kept.mkdir(parents=True, exist_ok=True)
        for of_strength, X in attacks.items():
            target = kept / path.name.replace(strength, of_strength)
            np.save(target, X.reshape(task.X_test.shape))
    return np.load(path)


def run_attack(task: Task, attack: str) -> dict[str, NDArray[np.float32]]:
    """Attack all test samples with foolbox at both strengths; keep a sample if the attack fails.

    Parameters
    ----------
    task : Task
    attack : str
        One of `ATTACKS`.
    """
    try:
        import foolbox
    except ImportError as error:
        raise ImportError(f'{error}; install the extra: pip install "gandetect[bench]"') from error
    model = foolbox.PyTorchModel(torch_model(task.classifier, task.X_test), bounds=(0, 1))
    is_image = task.X_test.ndim == 3
    x = torch.from_numpy(_with_channel(task.X_test))
    # The attacks start from the predicted labels; a sample that is already misclassified needs no
    # attack.
    y = torch.from_numpy(task.labels(task.X_test))
    if attack == "CW":
        return {
            strength: _carlini_wagner(foolbox, model, x, y, CONFIDENCES[strength], is_image)
            for strength in STRENGTHS
        }
    make: dict[str, Callable[[], Any]] = {
        "FGSM": foolbox.attacks.LinfFastGradientAttack,
        "PGD-Linf": lambda: foolbox.attacks.LinfPGD(steps=40, rel_stepsize=0.05),
        "PGD-L2": lambda: foolbox.attacks.L2PGD(steps=40, rel_stepsize=0.05),
        "SLIDE": lambda: foolbox.attacks.SparseL1DescentAttack(steps=40, quantile=0.95),
    }
    epsilons = [share * EPSILONS[attack][0 if is_image else 1] for share in SHARES]
    _, found, fooled = make[attack]()(model, x, y, epsilons=epsilons)
    minimum, maximum = x.clone(), x.clone()
    for x_adv, is_fooled in zip(reversed(found), reversed(fooled), strict=True):
        minimum[is_fooled] = x_adv[is_fooled]
    for x_adv, is_fooled in zip(found, fooled, strict=True):
        maximum[is_fooled] = x_adv[is_fooled]
    return {"minimum": minimum.numpy(), "maximum": maximum.numpy()}


def _carlini_wagner(
    foolbox: Any, model: Any, x: Tensor, y: Tensor, confidence: float, is_image: bool
) -> NDArray[np.float32]:
    settings: dict[str, Any] = {"binary_search_steps": 5, "steps": 200 if is_image else 100}
    attack = foolbox.attacks.L2CarliniWagnerAttack(
        stepsize=0.05, confidence=confidence, initial_const=1.0, **settings
    )
    _, x_adv, is_fooled = attack(model, x, y, epsilons=None)
    return torch.where(is_fooled.reshape(-1, *[1] * (x.ndim - 1)), x_adv, x).numpy()


def _with_channel(X: NDArray) -> NDArray:
    return X[:, None] if X.ndim == 3 else X
