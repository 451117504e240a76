"""What is fitted to examples, whatever they stand for, and how it is served without torch."""

import os

# ONNX Runtime tells its maker of its use unless it is asked not to. A trading host talks to its venues only.
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
