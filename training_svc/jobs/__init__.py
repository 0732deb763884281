"""Training jobs in the service: their store, the runner, the child processes, the promotion."""
