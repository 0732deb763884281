"""MLServer with adaptive batching and parallel inference."""

import json

from classifier import Classifier
from mlserver import MLModel
from mlserver.codecs import StringCodec
from mlserver.types import InferenceRequest, InferenceResponse


class TextModel(MLModel):
    """BYTES tensor `text` in; JSON of `{"label", "score"}` a text out, as BYTES tensor `answer`."""

    async def load(self) -> bool:
        """Load, once in each worker."""
        self.classifier = Classifier()
        return True

    async def predict(self, payload: InferenceRequest) -> InferenceResponse:
        """Compute one batch."""
        texts = StringCodec.decode_input(payload.inputs[0])
        answers = [json.dumps(answer) for answer in self.classifier(texts)]
        return InferenceResponse(
            model_name=self.name,
            outputs=[StringCodec.encode_output("answer", answers)],
        )
