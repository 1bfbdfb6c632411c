<?php
// What each driver of PHP does, told once; drivers.php has the drivers. What they return is printed
// as lines of `step<TAB>value`, see ../README.md.

const TEXT = 'ä€😀';
const READ = 'SELECT v FROM t WHERE id = 1';

/** One connection. */
interface Driver
{
    public function __construct(?string $password = null);
    /** The rows of a statement. */
    public function query(string $sql): array;
    /** The rows of a statement that the server prepared. */
    public function prepared(string $sql, array $arguments): array;
    /** Runs a prepared statement without rows. */
    public function execute(string $sql, array $arguments): void;
    /** All results of a CALL. */
    public function call(string $sql): array;
    public function lastId(): string;
    public function begin(): void;
    public function commit(): void;
    public function rollback(): void;
    /** Number, state and text of a server's error. */
    public static function error(Throwable $error): array;
}

function say(string $step, string $value): void
{
    echo $step, "\t", str_replace("\n", '\n', $value), "\n";
}

function wait(string $step): void
{
    echo "ready $step\n";
    if (fgets(STDIN) === false) {
        exit('nobody answers');
    }
}

function shown(array $rows): string
{
    $row = fn (array $values) => implode(', ', array_map(
        fn ($value) => get_debug_type($value) . ' ' . addcslashes((string) $value, "\0..\37\177..\377"), $values));
    return implode(' ; ', array_map($row, $rows));
}

/** How an action fails: number and state; or that it does not. */
function failure(string $driver, callable $action): string
{
    try {
        $action();
    } catch (Throwable $error) {
        [$number, $state] = $driver::error($error);
        return "$number/$state (" . $error::class . ')';
    }
    return 'ok';
}

function told(string $driver, callable $action): string
{
    try {
        $action();
    } catch (Throwable $error) {
        return implode(' ', $driver::error($error));
    }
    return 'ok';
}

function blob(Driver $one): string
{
    $blob = str_repeat(implode('', array_map('chr', range(0, 255))), 20 * 4096);
    $one->execute('INSERT INTO blobs VALUES (1, ?)', [$blob]);
    $back = $one->query('SELECT b FROM blobs')[0][0];
    return strlen($back) . ($back === $blob ? ' same' : ' other');
}

function transaction(Driver $one): string
{
    foreach (['committed' => 'commit', 'rolled back' => 'rollback'] as $value => $end) {
        $one->begin();
        $one->query("INSERT INTO auto (v) VALUES ('$value')");
        $one->$end();
    }
    $count = fn ($value) => $one->query("SELECT COUNT(*) FROM auto WHERE v = '$value'")[0][0];
    return $count('committed') . ' ' . $count('rolled back');
}

function plain(string $driver): void
{
    say('wrong password', told($driver, fn () => new $driver('wrong')));
    $one = new $driver();
    say('connect', 'ok');
    $last = function () use ($one) {
        $one->query("INSERT INTO auto (v) VALUES ('id')");
        $given = $one->lastId();
        return "$given " . $one->query('SELECT LAST_INSERT_ID()')[0][0];
    };
    $call = fn () => implode(' | ', array_map(
        fn ($rows) => implode(',', array_column($rows, 0)), $one->call('CALL several(7)')));
    $temporary = function () use ($one) {
        $one->query('CREATE TEMPORARY TABLE mine (a INT)');
        $one->query('INSERT INTO mine VALUES (1), (2)');
        return $one->query('SELECT COUNT(*) FROM mine')[0][0];
    };
    $variables = function () use ($one) {
        $one->query('SET SESSION group_concat_max_len = 12345');
        $one->query("SET @x = 'x'");
        return implode(' ', $one->query('SELECT @@group_concat_max_len, @x')[0]);
    };
    $parameters = function () use ($one) {
        $one->execute('INSERT INTO params VALUES (?, ?, ?, ?)', [42, TEXT, null, 1.5]);
        return shown($one->query('SELECT * FROM params'));
    };
    $load = function () use ($one) {
        $file = getenv('LOAD_FILE');
        $one->query("LOAD DATA LOCAL INFILE '$file' INTO TABLE loaded FIELDS TERMINATED BY ','");
        return $one->query('SELECT COUNT(*) FROM loaded')[0][0];
    };
    $steps = [
        'types, text' => fn () => shown($one->query('SELECT * FROM kinds ORDER BY id')),
        'types, prepared' => fn () => shown($one->prepared('SELECT * FROM kinds WHERE id > ? ORDER BY id', [0])),
        'parameters' => $parameters,
        'utf8mb4' => fn () => implode(' ', $one->prepared('SELECT ?, CHAR_LENGTH(?), HEX(?)', [TEXT, TEXT, TEXT])[0]),
        'transaction' => fn () => transaction($one),
        'last id' => $last,
        'CALL' => $call,
        'temporary table' => $temporary,
        'variables' => $variables,
        '1062, 1146' => fn () => told($driver, fn () => $one->query("INSERT INTO auto (v) VALUES ('committed')"))
            . ' ; ' . told($driver, fn () => $one->query('SELECT * FROM nowhere')),
        'LOAD DATA' => $load,
        '20 MB' => fn () => blob($one),
    ];
    foreach ($steps as $step => $action) {
        try {
            say($step, $action());
        } catch (Throwable $error) {
            say($step, 'failed: ' . $error->getMessage());
        }
    }
}

function fault(string $driver): void
{
    $unsure = new $driver();
    $unsure->query('SELECT 1');
    wait('answer');
    say('answer lost', failure($driver, fn () => $unsure->query("INSERT INTO fault VALUES ('answered')")));
    [$reader, $torn] = [new $driver(), new $driver()];
    $reader->query("SET @mark = 'kept'");
    $reader->prepared(READ . ' AND id < ?', [9]);
    $torn->begin();
    $torn->query("INSERT INTO fault VALUES ('torn')");
    $unsure->query('SELECT 1');
    wait('kill');
    $sleeping = "INSERT INTO fault SELECT IF(SLEEP(600), 'x', 'unknown')";
    say('write in flight', failure($driver, fn () => $unsure->query($sleeping)));
    try {
        say('read', implode(' ', $reader->query('SELECT v, @mark FROM t WHERE id = 1')[0]));
        say('prepared read', $reader->prepared(READ . ' AND id < ?', [9])[0][0]);
    } catch (Throwable $error) {
        say('read', 'failed: ' . $error->getMessage());
    }
    say('write', failure($driver, fn () => $reader->query("INSERT INTO fault VALUES ('refused')")));
    say('transaction', failure($driver, fn () => $torn->query('SELECT COUNT(*) FROM fault')));
    say('COMMIT', failure($driver, fn () => $torn->commit()));
    say('ROLLBACK', failure($driver, fn () => $torn->rollback()));
    wait('back');
    say('write again', failure($driver, fn () => $reader->query("INSERT INTO fault VALUES ('again')")));
    say('write again', failure($driver, fn () => $torn->query("INSERT INTO fault VALUES ('again, torn')")));
}
