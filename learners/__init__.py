"""What is fitted to examples, whatever they stand for, and how it is served without torch."""
