"""Python files that are copied unchanged into an exported Hugging Face folder."""
