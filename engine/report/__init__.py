"""What a run leaves for people: figures, and pages that open offline."""
