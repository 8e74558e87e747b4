"""The local page of ``tiedlm explore``, which shows what models predict and have learnt.

``server.py`` serves the pages and their answers, and ``security.py`` decides who may ask.
``runs.py`` holds the models. Each view of the page is a file in ``views/``, which computes the
answers, with a template and a script. The page reads run folders and writes nothing.
"""
