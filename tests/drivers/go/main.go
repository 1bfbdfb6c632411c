// go-sql-driver/mysql of Go. Run as `run.sh plain|fault|version`; prints lines of
// `step<TAB>value`, see ../README.md.
package main

import (
	"bufio"
	"bytes"
	"context"
	"database/sql"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strings"

	"github.com/go-sql-driver/mysql"
)

const text = "ä€😀"
const read = "SELECT v FROM t WHERE id < ?"

var all = context.Background()
var input = bufio.NewReader(os.Stdin)

// A connection of a pool that has no other.
func session(password string) (*sql.Conn, error) {
	config := mysql.NewConfig()
	config.Net, config.Addr = "tcp", os.Getenv("DB_HOST")+":"+os.Getenv("DB_PORT")
	config.User, config.Passwd, config.DBName = os.Getenv("DB_USER"), password, os.Getenv("DB_NAME")
	config.AllowAllFiles, config.MultiStatements = true, true
	config.MaxAllowedPacket = 64 << 20
	pool, err := sql.Open("mysql", config.FormatDSN())
	if err != nil {
		return nil, err
	}
	pool.SetMaxOpenConns(1)
	return pool.Conn(all)
}

func open() *sql.Conn {
	one, err := session(os.Getenv("DB_PASS"))
	if err != nil {
		panic(err)
	}
	return one
}

func say(step, value string) {
	fmt.Printf("%s\t%s\n", step, strings.ReplaceAll(value, "\n", "\\n"))
}

func wait(step string) {
	fmt.Printf("ready %s\n", step)
	if _, err := input.ReadString('\n'); err != nil {
		panic("nobody answers")
	}
}

func told(err error) string {
	var server *mysql.MySQLError
	switch {
	case err == nil:
		return "ok"
	case errors.As(err, &server):
		return fmt.Sprintf("%d %s", server.Number, server.Message)
	default:
		return err.Error()
	}
}

// The number of an error; or that there is none.
func failure(err error) string {
	var server *mysql.MySQLError
	if errors.As(err, &server) {
		return fmt.Sprint(server.Number)
	}
	return told(err)
}

func must(err error) {
	if err != nil {
		panic(err)
	}
}

func exec1(one *sql.Conn, statement string, arguments ...interface{}) sql.Result {
	result, err := one.ExecContext(all, statement, arguments...)
	must(err)
	return result
}

// The rows of all results.
func results(one *sql.Conn, statement string, arguments ...interface{}) [][][]string {
	rows, err := one.QueryContext(all, statement, arguments...)
	must(err)
	defer rows.Close()
	found := [][][]string{}
	for {
		if columns, err := rows.Columns(); err == nil && len(columns) > 0 {
			found = append(found, scan(rows, len(columns)))
		}
		if !rows.NextResultSet() {
			must(rows.Err())
			return found
		}
	}
}

func scan(rows *sql.Rows, columns int) [][]string {
	found := [][]string{}
	for rows.Next() {
		values, places := make([]interface{}, columns), make([]interface{}, columns)
		for at := range values {
			places[at] = &values[at]
		}
		must(rows.Scan(places...))
		shown := []string{}
		for _, value := range values {
			switch value := value.(type) {
			case nil:
				shown = append(shown, "nil")
			case []byte:
				shown = append(shown, string(value))
			default:
				shown = append(shown, fmt.Sprint(value))
			}
		}
		found = append(found, shown)
	}
	return found
}

func rows(one *sql.Conn, statement string, arguments ...interface{}) [][]string {
	return results(one, statement, arguments...)[0]
}

func shown(rows [][]string) string {
	return fmt.Sprintf("%q", rows)
}

func blob(one *sql.Conn) string {
	blob := bytes.Repeat([]byte{0, 1, '\'', '\\', 0xff, 'a', '\n', '"'}, 20<<17)
	exec1(one, "INSERT INTO blobs VALUES (1, ?)", blob)
	back := rows(one, "SELECT b FROM blobs")[0][0]
	if back == string(blob) {
		return fmt.Sprintf("%d same", len(back))
	}
	return fmt.Sprintf("%d other", len(back))
}

func transaction(one *sql.Conn) string {
	kept, err := one.BeginTx(all, nil)
	must(err)
	_, err = kept.Exec("INSERT INTO auto (v) VALUES ('committed')")
	must(err)
	must(kept.Commit())
	undone, err := one.BeginTx(all, nil)
	must(err)
	_, err = undone.Exec("INSERT INTO auto (v) VALUES ('rolled back')")
	must(err)
	must(undone.Rollback())
	count := "SELECT COUNT(*) FROM auto WHERE v = ?"
	return rows(one, count, "committed")[0][0] + " " + rows(one, count, "rolled back")[0][0]
}

func lastId(one *sql.Conn) string {
	given, err := exec1(one, "INSERT INTO auto (v) VALUES ('id')").LastInsertId()
	must(err)
	return fmt.Sprint(given) + " " + rows(one, "SELECT LAST_INSERT_ID()")[0][0]
}

func call(one *sql.Conn) string {
	shown := []string{}
	for _, result := range results(one, "CALL several(7)") {
		first := []string{}
		for _, row := range result {
			first = append(first, row[0])
		}
		shown = append(shown, strings.Join(first, ","))
	}
	return strings.Join(shown, " | ")
}

func temporary(one *sql.Conn) string {
	exec1(one, "CREATE TEMPORARY TABLE mine (a INT)")
	exec1(one, "INSERT INTO mine VALUES (1), (2)")
	return rows(one, "SELECT COUNT(*) FROM mine")[0][0]
}

func variables(one *sql.Conn) string {
	exec1(one, "SET SESSION group_concat_max_len = 12345")
	exec1(one, "SET @x = 'x'")
	return strings.Join(rows(one, "SELECT @@group_concat_max_len, @x")[0], " ")
}

func parameters(one *sql.Conn) string {
	exec1(one, "INSERT INTO params VALUES (?, ?, ?, ?)", 42, text, nil, 1.5)
	return shown(rows(one, "SELECT * FROM params"))
}

func errorsOf(one *sql.Conn) string {
	_, twice := one.ExecContext(all, "INSERT INTO auto (v) VALUES ('committed')")
	_, nowhere := one.QueryContext(all, "SELECT * FROM nowhere")
	return told(twice) + " ; " + told(nowhere)
}

func load(one *sql.Conn) string {
	exec1(one, "LOAD DATA LOCAL INFILE '"+os.Getenv("LOAD_FILE")+"' INTO TABLE loaded FIELDS TERMINATED BY ','")
	return rows(one, "SELECT COUNT(*) FROM loaded")[0][0]
}

func step(name string, action func() string) {
	defer func() {
		if failed := recover(); failed != nil {
			say(name, fmt.Sprint("failed: ", failed))
		}
	}()
	say(name, action())
}

func plain() {
	_, err := session("wrong")
	say("wrong password", told(err))
	one := open()
	say("connect", "ok")
	step("types, text", func() string { return shown(rows(one, "SELECT * FROM kinds ORDER BY id")) })
	step("types, prepared", func() string { return shown(rows(one, "SELECT * FROM kinds WHERE id > ? ORDER BY id", 0)) })
	step("parameters", func() string { return parameters(one) })
	step("utf8mb4", func() string {
		return strings.Join(rows(one, "SELECT ?, CHAR_LENGTH(?), HEX(?)", text, text, text)[0], " ")
	})
	step("transaction", func() string { return transaction(one) })
	step("last id", func() string { return lastId(one) })
	step("CALL", func() string { return call(one) })
	step("temporary table", func() string { return temporary(one) })
	step("variables", func() string { return variables(one) })
	step("1062, 1146", func() string { return errorsOf(one) })
	step("LOAD DATA", func() string { return load(one) })
	step("20 MB", func() string { return blob(one) })
}

func fault() {
	unsure := open()
	rows(unsure, "SELECT 1")
	wait("answer")
	_, err := unsure.ExecContext(all, "INSERT INTO fault VALUES ('answered')")
	say("answer lost", failure(err))
	reader, other := open(), open()
	exec1(reader, "SET @mark = 'kept'")
	prepared, err := reader.PrepareContext(all, read)
	must(err)
	var value string
	must(prepared.QueryRow(2).Scan(&value))
	torn, err := other.BeginTx(all, nil)
	must(err)
	_, err = torn.Exec("INSERT INTO fault VALUES ('torn')")
	must(err)
	rows(unsure, "SELECT 1")
	wait("kill")
	_, err = unsure.ExecContext(all, "INSERT INTO fault SELECT IF(SLEEP(600), 'x', 'unknown')")
	say("write in flight", failure(err))
	step("read", func() string {
		return strings.Join(rows(reader, "SELECT v, @mark FROM t WHERE id = 1")[0], " ")
	})
	step("prepared read", func() string {
		must(prepared.QueryRow(2).Scan(&value))
		return value
	})
	_, err = reader.ExecContext(all, "INSERT INTO fault VALUES ('refused')")
	say("write", failure(err))
	_, err = torn.Exec("DELETE FROM fault")
	say("transaction", failure(err))
	// It ends the transaction also where it fails; a Rollback after it sends nothing.
	say("COMMIT", failure(torn.Commit()))
	wait("back")
	_, err = reader.ExecContext(all, "INSERT INTO fault VALUES ('again')")
	say("write again", failure(err))
	_, err = other.ExecContext(all, "INSERT INTO fault VALUES ('again, torn')")
	say("write again", failure(err))
}

// The version that Debian's package has; the driver does not tell its own.
func version() {
	package_ := "golang-github-go-sql-driver-mysql-dev"
	told, err := exec.Command("dpkg-query", "-W", "-f", "${source:Upstream-Version}", package_).Output()
	must(err)
	fmt.Println(string(told))
}

func main() {
	map[string]func(){"plain": plain, "fault": fault, "version": version}[os.Args[1]]()
}
