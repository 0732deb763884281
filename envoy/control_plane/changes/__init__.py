"""Ground of every change of a model: its lock, answers by request id, retries, and time stamps."""
