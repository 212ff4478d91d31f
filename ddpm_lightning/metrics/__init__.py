"""What a restored image is worth: for each measure a pure function and a thin ``torchmetrics.Metric``.

Read ``protocol.py`` (which scale the numbers live on) and ``collection.py`` (all numbers of one image) first,
then the metric you care about; ``uncertainty.py`` judges the spread of the samples rather than their mean.
"""
