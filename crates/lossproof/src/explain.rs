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
    let found = CODES.iter().find(|code| code.name.eq_ignore_ascii_case(wanted));
    let code = found.ok_or_else(|| {
        Failure::new(UNKNOWN_CODE, format_args!("'{wanted}' is no code of this version"))
    })?;
    say!("{}", code.page.trim_end());
    Ok(Exit::Proven)
}
