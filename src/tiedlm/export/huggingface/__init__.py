"""What an exported Hugging Face folder holds: its two Python files, used as they are."""
