"""Writes the model in MLflow's own format: `save.py FOLDER`."""

import os
import sys

import mlflow.transformers
from transformers import AutoModelForSequenceClassification, AutoTokenizer

folder = os.environ["BENCH_MODEL"]
mlflow.transformers.save_model(
    {
        "model": AutoModelForSequenceClassification.from_pretrained(folder),
        "tokenizer": AutoTokenizer.from_pretrained(folder),
    },
    sys.argv[1],
    task="text-classification",
    pip_requirements=[],
)
