"""Shared by every change of a model: its lock, answers by request id, retries, time stamps."""
