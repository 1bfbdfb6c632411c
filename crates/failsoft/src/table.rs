//! Rows in columns.

/// The rows with each column as wide as its widest cell.
pub(crate) fn aligned<const N: usize>(rows: &[[String; N]]) -> Vec<String> {
    let mut widths = [0; N];
    for row in rows {
        for (width, cell) in widths.iter_mut().zip(row) {
            *width = (*width).max(cell.chars().count());
        }
    }
    rows.iter()
        .map(|row| {
            let cells = row.iter().zip(widths);
            // A terminal does not do what a name says.
            let cells = cells
                .map(|(cell, width)| format!("{:width$}", cell.replace(char::is_control, " ")));
            cells.collect::<Vec<_>>().join("  ").trim_end().to_owned()
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_as_wide_as_their_widest_cell() {
        let rows = [["a", "µs", "c"], ["long", "b", ""]].map(|row| row.map(str::to_owned));
        assert_eq!(aligned(&rows), ["a     µs  c", "long  b"]);
    }
}
