"""The service's side of a training: jobs, their queue, their child processes and their outcome."""
