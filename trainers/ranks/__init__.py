"""The processes that train together: talking, hanging, stopping and staging as one."""
