"""Microscopy simulated from physics: structure, optics and detector as three separate parts.

Read ``scene.py`` (what a structure hands on), one structure such as ``filaments.py``, then ``optics.py``,
``detector.py``, ``degradations.py``, and ``twins.py``, which joins them into the four named data sets.
"""
