"""The tables at /admin: a superadmin looks into all of them, and corrects a name here and there.

Only here Starlette and SQLAlchemy meet (sqladmin needs both), which is why it is a layer of its own below the composition
roots. It is imported only where the setting ADMIN_TABLES is on.
"""
