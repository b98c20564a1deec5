"""The database behind the store port: SQLAlchemy Core, migrations by Alembic."""
