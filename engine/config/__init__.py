"""Configs: what a run may say, read from TOML with every problem named at once."""

from engine.config.reading import load_settings, settings_from, to_toml
from engine.config.settings import LiveSettings, RunConfig, load_config, output_folder

__all__ = [
    "LiveSettings",
    "RunConfig",
    "load_config",
    "load_settings",
    "output_folder",
    "settings_from",
    "to_toml",
]
