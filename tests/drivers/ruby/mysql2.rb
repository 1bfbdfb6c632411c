# mysql2 of Ruby. Run as `ruby mysql2.rb plain|fault|version`; prints lines of `step<TAB>value`, see
# ../README.md.
require 'mysql2'

TEXT = 'ä€😀'.freeze
READ = 'SELECT v FROM t WHERE id = 1'.freeze
$stdout.sync = true

def session(password = ENV.fetch('DB_PASS'))
  Mysql2::Client.new(
    host: ENV.fetch('DB_HOST'), port: ENV.fetch('DB_PORT').to_i, username: ENV.fetch('DB_USER'),
    password: password, database: ENV.fetch('DB_NAME'), encoding: 'utf8mb4', local_infile: true,
    flags: Mysql2::Client::MULTI_STATEMENTS, as: :array
  )
end

def say(step, value)
  puts "#{step}\t#{value}".gsub("\n", '\n')
end

def wait_for(step)
  puts "ready #{step}"
  $stdin.gets or abort 'nobody answers'
end

def rows(one, sql)
  one.query(sql).to_a
end

def prepared(one, sql, *arguments)
  one.prepare(sql).execute(*arguments).to_a
end

def shown(rows)
  rows.map { |row| row.map { |value| "#{value.class} #{value}".inspect }.join(', ') }.join(' ; ')
end

def told
  yield
  'ok'
rescue Mysql2::Error => e
  "#{e.errno} #{e.sql_state} #{e.message}"
end

def failure
  yield
  'ok'
rescue Mysql2::Error => e
  "#{e.errno}/#{e.sql_state} (#{e.class})"
end

def blob(one)
  blob = (0..255).map(&:chr).join.b * (20 * 4096)
  one.prepare('INSERT INTO blobs VALUES (1, ?)').execute(blob)
  back = rows(one, 'SELECT b FROM blobs')[0][0]
  "#{back.bytesize} #{back.b == blob ? 'same' : 'other'}"
end

def transaction(one)
  { 'committed' => 'COMMIT', 'rolled back' => 'ROLLBACK' }.each do |value, ending|
    one.query('START TRANSACTION')
    one.query("INSERT INTO auto (v) VALUES ('#{value}')")
    one.query(ending)
  end
  ['committed', 'rolled back'].map { |value| rows(one, "SELECT COUNT(*) FROM auto WHERE v = '#{value}'")[0][0] }.join(' ')
end

def last_id(one)
  one.query("INSERT INTO auto (v) VALUES ('id')")
  "#{one.last_id} #{rows(one, 'SELECT LAST_INSERT_ID()')[0][0]}"
end

def call(one)
  results = [rows(one, 'CALL several(7)')]
  while one.next_result
    result = one.store_result
    results << result.to_a if result
  end
  results.map { |result| result.map(&:first).join(',') }.join(' | ')
end

def temporary(one)
  one.query('CREATE TEMPORARY TABLE mine (a INT)')
  one.query('INSERT INTO mine VALUES (1), (2)')
  rows(one, 'SELECT COUNT(*) FROM mine')[0][0]
end

def variables(one)
  one.query('SET SESSION group_concat_max_len = 12345')
  one.query("SET @x = 'x'")
  rows(one, 'SELECT @@group_concat_max_len, @x')[0].join(' ')
end

def parameters(one)
  one.prepare('INSERT INTO params VALUES (?, ?, ?, ?)').execute(42, TEXT, nil, 1.5)
  shown(rows(one, 'SELECT * FROM params'))
end

def errors(one)
  [told { one.query("INSERT INTO auto (v) VALUES ('committed')") }, told { one.query('SELECT * FROM nowhere') }].join(' ; ')
end

def load_data(one)
  one.query("LOAD DATA LOCAL INFILE '#{ENV.fetch('LOAD_FILE')}' INTO TABLE loaded FIELDS TERMINATED BY ','")
  rows(one, 'SELECT COUNT(*) FROM loaded')[0][0]
end

def plain
  say('wrong password', told { session('wrong') })
  one = session
  say('connect', 'ok')
  {
    'types, text' => -> { shown(rows(one, 'SELECT * FROM kinds ORDER BY id')) },
    'types, prepared' => -> { shown(prepared(one, 'SELECT * FROM kinds WHERE id > ? ORDER BY id', 0)) },
    'parameters' => -> { parameters(one) },
    'utf8mb4' => -> { prepared(one, 'SELECT ?, CHAR_LENGTH(?), HEX(?)', TEXT, TEXT, TEXT)[0].join(' ') },
    'transaction' => -> { transaction(one) },
    'last id' => -> { last_id(one) },
    'CALL' => -> { call(one) },
    'temporary table' => -> { temporary(one) },
    'variables' => -> { variables(one) },
    '1062, 1146' => -> { errors(one) },
    'LOAD DATA' => -> { load_data(one) },
    '20 MB' => -> { blob(one) }
  }.each do |step, action|
    say(step, action.call)
  rescue StandardError => e
    say(step, "failed: #{e.message}")
  end
end

def fault
  unsure = session
  unsure.query('SELECT 1')
  wait_for('answer')
  say('answer lost', failure { unsure.query("INSERT INTO fault VALUES ('answered')") })
  reader = session
  torn = session
  reader.query("SET @mark = 'kept'")
  statement = reader.prepare("#{READ} AND id < ?")
  statement.execute(9).to_a
  torn.query('START TRANSACTION')
  torn.query("INSERT INTO fault VALUES ('torn')")
  unsure.query('SELECT 1')
  wait_for('kill')
  say('write in flight', failure { unsure.query("INSERT INTO fault SELECT IF(SLEEP(600), 'x', 'unknown')") })
  begin
    say('read', rows(reader, 'SELECT v, @mark FROM t WHERE id = 1')[0].join(' '))
    say('prepared read', statement.execute(9).to_a[0][0])
  rescue Mysql2::Error => e
    say('read', "failed: #{e.message}")
  end
  say('write', failure { reader.query("INSERT INTO fault VALUES ('refused')") })
  say('transaction', failure { torn.query('SELECT COUNT(*) FROM fault') })
  say('COMMIT', failure { torn.query('COMMIT') })
  say('ROLLBACK', failure { torn.query('ROLLBACK') })
  wait_for('back')
  say('write again', failure { reader.query("INSERT INTO fault VALUES ('again')") })
  say('write again', failure { torn.query("INSERT INTO fault VALUES ('again, torn')") })
end

case ARGV
when ['plain'] then plain
when ['fault'] then fault
when ['version'] then puts Mysql2::VERSION
end
