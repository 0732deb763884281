"""Flask, one text a call, as behind uWSGI and nginx."""

from typing import Any

from classifier import Classifier
from flask import Flask, request

app = Flask(__name__)
# uWSGI runs with lazy-apps, so each worker loads the model after the fork.
classifier = Classifier()


@app.post("/predict")
def predict() -> dict[str, Any]:
    """`{"text": …}` in, `{"label", "score"}` out."""
    return classifier([request.get_json()["text"]])[0]


@app.get("/ready")
def ready() -> str:
    """The model is loaded."""
    return "yes"
