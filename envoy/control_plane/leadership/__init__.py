"""Which of several control planes changes things: one leads, the others only show and route."""
