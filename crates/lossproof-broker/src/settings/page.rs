//! The tables of the documentation, made from the tables of the code.

use std::fmt::Write;

use super::{Rule, Setting, Standing, TOPIC_SETTINGS, broker_settings};

/// The settings of broker and topics as two tables in Markdown.
pub fn settings_page() -> String {
    let mut page = String::from("### Settings of the broker\n\n");
    page.push_str("| setting | default | values | |\n|---|---|---|---|\n");
    for known in broker_settings() {
        let about = match known.topic_name {
            Some(topic_name) if topic_name != known.name => {
                format!("default of `{topic_name}` of topics")
            }
            Some(_) => "default of the same setting of topics".to_owned(),
            None => about(known.setting),
        };
        push_row(&mut page, known.name, known.setting, &about);
    }
    page.push_str("\n### Settings of a topic\n\n");
    page.push_str("| setting | default | values | |\n|---|---|---|---|\n");
    for setting in TOPIC_SETTINGS {
        push_row(&mut page, setting.name, setting, &about(setting));
    }
    page
}

fn about(setting: &Setting) -> String {
    let mark = match (setting.rule, setting.standing) {
        (Rule::Only, _) | (_, Standing::Enforced) => "",
        (_, Standing::Unused) => " *Unused.*",
    };
    format!("{}{mark}", setting.about)
}

fn push_row(page: &mut String, name: &str, setting: &Setting, about: &str) {
    let default = match setting.default {
        None => "none".to_owned(),
        Some("") => "empty".to_owned(),
        Some("9223372036854775807") => "no bound".to_owned(),
        Some(value) => format!("`{value}`"),
    };
    let values = setting.expected();
    // Writing to a string cannot fail.
    let _ = writeln!(page, "| `{name}` | {default} | {values} | {about} |");
}
