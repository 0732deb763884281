"""The parts of the gate in front of MLflow, without MLflow."""
