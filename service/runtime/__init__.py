"""Text to token ids to packed tensors to onnxruntime and back to numbers."""
