"""A trained model for other programs: a Hugging Face folder, ONNX files."""

from tiedlm.export.hf import HuggingFaceReport, export_hf
from tiedlm.export.onnx_files import OnnxReport, export_onnx

__all__ = ["HuggingFaceReport", "OnnxReport", "export_hf", "export_onnx"]
