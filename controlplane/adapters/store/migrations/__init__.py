"""Alembic's folder: env.py runs the scripts of versions/ on a connection that migrate.py hands over."""
