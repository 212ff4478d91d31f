"""Microscopy simulated from physics: structure, optics and detector as three separate parts.

Read ``scene.py`` (the result of a structure), one structure such as ``filaments.py``, then ``optics.py``,
``detector.py``, ``degradations/``, and ``specimens.py``, which combines them into the four simulated data sets.
For training on images of all kinds, ``random_microscope.py`` and ``random_processing.py`` choose the properties at
random.
"""
