//! docs/config.md holds the tables of settings as the code has them.

use std::fs;
use std::path::Path;

const BEGIN: &str = "<!-- settings: made from the code -->\n";
const END: &str = "<!-- end of settings -->\n";

#[test]
fn the_page_of_settings_is_that_of_the_code() {
    let page = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/config.md");
    let text = fs::read_to_string(&page).unwrap();
    let (before, rest) = text.split_once(BEGIN).unwrap();
    let (_, after) = rest.split_once(END).unwrap();
    let expected = format!("{before}{BEGIN}\n{}\n{END}{after}", lossproof_broker::settings_page());
    if text != expected {
        let made = Path::new(env!("CARGO_TARGET_TMPDIR")).join("config.md");
        fs::write(&made, expected).unwrap();
        panic!("docs/config.md is not up to date: cp {} {}", made.display(), page.display());
    }
}
