"""Fitting models, judging them, and showing that nothing looks ahead."""
