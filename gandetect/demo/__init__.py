"""The command ``gandetect demo``: detectors on real data that scikit-learn includes."""

from gandetect.demo.evaluation import Result
from gandetect.demo.run import run_demo

__all__ = ["Result", "run_demo"]
