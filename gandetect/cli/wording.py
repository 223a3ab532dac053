"""What the package tells users of Python, in the words of the command line."""

from __future__ import annotations

# What is said to who writes Python, and what it is here. The tests see that the package still says
# so: a message that is reworded there is to be reworded here.
WORDINGS = (
    ("or pass download=True to fetch", "or add --download to fetch"),
    ("pass it as an argument, or set", "give --data-dir, or set"),
    ("Pass image_size=(height, width) to bring", "--image-size HEIGHT,WIDTH brings"),
    ("channels=1 or channels=3 to bring", "--channels 1 or --channels 3 brings"),
    (
        "Delete it, or pass resume=False to overwrite it.",
        "Without --resume it is overwritten. To train for more epochs what has been trained to its "
        "end, give the saved model as --go-on-from MODEL.",
    ),
    (', or name the anomaly: roc_auc_scorer.with_anomaly_label("fraud").', ""),
    (" (in cross-validation, pass cv=StratifiedKFold()).", ""),
)


def for_commands(message: str) -> str:
    """Return a message of the package, in one line and with options in place of arguments."""
    line = " ".join(message.split())
    for in_python, in_commands in WORDINGS:
        line = line.replace(in_python, in_commands)
    return line
