"""The models that trainings may start from, and their download from the Hugging Face hub."""
