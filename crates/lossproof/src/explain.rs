//! `lossproof explain CODE`.

use crate::Outcome;
use crate::exit::{CODES, Exit, Failure, UNKNOWN_CODE};
use crate::output::say;

#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  lossproof explain LP9001\n  lossproof explain")]
pub(crate) struct Arguments {
    /// The code, as in `error[LP9001]`; without it all codes are listed
    code: Option<String>,
}

pub(crate) fn run(arguments: &Arguments) -> Outcome {
    let Some(wanted) = &arguments.code else {
        for code in CODES {
            let title = code.page.lines().next().unwrap_or_default();
            say!("{}", title.trim_start_matches("# "));
        }
        return Ok(Exit::Proven);
    };
    let found = CODES.iter().find(|code| means(wanted, code.name));
    let code = found.ok_or_else(|| {
        Failure::new(UNKNOWN_CODE, format_args!("'{wanted}' is no code of this version"))
    })?;
    say!("{}", code.page.trim_end());
    Ok(Exit::Proven)
}

/// As it stands in a message, or as much of that as somebody types.
fn means(wanted: &str, name: &str) -> bool {
    let wanted = wanted.strip_prefix("error").unwrap_or(wanted).trim_matches(['[', ']', ':']);
    wanted.eq_ignore_ascii_case(name) || name.strip_prefix("LP") == Some(wanted)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_code_is_found_as_it_stands_in_a_message() {
        for wanted in ["LP1008", "lp1008", "1008", "[LP1008]", "error[LP1008]:"] {
            assert!(means(wanted, "LP1008"), "{wanted}");
        }
        for wanted in ["LP1009", "LP100", "100", ""] {
            assert!(!means(wanted, "LP1008"), "{wanted}");
        }
    }
}
