# The drivers of Perl. Run as `perl dbi.pl mysql|MariaDB plain|fault|version`; prints lines of
# `step<TAB>value`, see ../README.md.
use v5.32;
use warnings;
use utf8;
use DBI;

binmode STDOUT, ':utf8';
STDOUT->autoflush(1);
my ($DRIVER, $PART) = @ARGV;
my $OPTION = lc $DRIVER;
my $TEXT = 'ä€😀';
my $READ = 'SELECT v FROM t WHERE id = 1';

# Statements go as text unless a handle is asked to have them prepared by the server.
sub session {
    my ($password) = @_;
    my $source = "DBI:$DRIVER:database=$ENV{DB_NAME};host=$ENV{DB_HOST};port=$ENV{DB_PORT}"
        . ";${OPTION}_local_infile=1";
    my %unicode = $OPTION eq 'mysql' ? (mysql_enable_utf8mb4 => 1) : ();
    return DBI->connect($source, $ENV{DB_USER}, $password // $ENV{DB_PASS},
        { RaiseError => 1, PrintError => 0, AutoCommit => 1, %unicode });
}

sub say_step { my ($step, $value) = @_; $value =~ s/\n/\\n/g; say "$step\t$value" }

sub wait_for {
    say "ready $_[0]";
    defined readline(*STDIN) or die 'nobody answers';
}

sub told { my ($action) = @_; eval { $action->(); 1 } ? 'ok' : "$DBI::err $DBI::state $DBI::errstr" }

sub failure { my ($action) = @_; eval { $action->(); 1 } ? 'ok' : "$DBI::err/$DBI::state" }

sub shown {
    my ($rows) = @_;
    my $value = sub { defined $_[0] ? $_[0] =~ s/([\0-\x1f\x7f])/sprintf '\\x%02x', ord $1/ger : 'undef' };
    return join ' ; ', map { join ', ', map { $value->($_) } @$_ } @$rows;
}

sub rows { my ($one, $sql, @arguments) = @_; $one->selectall_arrayref($sql, undef, @arguments) }

sub prepared {
    my ($one, $sql, @arguments) = @_;
    my $statement = $one->prepare($sql, { "${OPTION}_server_prepare" => 1 });
    $statement->execute(@arguments);
    return $statement->fetchall_arrayref;
}

sub blob {
    my ($one) = @_;
    my $blob = join('', map { chr } 0 .. 255) x (20 * 4096);
    my $statement = $one->prepare('INSERT INTO blobs VALUES (1, ?)');
    $statement->bind_param(1, $blob, DBI::SQL_BLOB);
    $statement->execute;
    my $back = rows($one, 'SELECT b FROM blobs')->[0][0];
    return length($back) . ($back eq $blob ? ' same' : ' other');
}

sub transaction {
    my ($one) = @_;
    for (['committed', 'commit'], ['rolled back', 'rollback']) {
        my ($value, $end) = @$_;
        $one->begin_work;
        $one->do("INSERT INTO auto (v) VALUES ('$value')");
        $one->$end;
    }
    return join ' ', map { rows($one, "SELECT COUNT(*) FROM auto WHERE v = '$_'")->[0][0] }
        'committed', 'rolled back';
}

sub call {
    my ($one) = @_;
    my $statement = $one->prepare('CALL several(7)');
    $statement->execute;
    my @results;
    do {
        push @results, join ',', map { $_->[0] } @{ $statement->fetchall_arrayref }
            if $statement->{NUM_OF_FIELDS};
    } while ($statement->more_results);
    return join ' | ', @results;
}

sub plain {
    say_step('wrong password', told(sub { session('wrong') }));
    my $one = session();
    say_step('connect', 'ok');
    my @steps = (
        ['types, text', sub { shown(rows($one, 'SELECT * FROM kinds ORDER BY id')) }],
        ['types, prepared', sub { shown(prepared($one, 'SELECT * FROM kinds WHERE id > ? ORDER BY id', 0)) }],
        ['parameters', sub {
            prepared($one, 'SELECT ?, ?, ?, ?', 42, $TEXT, undef, 1.5);
            $one->do('INSERT INTO params VALUES (?, ?, ?, ?)', undef, 42, $TEXT, undef, 1.5);
            shown(rows($one, 'SELECT * FROM params'));
        }],
        ['utf8mb4', sub { join ' ', @{ rows($one, 'SELECT ?, CHAR_LENGTH(?), HEX(?)', ($TEXT) x 3)->[0] } }],
        ['transaction', sub { transaction($one) }],
        ['last id', sub {
            $one->do("INSERT INTO auto (v) VALUES ('id')");
            $one->last_insert_id(undef, undef, 'auto', 'id') . ' ' . rows($one, 'SELECT LAST_INSERT_ID()')->[0][0];
        }],
        ['CALL', sub { call($one) }],
        ['temporary table', sub {
            $one->do('CREATE TEMPORARY TABLE mine (a INT)');
            $one->do('INSERT INTO mine VALUES (1), (2)');
            rows($one, 'SELECT COUNT(*) FROM mine')->[0][0];
        }],
        ['variables', sub {
            $one->do('SET SESSION group_concat_max_len = 12345');
            $one->do(q(SET @x = 'x'));
            join ' ', @{ rows($one, 'SELECT @@group_concat_max_len, @x')->[0] };
        }],
        ['1062, 1146', sub {
            join ' ; ', told(sub { $one->do("INSERT INTO auto (v) VALUES ('committed')") }),
                told(sub { rows($one, 'SELECT * FROM nowhere') });
        }],
        ['LOAD DATA', sub {
            $one->do("LOAD DATA LOCAL INFILE '$ENV{LOAD_FILE}' INTO TABLE loaded FIELDS TERMINATED BY ','");
            rows($one, 'SELECT COUNT(*) FROM loaded')->[0][0];
        }],
        ['20 MB', sub { blob($one) }],
    );
    for (@steps) {
        my ($step, $action) = @$_;
        say_step($step, eval { $action->() } // "failed: $@");
    }
}

sub fault {
    my $unsure = session();
    rows($unsure, 'SELECT 1');
    wait_for('answer');
    say_step('answer lost', failure(sub { $unsure->do("INSERT INTO fault VALUES ('answered')") }));
    my ($reader, $torn) = (session(), session());
    $reader->do(q(SET @mark = 'kept'));
    my $statement = $reader->prepare("$READ AND id < ?", { "${OPTION}_server_prepare" => 1 });
    my $again = sub { $statement->execute(9); $statement->fetchall_arrayref->[0][0] };
    $again->();
    $torn->begin_work;
    $torn->do("INSERT INTO fault VALUES ('torn')");
    rows($unsure, 'SELECT 1');
    wait_for('kill');
    my $sleeping = "INSERT INTO fault SELECT IF(SLEEP(600), 'x', 'unknown')";
    say_step('write in flight', failure(sub { $unsure->do($sleeping) }));
    my $read = sub { join ' ', @{ rows($reader, 'SELECT v, @mark FROM t WHERE id = 1')->[0] } };
    say_step('read', eval { $read->() } // "failed: $@");
    say_step('prepared read', eval { $again->() } // "failed: $@");
    say_step('write', failure(sub { $reader->do("INSERT INTO fault VALUES ('refused')") }));
    say_step('transaction', failure(sub { rows($torn, 'SELECT COUNT(*) FROM fault') }));
    say_step('COMMIT', failure(sub { $torn->commit }));
    say_step('ROLLBACK', failure(sub { $torn->rollback }));
    wait_for('back');
    say_step('write again', failure(sub { $reader->do("INSERT INTO fault VALUES ('again')") }));
    say_step('write again', failure(sub { $torn->do("INSERT INTO fault VALUES ('again, torn')") }));
}

my %parts = (
    plain => \&plain,
    fault => \&fault,
    version => sub { say DBI->install_driver($DRIVER)->{Version} },
);
$parts{$PART}->();
