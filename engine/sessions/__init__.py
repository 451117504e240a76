"""Runs: a backtest or a live session, from its parts to its folder."""
