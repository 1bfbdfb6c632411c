<?php
// The drivers of PHP. Run as `php drivers.php mysqli|pdo plain|fault|version`.

require __DIR__ . '/steps.php';

final class MysqliDriver implements Driver
{
    private mysqli $link;

    public function __construct(?string $password = null)
    {
        $this->link = mysqli_init();
        $this->link->options(MYSQLI_OPT_LOCAL_INFILE, true);
        $this->link->real_connect(getenv('DB_HOST'), getenv('DB_USER'), $password ?? getenv('DB_PASS'),
            getenv('DB_NAME'), (int) getenv('DB_PORT'));
        $this->link->set_charset('utf8mb4');
    }

    public function query(string $sql): array
    {
        $result = $this->link->query($sql);
        return $result instanceof mysqli_result ? $result->fetch_all() : [];
    }

    public function prepared(string $sql, array $arguments): array
    {
        $statement = $this->link->prepare($sql);
        $statement->execute($arguments);
        return $statement->get_result()->fetch_all();
    }

    public function execute(string $sql, array $arguments): void
    {
        $this->link->prepare($sql)->execute($arguments);
    }

    public function call(string $sql): array
    {
        $this->link->multi_query($sql);
        $results = [];
        do {
            if ($result = $this->link->store_result()) {
                $results[] = $result->fetch_all();
            }
        } while ($this->link->more_results() && $this->link->next_result());
        return $results;
    }

    public function lastId(): string
    {
        return (string) $this->link->insert_id;
    }

    public function begin(): void
    {
        $this->link->begin_transaction();
    }

    /** Unlike its statements, this one answers false where it fails. */
    public function commit(): void
    {
        $this->link->commit() || throw new mysqli_sql_exception($this->link->error, $this->link->errno);
    }

    public function rollback(): void
    {
        $this->link->rollback() || throw new mysqli_sql_exception($this->link->error, $this->link->errno);
    }

    public static function error(Throwable $error): array
    {
        return [$error->getCode(), $error instanceof mysqli_sql_exception ? $error->getSqlState() : '', $error->getMessage()];
    }
}

/** With statements prepared by the server, which is not how it comes. */
final class PdoDriver implements Driver
{
    private PDO $link;

    public function __construct(?string $password = null)
    {
        [$host, $port, $name] = array_map('getenv', ['DB_HOST', 'DB_PORT', 'DB_NAME']);
        $this->link = new PDO("mysql:host=$host;port=$port;dbname=$name;charset=utf8mb4", getenv('DB_USER'),
            $password ?? getenv('DB_PASS'), [PDO::MYSQL_ATTR_LOCAL_INFILE => true, PDO::ATTR_EMULATE_PREPARES => false]);
    }

    public function query(string $sql): array
    {
        // What it sends itself is sent as text; rows of a statement without any are an error.
        $emulate = fn (bool $on) => $this->link->setAttribute(PDO::ATTR_EMULATE_PREPARES, $on);
        $emulate(true);
        try {
            $statement = $this->link->query($sql);
            return $statement->columnCount() ? $statement->fetchAll(PDO::FETCH_NUM) : [];
        } finally {
            $emulate(false);
        }
    }

    public function prepared(string $sql, array $arguments): array
    {
        $statement = $this->link->prepare($sql);
        $statement->execute($arguments);
        return $statement->fetchAll(PDO::FETCH_NUM);
    }

    public function execute(string $sql, array $arguments): void
    {
        $this->link->prepare($sql)->execute($arguments);
    }

    public function call(string $sql): array
    {
        $statement = $this->link->query($sql);
        $results = [];
        do {
            if ($statement->columnCount()) {
                $results[] = $statement->fetchAll(PDO::FETCH_NUM);
            }
        } while ($statement->nextRowset());
        return $results;
    }

    public function lastId(): string
    {
        return $this->link->lastInsertId();
    }

    public function begin(): void
    {
        $this->link->beginTransaction();
    }

    public function commit(): void
    {
        $this->link->commit();
    }

    public function rollback(): void
    {
        $this->link->rollBack();
    }

    public static function error(Throwable $error): array
    {
        [$state, $number, $text] = ($error instanceof PDOException ? $error->errorInfo : null) ?? ['', $error->getCode(), $error->getMessage()];
        return [$number, $state, $text];
    }
}

[, $name, $part] = $argv;
if ($part === 'version') {
    echo phpversion(['mysqli' => 'mysqli', 'pdo' => 'pdo_mysql'][$name]), "\n";
    exit(0);
}
$part(['mysqli' => MysqliDriver::class, 'pdo' => PdoDriver::class][$name]);
