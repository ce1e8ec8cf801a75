//! `lossproof explain CODE`.

use crate::Outcome;
use crate::exit::{CODES, Exit, Failure, UNKNOWN_CODE};

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
            println!("{}", title.trim_start_matches("# "));
        }
        return Ok(Exit::Proven);
    };
    let found = CODES.iter().find(|code| code.name.eq_ignore_ascii_case(wanted));
    let code = found.ok_or_else(|| {
        Failure::new(UNKNOWN_CODE, format_args!("'{wanted}' is no code of this version"))
    })?;
    println!("{}", code.page.trim_end());
    Ok(Exit::Proven)
}
