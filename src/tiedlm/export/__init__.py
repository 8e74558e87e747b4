"""Export trained models for other programs, as a Hugging Face folder or ONNX files.

- ``hf.py`` writes the Hugging Face folder, with the code in ``huggingface/``, the card of
  ``model_card.py`` and a tokenizer (``word_tokenizer.py``, ``piece_tokenizer.py``,
  ``start_of_text.py``). ``revisions.py`` writes one folder for each checkpoint.
- ``onnx_files.py`` writes the ONNX files, with the graphs of ``onnx_graph.py`` and
  ``onnx_networks.py``. ``onnx_check.py`` checks them.
- ``supported.py`` refuses networks that a format does not have.
"""

from tiedlm.export.hf import HuggingFaceReport, export_hf
from tiedlm.export.onnx_files import OnnxReport, export_onnx

__all__ = ["HuggingFaceReport", "OnnxReport", "export_hf", "export_onnx"]
