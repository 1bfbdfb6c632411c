//! What each program finds in its schema.

use std::io::Write;

use failsoft_tests::Stack;
use tempfile::NamedTempFile;
use testkit::execute;

const TABLES: &[&str] = &[
    "CREATE TABLE t (id INT PRIMARY KEY, v TEXT)",
    "INSERT INTO t VALUES (1, 'one')",
    "CREATE TABLE kinds (id INT PRIMARY KEY, ti TINYINT, tu TINYINT UNSIGNED, si SMALLINT, \
     mi MEDIUMINT, bi BIGINT, bu BIGINT UNSIGNED, de DECIMAL(30,10), fl FLOAT, dou DOUBLE, \
     bit9 BIT(9), ch CHAR(10), vc VARCHAR(200), bin BINARY(4), vb VARBINARY(20), tx TEXT, bl BLOB, \
     en ENUM('a','b'), se SET('x','y','z'), da DATE, ti0 TIME, ti6 TIME(6), dt DATETIME, \
     dt6 DATETIME(6), ts TIMESTAMP NULL, ye YEAR, js JSON)",
    "INSERT INTO kinds VALUES (1, -128, 255, -32768, -8388608, -9223372036854775808, \
     18446744073709551615, -12345678901234567890.0123456789, 1.5, -2.5e-300, b'100000001', 'char', \
     'vär', 'b', X'00FF', 'text\\n😀', X'000102FEFF', 'b', 'x,z', '2020-02-29', '12:34:56', \
     '23:59:59.123456', '1000-01-01 00:00:00', '9999-12-31 23:59:59.999999', \
     '2001-02-03 04:05:06', 2155, '{\"a\": [1, null, \"ä\"]}')",
    "INSERT INTO kinds VALUES (2, 127, 0, 32767, 8388607, 9223372036854775807, 0, 0, -0.5, 1e300, \
     b'0', '', '', '', '', '', '', 'a', '', '1000-01-01', '00:00:00', '00:00:00', \
     '2020-02-29 23:59:59', '2020-02-29 00:00:00.000001', '2037-12-31 23:59:59', 1901, '[]')",
    "INSERT INTO kinds (id) VALUES (3)",
    "CREATE TABLE params (a INT, b VARCHAR(20), c INT, d DOUBLE)",
    "CREATE TABLE blobs (id INT PRIMARY KEY, b LONGBLOB)",
    "CREATE TABLE auto (id INT PRIMARY KEY AUTO_INCREMENT, v VARCHAR(50) UNIQUE)",
    "CREATE TABLE loaded (a INT, b VARCHAR(50))",
    "CREATE TABLE fault (what VARCHAR(20))",
    "CREATE PROCEDURE several(IN n INT) BEGIN SELECT n AS one; \
     SELECT n + 1 AS two UNION ALL SELECT n + 2; SET @called = n; SELECT 'end' AS three; END",
];

/// Makes a schema anew on the master; the file to load from a client, which goes when dropped.
pub(crate) async fn make(stack: &Stack, schema: &str) -> NamedTempFile {
    let mut direct = stack.direct(stack.pair.master.port()).await;
    execute(&mut direct, &format!("DROP DATABASE IF EXISTS {schema}")).await;
    execute(&mut direct, &format!("CREATE DATABASE {schema}")).await;
    execute(&mut direct, &format!("USE {schema}")).await;
    for statement in TABLES {
        execute(&mut direct, statement).await;
    }
    direct.disconnect().await.unwrap();
    let mut file = NamedTempFile::new().unwrap();
    file.write_all("1,one\n2,zwölf\n3,😀\n".as_bytes()).unwrap();
    file
}
