"""What may be wrong with recorded data, looked for and said."""
