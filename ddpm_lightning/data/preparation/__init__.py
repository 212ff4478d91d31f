"""From a published archive to pairs on disk. In the order of work: download, archive, layouts, images, build, manifest.

``splits.py``, ``registration.py`` and ``audit.py``, one folder up, serve every data set.
"""
