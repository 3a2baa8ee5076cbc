"""encserve: text embeddings and classification over HTTP from fine-tuned ONNX encoders."""

__version__ = "0.1.0"
