"""Every feature, one declaration each, grouped by what it measures. A new module here is found by itself."""
