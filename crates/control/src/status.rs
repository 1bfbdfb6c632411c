//! Reads the rows of replication status.
//!
//! MySQL and MariaDB name the same things differently, by version: `Master_Host` is `Source_Host`
//! since MySQL 8.0.22, `Slave_IO_Running` is `Replica_IO_Running`. Each fact is looked up under its
//! new name, then its old one.

use policy::observation::{Replication, Source};

/// One row: column names and what they hold; none is NULL.
pub type Fields = Vec<(String, Option<String>)>;

const HOST: [&str; 2] = ["Source_Host", "Master_Host"];
const PORT: [&str; 2] = ["Source_Port", "Master_Port"];
const RECEIVER: [&str; 2] = ["Replica_IO_Running", "Slave_IO_Running"];
const APPLIER: [&str; 2] = ["Replica_SQL_Running", "Slave_SQL_Running"];
const BEHIND: [&str; 2] = ["Seconds_Behind_Source", "Seconds_Behind_Master"];
const DELAY: [&str; 1] = ["SQL_Delay"];
const ERRORS: [&str; 2] = ["Last_SQL_Error", "Last_IO_Error"];

/// What the rows of a replication status say: one row for each server that is followed.
///
/// A server that follows several is as good as its worst source.
#[must_use]
pub fn replication(rows: &[Fields]) -> Replication {
    rows.iter().filter_map(source).reduce(worse).map_or(Replication::None, Replication::From)
}

/// Reads one row. Group replication's own channels have no host and follow nobody.
fn source(row: &Fields) -> Option<Source> {
    let host = text(row, &HOST).filter(|host| !host.is_empty() && *host != "<NULL>")?;
    let port = text(row, &PORT).unwrap_or("3306");
    let runs = |names: &[&str]| text(row, names).is_some_and(|state| state == "Yes");
    let error = ERRORS.iter().filter_map(|name| text(row, &[name])).find(|text| !text.is_empty());
    Some(Source {
        address: format!("{host}:{port}"),
        receiving: runs(&RECEIVER),
        applying: runs(&APPLIER),
        behind_s: number(row, &BEHIND),
        delay_s: number(row, &DELAY).unwrap_or(0),
        last_error: error.unwrap_or_default().to_owned(),
    })
}

/// The state of two sources taken together.
fn worse(one: Source, other: Source) -> Source {
    let last_error = if one.last_error.is_empty() { other.last_error } else { one.last_error };
    Source {
        address: format!("{} and {}", one.address, other.address),
        receiving: one.receiving && other.receiving,
        applying: one.applying && other.applying,
        behind_s: one.behind_s.zip(other.behind_s).map(|(one, other)| one.max(other)),
        delay_s: one.delay_s.max(other.delay_s),
        last_error,
    }
}

/// The first of these columns that the row has.
fn text<'a>(row: &'a Fields, names: &[&str]) -> Option<&'a str> {
    names.iter().find_map(|name| {
        let (_, value) = row.iter().find(|(column, _)| column.eq_ignore_ascii_case(name))?;
        value.as_deref()
    })
}

fn number(row: &Fields, names: &[&str]) -> Option<u64> {
    text(row, names)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `Column=value` by `;`; no `=` is NULL.
    fn row(text: &str) -> Fields {
        let fields = text.split(';').filter(|field| !field.is_empty());
        fields
            .map(|field| match field.split_once('=') {
                Some((name, value)) => (name.to_owned(), Some(value.to_owned())),
                None => (field.to_owned(), None),
            })
            .collect()
    }

    /// `address receiving applying behind delay error`, with `+`, `-` and `?`.
    fn show(replication: &Replication) -> String {
        let Replication::From(source) = replication else { return format!("{replication:?}") };
        let sign = |on| if on { '+' } else { '-' };
        let behind = source.behind_s.map_or_else(|| "?".to_owned(), |s| s.to_string());
        let (receiving, applying) = (sign(source.receiving), sign(source.applying));
        let rest = format!("{} {}", source.delay_s, source.last_error);
        format!("{} {receiving}{applying} {behind} {rest}", source.address)
    }

    #[test]
    fn rows_of_both_families() {
        let old = "Master_Host=db1;Master_Port=3307;Slave_IO_Running=Yes;Slave_SQL_Running=Yes";
        let new = "Source_Host=db1;Source_Port=3307;Replica_IO_Running=Yes;Replica_SQL_Running=Yes";
        let cut = "Master_Host=db1;Master_Port=3307;Slave_IO_Running=Connecting;\
                   Slave_SQL_Running=Yes;Seconds_Behind_Master;\
                   Last_IO_Error=error connecting to master;Last_SQL_Error=";
        let broken = "Source_Host=db1;Source_Port=3306;Replica_IO_Running=Yes;\
                      Replica_SQL_Running=No;Seconds_Behind_Source;Last_IO_Error=;\
                      Last_SQL_Error=Duplicate entry";
        // rows, what they say
        #[rustfmt::skip]
        let table: &[(&[&str], &str)] = &[
            (&[], "None"),
            (&[""], "None"),
            (&["Source_Host=;Replica_IO_Running=No"], "None"),
            (&["Source_Host=<NULL>;Channel_Name=group_replication_applier"], "None"),
            (&[&format!("{old};Seconds_Behind_Master=4;SQL_Delay=0")], "db1:3307 ++ 4 0 "),
            (&[&format!("{new};Seconds_Behind_Source=0;SQL_Delay=3600")], "db1:3307 ++ 0 3600 "),
            (&[&format!("{old};Seconds_Behind_Master")], "db1:3307 ++ ? 0 "),
            (&["MASTER_HOST=db1;slave_io_running=Yes"], "db1:3306 +- ? 0 "),
            (&[cut], "db1:3307 -+ ? 0 error connecting to master"),
            (&[broken], "db1:3306 +- ? 0 Duplicate entry"),
            (&[&format!("{old};Seconds_Behind_Master=4"), &format!("{new};Seconds_Behind_Source=9")],
                "db1:3307 and db1:3307 ++ 9 0 "),
            (&[&format!("{old};Seconds_Behind_Master=4"), cut],
                "db1:3307 and db1:3307 -+ ? 0 error connecting to master"),
        ];
        for (rows, expected) in table {
            let parsed: Vec<_> = rows.iter().map(|text| row(text)).collect();
            assert_eq!(show(&replication(&parsed)), *expected, "{rows:?}");
        }
    }
}
