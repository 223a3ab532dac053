"""The main job on real data that ships with scikit-learn: what ``gandetect demo`` runs."""

from gandetect.demo.evaluation import Result
from gandetect.demo.run import run_demo

__all__ = ["Result", "run_demo"]
