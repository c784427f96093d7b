//! FORMAT.md says what the code does: a constant that changes must change there too.

use headwater_log::segment::{INDEX_ENTRY_BYTES, INDEX_INTERVAL_BYTES, TIME_ENTRY_BYTES};
use headwater_log::store::{
    ENTRY_RECORDS_MAX, LINEAGE_BYTES_MAX, LINEAGE_FILES, LINEAGE_MAGIC, PARTITIONS_MAX,
};

const FORMAT: &str = include_str!("../FORMAT.md");

fn says(line: String) {
    assert!(FORMAT.contains(&line), "FORMAT.md does not say {line:?}");
}

#[test]
fn constants_are_written_down() {
    says(format!(
        "more than {INDEX_INTERVAL_BYTES} bytes (`INDEX_INTERVAL_BYTES`)"
    ));
    says(format!(
        "| `.index` | {INDEX_ENTRY_BYTES} bytes: relative offset i32, position i32"
    ));
    says(format!(
        "| `.timeindex` | {TIME_ENTRY_BYTES} bytes: timestamp i64, relative offset i32"
    ));
    says(format!("An ENTRY has at most {ENTRY_RECORDS_MAX} records"));
    says(format!("(at most {PARTITIONS_MAX} partitions)"));
    says(format!("magic `{}`", LINEAGE_MAGIC.escape_ascii()));
    says(format!(
        "`{}` and `{}` hold",
        LINEAGE_FILES[0], LINEAGE_FILES[1]
    ));
    says(format!("{LINEAGE_BYTES_MAX} bytes of a file are read"));
}
