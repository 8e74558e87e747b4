"""Make the pages of docs/ and results/ that studies.reproduction writes."""
