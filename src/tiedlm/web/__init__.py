"""The local page of ``tiedlm explore``: what models predict, and what they have learnt.

``server.py`` serves the pages and the answers, ``security.py`` decides who gets them. ``runs.py``
holds the models. Each view is a file in ``views/``, a template and a script. The page reads run
folders and writes nothing.
"""
