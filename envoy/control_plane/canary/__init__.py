"""Progressive delivery: a Challenger gets more traffic step by step, judged by live numbers."""
