"""Fixtures that every test may use. The scripted model is in fake_model.py, beside this file."""
