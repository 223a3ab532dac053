import matplotlib
import matplotlib.pyplot as plt
import pytest


@pytest.fixture(autouse=True)
def _no_windows():
    matplotlib.use("Agg")
    yield
    plt.close("all")
