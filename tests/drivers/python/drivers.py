"""The drivers of Python. Run as `drivers.py DRIVER plain|fault|version`."""

import asyncio
import sys
from importlib.metadata import version

import steps
from steps import HOST, NAME, PASS, PORT, USER, Driver


class DbApi(Driver):
    """What drivers have in common that follow PEP 249 and commit by themselves when told to."""

    def query(self, sql, arguments=()):
        with self.connection.cursor() as cursor:
            cursor.execute(sql, arguments or None)
            return list(cursor.fetchall())

    def execute(self, sql, arguments=()):
        with self.connection.cursor() as cursor:
            cursor.execute(sql, arguments or None)
            return cursor.lastrowid

    def call(self, sql):
        results = []
        with self.connection.cursor() as cursor:
            cursor.execute(sql)
            while True:
                if cursor.description:
                    results.append(cursor.fetchall())
                if not cursor.nextset():
                    return results

    def commit(self):
        self.connection.commit()

    def rollback(self):
        self.connection.rollback()


class PyMySql(DbApi):
    def __init__(self, password=PASS):
        import pymysql

        self.connection = pymysql.connect(
            host=HOST, port=PORT, user=USER, password=password, database=NAME, autocommit=True,
            local_infile=True)


class MySqlClient(DbApi):
    def __init__(self, password=PASS):
        import MySQLdb

        self.connection = MySQLdb.connect(
            host=HOST, port=PORT, user=USER, passwd=password, db=NAME, charset="utf8mb4",
            autocommit=True, local_infile=1)


class Connector(DbApi):
    """MySQL's own. Its protocol in C does not come with the package for any platform."""

    def __init__(self, password=PASS):
        import mysql.connector

        self.connection = mysql.connector.connect(
            host=HOST, port=PORT, user=USER, password=password, database=NAME, autocommit=True,
            allow_local_infile=True, use_pure=True)

    def prepared(self, sql, arguments):
        with self.connection.cursor(prepared=True) as cursor:
            cursor.execute(sql, arguments)
            return cursor.fetchall()

    def call(self, sql):
        name, arguments = sql.removeprefix("CALL ").rstrip(")").split("(")
        with self.connection.cursor() as cursor:
            cursor.callproc(name, [int(arguments)])
            return [result.fetchall() for result in cursor.stored_results()]

    @staticmethod
    def error(exception):
        return f"{exception.errno}/{exception.sqlstate}", exception.msg


class AsyncMy(Driver):
    loop = asyncio.new_event_loop()

    def __init__(self, password=PASS):
        import asyncmy

        self.connection = self.run(asyncmy.connect(
            host=HOST, port=PORT, user=USER, password=password, db=NAME, autocommit=True,
            charset="utf8mb4", local_infile=True))

    def run(self, task):
        return self.loop.run_until_complete(task)

    def query(self, sql, arguments=()):
        return self.run(self.rows(sql, arguments))[0]

    def execute(self, sql, arguments=()):
        return self.run(self.rows(sql, arguments))[1]

    def call(self, sql):
        return self.run(self.results(sql))

    async def rows(self, sql, arguments):
        async with self.connection.cursor() as cursor:
            await cursor.execute(sql, arguments or None)
            return list(await cursor.fetchall() or ()), cursor.lastrowid

    async def results(self, sql):
        results = []
        async with self.connection.cursor() as cursor:
            await cursor.execute(sql)
            while True:
                if cursor.description:
                    results.append(await cursor.fetchall())
                if not await cursor.nextset():
                    return results

    def commit(self):
        self.run(self.connection.commit())

    def rollback(self):
        self.run(self.connection.rollback())


class SqlAlchemy(Driver):
    """On PyMySQL, with the pool that it has by itself."""

    engines = {}

    def __init__(self, password=PASS):
        import sqlalchemy

        if password not in self.engines:
            url = sqlalchemy.URL.create("mysql+pymysql", USER, password, HOST, PORT, NAME,
                                        {"charset": "utf8mb4", "local_infile": "1"})
            self.engines[password] = sqlalchemy.create_engine(url)
        self.connection = self.engines[password].connect()

    def query(self, sql, arguments=()):
        return [tuple(row) for row in self.connection.exec_driver_sql(sql, arguments or None)]

    def execute(self, sql, arguments=()):
        return self.connection.exec_driver_sql(sql, arguments or None).lastrowid

    def call(self, sql):
        cursor = self.connection.connection.cursor()
        results = []
        cursor.execute(sql)
        while True:
            if cursor.description:
                results.append(cursor.fetchall())
            if not cursor.nextset():
                return results

    def begin(self):
        """It begins a transaction with the first statement, by itself."""
        self.connection.rollback()

    def commit(self):
        self.connection.commit()

    def rollback(self):
        """After a COMMIT that failed this sends nothing, and giving the connection back to the
        pool does not either."""
        self.connection.rollback()

    @staticmethod
    def error(exception):
        return exception.orig.args[:2]


class Django(DbApi):
    """Its own backend, on mysqlclient."""

    count = 0

    def __init__(self, password=PASS):
        import django
        from django.conf import settings
        from django.db import connections

        if not settings.configured:
            settings.configure(DATABASES={"default": self.settings(PASS)})
            django.setup()
        Django.count += 1
        alias = f"connection{self.count}"
        connections.databases[alias] = connections.databases["default"] | {"PASSWORD": password}
        self.connection = connections[alias]
        self.connection.ensure_connection()

    @staticmethod
    def settings(password):
        return {
            "ENGINE": "django.db.backends.mysql", "HOST": HOST, "PORT": PORT, "NAME": NAME,
            "USER": USER, "PASSWORD": password, "CONN_MAX_AGE": None,
            "OPTIONS": {"local_infile": 1},
        }

    def begin(self):
        self.connection.set_autocommit(False)

    def commit(self):
        if not self.connection.get_autocommit():
            self.connection.commit()
            self.connection.set_autocommit(True)

    def rollback(self):
        if not self.connection.get_autocommit():
            self.connection.rollback()
            self.connection.set_autocommit(True)


DRIVERS = {
    "pymysql": PyMySql,
    "mysqlclient": MySqlClient,
    "connector": Connector,
    "asyncmy": AsyncMy,
    "sqlalchemy": SqlAlchemy,
    "django": Django,
}


PACKAGES = {"connector": "mysql-connector-python"}


def main():
    name, part = sys.argv[1:]
    if part == "version":
        print(version(PACKAGES.get(name, name)))
        return
    run = {"plain": steps.plain, "fault": steps.fault}[part]
    run(DRIVERS[name])


if __name__ == "__main__":
    main()
