"""From a published archive to pairs on disk. In the order of work: download, archive, layouts, images, build, manifest.

``audit.py``, one folder up, serves every data set.
"""
