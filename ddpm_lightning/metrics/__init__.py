"""Measures of how good a restored image is: pure functions of tensors, one file for each measure.

Start with ``protocol.py`` (on which scale images are compared) and ``collection.py`` (all numbers of one image), then
read the metric you need. ``uncertainty.py`` assesses the standard deviation over the samples instead of their mean.
``torchmetrics_classes.py`` holds the classes that are logged during training; no other file imports torchmetrics.
"""
