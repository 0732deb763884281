"""The door in front of MLflow: it checks tokens, hosts, origins and places of files.

MLflow's image has this folder and MLflow's own libraries, so nothing else of the project is used.
"""
