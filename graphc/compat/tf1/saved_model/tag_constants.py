"""`tf.saved_model.tag_constants`."""

from typing import Final

GPU: Final = "gpu"
SERVING: Final = "serve"
TPU: Final = "tpu"
TRAINING: Final = "train"
