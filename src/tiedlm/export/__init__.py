"""Export trained models for other programs, as a Hugging Face folder or ONNX files."""

from tiedlm.export.hf import HuggingFaceReport, export_hf
from tiedlm.export.onnx_files import OnnxReport, export_onnx

__all__ = ["HuggingFaceReport", "OnnxReport", "export_hf", "export_onnx"]
