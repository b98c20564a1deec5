"""The statements of the store, in SQLAlchemy Core and in SQL that SQLite and MySQL both speak.

Each subject has a file, in the order of ports/store.py; transaction.py puts them together.

What is asked for with every join, leaving, report or publisher's report is built once, at the head of its
file, and given its values when it is executed: building a statement anew costs three to five times what
executing it does. Parameters of its WHERE are called of_...: the names of columns are taken, by what is SET.
"""
