"""A module per table: its questions and changes, each with its SQL, and the rows they answer with.

A question is one method: it hands a function of the connection to the writer thread (`Access`) and
returns typed rows. What must be one transaction over several tables is put together from the
functions of their modules.
"""
