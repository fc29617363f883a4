"""What MySQL's, MariaDB's and their client's errors mean, by their words."""

from __future__ import annotations

__all__ = ["ADVICE", "GONE", "TRANSIENT"]

GONE = ("doesn't exist", "Unknown database", "references invalid table")

TRANSIENT = (
    "Can't connect", "Connection refused", "Lost connection", "server has gone away", "Too many connections",
    "max_user_connections", "Lock wait timeout", "Deadlock found", "Server shutdown in progress",
    "Unknown MySQL server host", "Unknown server host", "Connection timed out", "No route to host",
    "Temporary failure in name resolution", "reading initial communication packet", "reading authorization packet",
    "Connection reset", "Connection was killed", "is being shut down", "max_connections", "Broken pipe",
    "Zu viele Verbindungen", "Trop de connexions", "Demasiadas conexiones",
)  # fmt: skip

ADVICE = {
    "(using password: NO)": "name the variable that holds the password with --password-env",
    "(using password: YES)": "set the right password in the variable of --password-env, or the password_file",
    "to database": "grant SELECT on it",
    "command denied": "grant SELECT on it, or leave it out with the option exclude",
    "is not allowed to connect": "the server takes this user from other hosts only",
    "Unknown database": "name another one in the URL, or none for all",
    "max_statement_time": "raise the option statement_timeout",
    "maximum statement execution time": "raise the option statement_timeout",
    "SSL is required": "the server offers no TLS; set the option ssl_mode=preferred if that is acceptable",
    "Lock wait timeout": "somebody alters or locks the table; try again, or raise the option lock_timeout",
    "Too many connections": "lower the option parallel_refresh, or raise the server's max_connections",
    "max_user_connections": "lower the option parallel_refresh, or raise the user's limit",
    "could not be loaded": "DuckDB's client has no such plugin: give the user mysql_native_password or, on MySQL, "
    "caching_sha2_password",
    "uthentication plugin": "DuckDB's client has no such plugin: give the user mysql_native_password or, on MySQL, "
    "caching_sha2_password",
    'field value out of range: "0000': "a zero date has no place in a version; set the option zero_dates=null",
    "-00": "a zero date has no place in a version; set the option zero_dates=null",
}
