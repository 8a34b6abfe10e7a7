"""PostgreSQL: the engine, the tables, the repositories. The only package that imports SQLAlchemy."""
